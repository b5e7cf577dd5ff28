"""The page of a training: sample, scores, diagrams, images, training curves, galaxies."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy.table import Table

from mmagn.config.run_config import RunConfig
from mmagn.evaluation.parts import DISAGREE_COLUMN, PART_COLUMNS
from mmagn.evaluation.scorecard import Score, Scores
from mmagn.labels.bpt import BPT_CLASSES
from mmagn.records import SPLITS
from mmagn.reporting.figures.curves import class_figure, history_figure, scores_figure
from mmagn.reporting.figures.sky import Position, coverage_figure
from mmagn.reporting.figures.style import score_text
from mmagn.reporting.page.cards import Predictions
from mmagn.reporting.page.files import read_json, read_table, rows_of, training_curves
from mmagn.reporting.page.galaxies import Payload, diagram_section, galaxy_parts, image_section, score_charts
from mmagn.reporting.page.html import Chart, Section
from mmagn.reporting.page.labels import labels_section
from mmagn.reporting.page.scores import inputs_section, sample_section, score_tiles, scores_section
from mmagn.reporting.page.verdict import small_sample_warning, training_verdict
from mmagn.storage.run_folder import RunFolder


def training_page(run: RunFolder, recorded: dict[str, Any], config: RunConfig, payload: Payload) -> dict[str, Any]:
    """Return the content of the page of a training, from its ``scores.json``."""
    predictions, measured = read_table(run.predictions), read_table(run.measurements)
    scores, split = Scores.from_dict(recorded), recorded["split"]
    ceilings = {name: Score.from_dict(each) for name, each in recorded.get("noise_ceiling", {}).items()}
    charts = [
        Chart(name="scores", figure=scores_figure(scores, ceilings), caption="Scores up to 1, which is perfect."),
    ]
    after, parts = [], {}
    if predictions is not None and measured is not None:
        scored = predictions[np.asarray(predictions["split"], dtype=np.str_) == split]
        objects = _predictions(scored, measured, recorded["threshold"])
        uncalibrated = np.asarray(scored["probability"], dtype=np.float64) if "probability" in scored.colnames else None
        charts += score_charts(objects, config.evaluation, scores=scores, uncalibrated=uncalibrated)
        after = [diagram_section(objects, measured, f"the {split} split"), image_section(objects, payload)]
        parts = galaxy_parts(objects, payload, f"the {split} split", simulated=recorded["simulated"])
    sample = recorded | {"split_classes": _split_classes(predictions)} if predictions is not None else recorded
    inputs = inputs_of(run, config)
    ceiling, simulated = ceilings.get("average_precision", Score()), recorded["simulated"]
    sections = [
        scores_section(recorded, scores, charts),
        inputs_section({"": recorded.get("inputs", [])}, recorded.get("modalities_disagree"), scores.objects),
        *after,
        sample_section(sample, sample_charts(recorded, measured, predictions, payload)),
        labels_section(recorded),
        _history(run),
    ]
    return {
        "verdict": training_verdict(scores, ceiling, split, inputs, simulated=simulated),
        "warning": small_sample_warning(scores.objects, scores.positives, f"{split} split"),
        "tiles": score_tiles(scores, ceilings, split),
        "sections": [section for section in sections if section is not None],
        **parts,
    }


def sample_charts(
    recorded: Mapping[str, Any], measured: Table | None, predictions: Table | None, payload: Payload
) -> list[Chart]:
    """Return the classes of all pairs, and the map of both surveys and the pairs of each split."""
    charts = [Chart(name="classes", figure=class_figure(recorded["classes"]), caption="BPT classes of all pairs.")]
    if measured is None or not len(measured):
        return charts
    positions: dict[str, Position] = {}
    if payload.store is not None:
        positions = {"HSC images": payload.store.positions("hsc"), "spectra": payload.store.positions("sdss")}
    ra_deg, dec_deg = (np.asarray(measured[name], dtype=np.float64) for name in ("ra_deg", "dec_deg"))
    group = _split_of_pairs(measured, predictions)
    for name in np.unique(group).tolist():
        positions[name] = ra_deg[group == name], dec_deg[group == name]
    caption = "Positions on the sky; RA grows to the left."
    return [*charts, Chart(name="coverage", figure=coverage_figure(positions), caption=caption)]


def _split_of_pairs(measured: Table, predictions: Table | None) -> np.ndarray[Any, np.dtype[np.str_]]:
    """(pair,) split of each pair, ``pairs without label``, or ``pairs`` where there are no splits."""
    if predictions is None:
        return np.full(len(measured), "pairs")
    columns = (np.asarray(predictions[name], dtype=np.str_).tolist() for name in ("sdss_object_id", "split"))
    split_of = dict(zip(*columns, strict=True))
    ids = np.asarray(measured["object_id"], dtype=np.str_).tolist()
    return np.array([split_of.get(name, "pairs without label") for name in ids])


def _predictions(scored: Table, measured: Table, threshold: float) -> Predictions:
    probability = np.asarray(scored["calibrated_probability"], dtype=np.float64)
    columns = [*PART_COLUMNS.values(), DISAGREE_COLUMN]
    return Predictions(
        measured=rows_of(measured, np.asarray(scored["sdss_object_id"], dtype=np.str_)),
        truth=np.asarray(scored["truth"], dtype=np.float64),
        probability=probability,
        positive=probability >= threshold,
        parts=scored[columns] if set(columns) <= set(scored.colnames) else None,
    )


def inputs_of(run: RunFolder, config: RunConfig) -> dict[str, dict[str, Any]]:
    """Return the loss of average precision where an input is permuted, by its name; empty where it is unknown."""
    branches = config.models.branches
    only: dict[str, dict[str, Any]] = {branches[0]: {"value": 0.0}} if len(branches) == 1 else {}
    return {each["name"]: each for each in read_json(run.importance).get("inputs", [])} or only


def _split_classes(predictions: Table) -> dict[str, Counter[str]]:
    """Objects of each class in each split."""
    split, names = (np.asarray(predictions[name], dtype=np.str_) for name in ("split", "bpt_class"))
    ordered = [name for name in BPT_CLASSES if name in set(names.tolist())]
    return {
        each: Counter({name: int(((split == each) & (names == name)).sum()) for name in ordered}) for each in SPLITS
    }


def _history(run: RunFolder) -> Section | None:
    """Loss and average precision against the epoch."""
    curves = training_curves(run.tensorboard)
    validation = curves.get("average_precision", {}).get("validation", [])
    best = max(validation, key=lambda point: point[1])[0] if validation else None
    charts = [
        Chart(
            name=f"history-{quantity}",
            figure=history_figure(of_quantity, quantity=quantity, best_epoch=best),
            caption=f"{score_text(quantity).capitalize()} against the epoch; epochs count from 1.",
        )
        for quantity, of_quantity in curves.items()
    ]
    return Section(name="history", title="Training", charts=charts) if charts else None

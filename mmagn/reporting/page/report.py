"""The report: one page of HTML per run, made of what its folder holds."""

import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from astropy.table import Table
from numpy.typing import NDArray

from mmagn.config.run_config import RunConfig, changed_settings, load_config
from mmagn.labels.bpt import BPT_CLASSES
from mmagn.matching.store import PairStore, pair_store
from mmagn.records import Pair
from mmagn.reporting.page.ablation import ladder_sections, ladder_tiles
from mmagn.reporting.page.cards import OUTCOMES, Verdicts, cards, outcome_counts, shown_objects
from mmagn.reporting.page.files import origin, read_json, read_table, rows_of, training_curves
from mmagn.reporting.page.html import FigureView, Page, Section, rendered
from mmagn.reporting.page.plots import bpt_plane, history_plane, precision_recall_plane, reliability_plane, sky_plane
from mmagn.reporting.page.scores import sample_section, score_tiles, scores_section
from mmagn.reporting.page.search import search_sections, search_tiles
from mmagn.storage.files import whole_file
from mmagn.storage.run_folder import RunFolder

REPORT_FILE = "report.html"
SHOWN_VARIANTS = ("fused", "image-spectrum", "spectrum", "handcrafted", "image")
"""Model whose verdicts an ablation shows galaxy by galaxy: the first of these that it has."""
KINDS = {"search.json": "search", "ablation.json": "ablation", "scores.json": "training", "scores-*.json": "training"}
"""What a folder is for that holds such a file; scores of the test split come before those of the others."""

logger = logging.getLogger(__name__)


def write_report(run_path: Path, store: PairStore | None = None) -> Path:
    """Return the path of ``report.html``, written into the folder of a training, an ablation or a search.

    Parameters
    ----------
    run_path
        Run folder.
    store
        Images and spectra of its pairs; without it they are looked for where the config of the run says.

    Raises
    ------
    FileNotFoundError
        Where the folder is no run folder, or nothing in it was scored yet.
    """
    run = RunFolder.open(run_path)
    found = [(kind, path) for name, kind in KINDS.items() for path in sorted(run.path.glob(name))]
    if not found:
        raise FileNotFoundError(f"{run.path} has nothing to report yet: it lacks {', '.join(KINDS)}")
    kind, told = found[0][0], read_json(found[0][1])
    config = load_config(run.config)
    match kind:
        case "training":
            parts = _training(run, told, config, store)
        case "ablation":
            parts = _ablation(run, told, config, store)
        case _:
            parts = _search(run, told)
    page = Page(
        title=run.path.name,
        kind=kind,
        started=str(read_json(run.provenance).get("started", "")).replace("T", " "),
        outcomes=OUTCOMES,
        changed=[(name, str(value)) for name, value in changed_settings(config).items()],
        config_text=yaml.safe_dump(yaml.safe_load(run.config.read_text(encoding="utf-8")), sort_keys=False),
        provenance=origin(run),
        **parts,
    )
    path = run.path / REPORT_FILE
    with whole_file(path) as part:
        part.write_text(rendered(page), encoding="utf-8")
    return path


def _training(run: RunFolder, told: dict[str, Any], config: RunConfig, store: PairStore | None) -> dict[str, Any]:
    """What the page of a training shows."""
    predictions, measured = read_table(run.predictions), read_table(run.measurements)
    curves, parts = [], {}
    sky = _sky(measured, predictions)
    sections = [sample_section(told | {"split_classes": _split_classes(predictions)}, sky)]
    if predictions is not None and measured is not None:
        scored = predictions[np.asarray(predictions["split"], dtype=np.str_) == told["split"]]
        ids = np.asarray(scored["sdss_object_id"], dtype=np.str_)
        probability = np.asarray(scored["calibrated_probability"], dtype=np.float64)
        verdicts = Verdicts(
            measured=rows_of(measured, ids),
            truth=np.asarray(scored["truth"], dtype=np.float64),
            probability=probability,
            called=probability >= told["threshold"],
        )
        curves = _score_curves(verdicts, config)
        parts = _galaxies(verdicts, config, store, f"the {told['split']} split")
    sections.append(scores_section(told, curves))
    if history := _history(run):
        sections.append(history)
    branches = ", ".join(config.models.branches)
    lead = f"A network on {branches}, trained on {told['splits'].get('train', 0):,} galaxies that both surveys saw."
    return {"lead": lead, "tiles": score_tiles(told), "sections": sections, **parts}


def _ablation(run: RunFolder, told: dict[str, Any], config: RunConfig, store: PairStore | None) -> dict[str, Any]:
    """What the page of an ablation shows."""
    table, measured = read_table(run.path / "out_of_fold.parquet"), read_table(run.measurements)
    sections, parts = ladder_sections(told), {}
    variant = next((name for name in SHOWN_VARIANTS if name in config.ablation.variants), None)
    if table is not None and measured is not None and variant is not None:
        verdicts = _out_of_fold_verdicts(table[np.asarray(table["variant"], dtype=np.str_) == variant], measured)
        parts = _galaxies(verdicts, config, store, f"all folds, as the model {variant} judged them unseen")
        sections.append(
            Section(
                name="curves",
                title=f"Curves of {variant}",
                figures=_score_curves(verdicts, config),
            )
        )
    if "sample" in told:
        sections.append(sample_section(told["sample"], _sky(measured, None)))
    count = len(told["models"])
    lead = f"{count} models that see more or less of a galaxy, judged on the same folds of the same objects."
    return {"lead": lead, "tiles": ladder_tiles(told), "sections": sections, **parts}


def _search(run: RunFolder, told: dict[str, Any]) -> dict[str, Any]:
    """What the page of a search shows."""
    best = run.path / "best.yaml"
    text = best.read_text(encoding="utf-8") if best.is_file() else ""
    sections = search_sections(told, read_table(run.path / "trials.csv"), text)
    lead = f"A search over {told.get('over', 'settings')} for the highest {told.get('score', 'score')}."
    return {"lead": lead, "tiles": search_tiles(told), "sections": sections}


def _score_curves(verdicts: Verdicts, config: RunConfig) -> list[FigureView]:
    """Precision against recall, and reliability."""
    confidence = f"{config.evaluation.confidence:.0%}"
    curve = precision_recall_plane(verdicts, config.evaluation, verdicts.column("p_agn"))
    keys = [("blue", "model"), ("green dashed", "noise ceiling"), ("ink dashed", "prevalence")]
    found = (
        [FigureView(svg=curve, caption=f"Precision against recall; bands {confidence}.", keys=keys)] if curve else []
    )
    caption = f"Reliability: bins of about equal counts, {confidence} exact binomial intervals."
    keys = [("blue", "model"), ("ink dashed", "perfect calibration")]
    return [*found, FigureView(svg=reliability_plane(verdicts, config.evaluation), caption=caption, keys=keys)]


def _galaxies(verdicts: Verdicts, config: RunConfig, store: PairStore | None, whose: str) -> dict[str, Any]:
    """BPT plane and cards."""
    shown = shown_objects(verdicts)
    pair_of, missing = _pairs(config, store)
    counts = ", ".join(f"{count:,} {name}" for name, count in outcome_counts(verdicts.outcome).items())
    text = f"{len(shown):,} of {len(verdicts):,} objects of {whose}: {counts}."
    if len(shown) < len(verdicts):
        text += " Shown are the most wrong and the most right."
    if config.data.source == "embedded":
        text += " The survey is simulated: the links open the real sky at these places, which shows other galaxies."
    keys = [
        ("blue", "P(AGN) 0"),
        ("grey", "0.5"),
        ("vermilion", "1"),
        ("ink", "Kewley+2001"),
        ("ink dashed", "Kauffmann+2003"),
    ]
    caption = (
        f"Objects of {whose}, coloured by probability; triangles are labelled AGN. Point at one for its "
        "numbers, click it for its card."
    )
    return {
        "plane": FigureView(svg=bpt_plane(verdicts, config.labels.seyfert_liner, shown), caption=caption, keys=keys),
        "cards": cards(verdicts, shown, pair_of),
        "cards_text": text + missing,
        "classes": [name for name in BPT_CLASSES if name in set(verdicts.words("bpt_class").tolist())],
    }


def _pairs(config: RunConfig, store: PairStore | None) -> tuple[Callable[[str], Pair] | None, str]:
    """Image and spectrum by SDSS id; None and the reason where the pairs are not at hand."""
    try:
        found = store if store is not None else pair_store(config.data, config.matching)
    except (OSError, ValueError) as error:
        logger.warning("the report has no images: %s", error)
        return None, f" Images and spectra are not at hand: {error}"
    row_of = {name: row for row, name in enumerate(np.asarray(found.index["sdss_object_id"], dtype=np.str_).tolist())}
    return (lambda name: found.pair(row_of[name])), ""


def _out_of_fold_verdicts(rows: Table, measured: Table) -> Verdicts:
    """Mean over the repeats of what a model said of each object."""
    ids, place = np.unique(np.asarray(rows["object_id"], dtype=np.str_), return_inverse=True)
    count = np.bincount(place)

    def mean(name: str) -> NDArray[np.float64]:
        return np.bincount(place, weights=np.asarray(rows[name], dtype=np.float64)) / count

    return Verdicts(
        measured=rows_of(measured, ids),
        truth=np.rint(mean("truth")),
        probability=mean("calibrated_probability"),
        called=mean("called") >= 0.5,
    )


def _split_classes(predictions: Table | None) -> dict[str, Counter[str]]:
    """Objects of each class in each split."""
    if predictions is None:
        return {}
    pairs = zip(np.asarray(predictions["split"]).tolist(), np.asarray(predictions["bpt_class"]).tolist(), strict=True)
    counted: dict[str, Counter[str]] = {}
    for split, name in sorted(pairs, key=lambda pair: BPT_CLASSES.index(pair[1])):
        counted.setdefault(split, Counter())[name] += 1
    return counted


def _sky(measured: Table | None, predictions: Table | None) -> list[FigureView]:
    """Where all pairs are, those of each split in a colour of their own where there are splits."""
    if measured is None or not len(measured):
        return []
    split_of: dict[str, str] = {}
    if predictions is not None:
        columns = (np.asarray(predictions[name], dtype=np.str_).tolist() for name in ("sdss_object_id", "split"))
        split_of = dict(zip(*columns, strict=True))
    rest = "no label" if split_of else "pairs"
    group = [split_of.get(name, rest) for name in np.asarray(measured["object_id"], dtype=np.str_).tolist()]
    ra_deg, dec_deg = (np.asarray(measured[name], dtype=np.float64) for name in ("ra_deg", "dec_deg"))
    colors = {"no label": "grey", "pairs": "blue", "train": "blue", "validation": "orange", "test": "vermilion"}
    keys = [(css, f"{name} {group.count(name):,}") for name, css in colors.items() if name in group]
    svg = sky_plane(ra_deg, dec_deg, [colors.get(name, "grey") for name in group])
    return [FigureView(svg=svg, caption="Where the pairs are on the sky; east is left.", keys=keys)]


def _history(run: RunFolder) -> Section | None:
    """Loss and average precision against the epoch."""
    found = training_curves(run.tensorboard)
    validation = found.get("average_precision", {}).get("validation", [])
    best = max(validation, key=lambda point: point[1])[0] if validation else None
    names = {"loss": "loss", "average_precision": "average precision"}
    keys = [("blue", "validation"), ("orange dashed", "training")]
    figures = [
        FigureView(
            svg=history_plane(curves, name=f"history-{quantity}", y_label=names[quantity], best_epoch=best),
            caption=f"{names[quantity].capitalize()} against the epoch; dotted: highest validation average precision.",
            keys=keys,
        )
        for quantity, curves in found.items()
    ]
    return Section(name="history", title="Training", figures=figures) if figures else None

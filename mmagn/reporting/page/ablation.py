"""The page of an ablation: answers to its questions, the leakage ladder, parts of the sample, galaxies."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from astropy.table import Table

from mmagn.config.run_config import RunConfig
from mmagn.evaluation.scorecard import number_text
from mmagn.evaluation.variants import VARIANTS
from mmagn.records import Floats
from mmagn.reporting.figures.ablation import forest_figure, strata_figure
from mmagn.reporting.page.cards import Predictions
from mmagn.reporting.page.files import read_table, rows_of
from mmagn.reporting.page.galaxies import Payload, diagram_section, galaxy_parts, image_section, score_charts
from mmagn.reporting.page.html import Chart, Section, TableView, Tile
from mmagn.reporting.page.labels import labels_section
from mmagn.reporting.page.scores import (
    TEXT_CEILING,
    inputs_section,
    metric_text,
    number_range,
    numbers_text,
    probability_text,
    sample_section,
    score_name,
)
from mmagn.reporting.page.training import sample_charts
from mmagn.reporting.page.verdict import ablation_verdict, small_sample_warning
from mmagn.storage.run_folder import RunFolder

Numbers = Mapping[str, Any]

CARD_VARIANTS = ("fused", "image-spectrum", "spectrum", "handcrafted", "image")
"""Model whose predictions are shown galaxy by galaxy: the first of these that the ablation has."""
ABLATION_METRICS = ("average_precision", "mcc", "roc_auc", "recall_at_precision_90", "brier", "calibration_error")
_LADDER_TEXT = (
    "L0 sees all lines, L2 none of the diagnostic ones, L3 the image only; L4 is a label that no input contains; "
    "nuisance models see what should not matter."
)


def ablation_page(run: RunFolder, recorded: Numbers, config: RunConfig, payload: Payload) -> dict[str, Any]:
    """Return the content of the page of an ablation, from its ``ablation.json``."""
    table, measured = read_table(run.out_of_fold), read_table(run.measurements)
    metric = recorded["questions"][0]["metric"] if recorded["questions"] else "average_precision"
    sections: list[Section | None] = [*_ladder_sections(recorded, metric), inputs_section(recorded.get("inputs", {}))]
    best, parts = _best_network(recorded["models"]), {}
    simulated = recorded.get("sample", {}).get("simulated", False)
    variant = next((name for name in CARD_VARIANTS if name in config.ablation.variants), None)
    if table is not None and measured is not None and variant is not None:
        predictions = _out_of_fold(table[np.asarray(table["variant"], dtype=np.str_) == variant], measured)
        sample = f"all folds, out-of-fold predictions of {variant}"
        text = probability_text(recorded.get("sample", {}))
        curves = score_charts(predictions, config.evaluation)
        sections += [
            Section(name="curves", title=f"Curves of {variant}", text=[text], charts=curves),
            diagram_section(predictions, measured, sample),
            image_section(predictions, payload),
        ]
        parts = galaxy_parts(predictions, payload, sample, simulated=simulated)
    if "sample" in recorded:
        charts = sample_charts(recorded["sample"], measured, None, payload)
        sections += [sample_section(recorded["sample"], charts), labels_section({**recorded["sample"], **recorded})]
    return {
        "verdict": ablation_verdict(recorded, best, simulated=simulated),
        "warning": small_sample_warning(best["objects"], best["positives"], "sample"),
        "tiles": _tiles(recorded, best),
        "sections": [section for section in sections if section is not None],
        **parts,
    }


def _best_network(models: Sequence[Numbers]) -> Numbers:
    networks = [row for row in models if row["level"] not in ("baseline", "nuisance")] or models
    return max(networks, key=lambda row: row["average_precision"] or 0.0)


def _tiles(recorded: Numbers, best: Numbers) -> list[Tile]:
    """Numbers at the top of the page: the best network, its accuracy, the noise ceiling, the sample, the questions."""
    ceiling = recorded.get("noise_ceiling", {}).get("average_precision", {})
    interval = number_range(best["average_precision_low"], best["average_precision_high"])
    value = number_text(best["average_precision"])
    tiles = [Tile(name=f"average precision of {best['variant']}", value=value, note=interval)]
    if best.get("accuracy") is not None:
        note = number_range(best.get("accuracy_low"), best.get("accuracy_high"))
        tiles.append(Tile(name=f"accuracy of {best['variant']}", value=number_text(best["accuracy"]), note=note))
    if ceiling.get("value") is not None:
        note = f"average precision {number_range(ceiling.get('low'), ceiling.get('high'))}"
        tiles.append(Tile(name="noise ceiling", value=number_text(ceiling["value"]), note=note))
    sample = f"{best['positives']:,} AGN, prevalence {best['prevalence']:.3f}"
    significant = sum(bool(each["significant"]) for each in recorded["questions"])
    return [
        *tiles,
        Tile(name="galaxies", value=f"{best['objects']:,}", note=sample),
        Tile(
            name="significant differences",
            value=f"{significant} of {len(recorded['questions'])}",
            note="after correction for their number",
        ),
    ]


def _ladder_sections(recorded: Numbers, metric: str) -> list[Section]:
    """Answers, models, parts of the sample."""
    questions, models, ceiling = recorded["questions"], recorded["models"], recorded.get("noise_ceiling", {})
    forest = Chart(
        name="forest",
        figure=forest_figure(models, questions, metric=metric, ceiling=ceiling.get(metric)),
        caption=f"{score_name(metric).capitalize()} of every model and differences, with intervals.",
        wide=True,
    )
    first = models[0]
    counts = f"{first['objects']:,} galaxies, {first['positives']:,} AGN (prevalence {first['prevalence']:.3f})"
    ladder = Section(
        name="ladder",
        title="Leakage ladder",
        text=[
            f"Every model is evaluated on the same folds: {counts}. {_LADDER_TEXT}",
            *([TEXT_CEILING] if ceiling.get("average_precision", {}).get("value") is not None else []),
        ],
        charts=[forest],
        tables=[
            TableView(
                caption="Models",
                head=["model", "level", *(score_name(name) for name in ABLATION_METRICS)],
                rows=[[row["variant"], row["level"], *_score_cells(row)] for row in models] + _ceiling_rows(ceiling),
            )
        ],
        folded=[
            TableView(
                caption="Inputs of each model",
                head=["model", "level", "input"],
                rows=[
                    [row["variant"], row["level"], VARIANTS[row["variant"]].title]
                    for row in models
                    if row["variant"] in VARIANTS
                ],
            )
        ],
    )
    answers = [_answers_section(questions, metric)] if questions else []
    return [*answers, ladder, *_strata_sections(recorded, metric)]


def _answers_section(questions: Sequence[Numbers], metric: str) -> Section:
    rows = [
        [
            each["question"],
            numbers_text(each, sign=True),
            "–" if each["p_corrected"] is None else f"{each['p_corrected']:.2g}",
            "significant" if each["significant"] else "not significant",
        ]
        for each in questions
    ]
    head = ["question", "difference [interval]", "p, corrected", "result"]
    table = TableView(caption=f"Differences of {score_name(metric)}", head=head, rows=rows)
    sentences = [each["sentence"][:1].upper() + each["sentence"][1:] for each in questions]
    return Section(name="answers", title="Answers", sentences=sentences, tables=[table])


def _score_cells(row: Numbers) -> list[str]:
    return [metric_text(row, name) for name in ABLATION_METRICS]


def _ceiling_rows(ceiling: Numbers) -> list[list[str]]:
    if ceiling.get("average_precision", {}).get("value") is None:
        return []
    return [["noise ceiling", "", *(numbers_text(ceiling.get(name, {})) for name in ABLATION_METRICS)]]


def _strata_sections(recorded: Numbers, metric: str) -> list[Section]:
    rows, ceilings = recorded["strata"], recorded.get("strata_noise_ceiling", [])
    if not rows:
        return []
    tables = []
    for stratum in dict.fromkeys(row["stratum"] for row in rows):
        cells = [
            [row["variant"], row["part"], f"{row['objects']:,}", f"{row['positives']:,}", *_score_cells(row)]
            for row in rows
            if row["stratum"] == stratum
        ]
        head = ["model", stratum, "galaxies", "AGN", *(score_name(name) for name in ABLATION_METRICS)]
        tables.append(TableView(caption=f"By {stratum}", head=head, rows=cells))
    chart = Chart(
        name="strata",
        figure=strata_figure(rows, ceilings, metric=metric),
        caption="The best model of each level on parts of the sample, with counts and intervals.",
        wide=True,
    )
    text = ["The same scores on parts of the sample; a part with one class only has none."]
    return [Section(name="strata", title="Parts of the sample", text=text, charts=[chart], folded=tables)]


def _out_of_fold(rows: Table, measured: Table) -> Predictions:
    """Mean over the repeats of the predictions of a model for each object."""
    ids, place = np.unique(np.asarray(rows["object_id"], dtype=np.str_), return_inverse=True)
    count = np.bincount(place)

    def mean(name: str) -> Floats:
        return np.asarray(np.bincount(place, weights=np.asarray(rows[name], dtype=np.float64)) / count)

    return Predictions(
        measured=rows_of(measured, ids),
        truth=np.rint(mean("truth")),
        probability=mean("calibrated_probability"),
        positive=mean("called") >= 0.5,
    )

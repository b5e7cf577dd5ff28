"""Parts of the report that show galaxies: score curves, diagnostic diagrams, images, cards."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from astropy.table import Table

from mmagn.evaluation.config import EvaluationConfig
from mmagn.evaluation.scorecard import Scores
from mmagn.labels.bpt import BPT_CLASSES
from mmagn.matching.store import PairStore
from mmagn.records import Floats, Pair
from mmagn.reporting.figures.bpt import measured_bpt_figure
from mmagn.reporting.figures.curves import confusion_figure, precision_recall_figure, reliability_figure, roc_figure
from mmagn.reporting.figures.gallery import IMAGES_PER_ROW, gallery_figure, image_rows_figure
from mmagn.reporting.figures.style import CLASS_NAMES
from mmagn.reporting.figures.whan import measured_whan_figure
from mmagn.reporting.page.cards import OUTCOMES, Predictions, bpt_targets, card_objects, cards
from mmagn.reporting.page.html import Chart, Section

BAND_DRAWS = 500
"""Bootstrap draws behind the bands of curves, at most."""
GALLERY_COLUMNS = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Payload:
    """Images and spectra of a run: its store, or None and the reason why they are not at hand."""

    store: PairStore | None
    reason: str = ""

    def pair_of(self) -> Callable[[str], Pair] | None:
        """Return a function from SDSS id to pair, None without pairs."""
        if (store := self.store) is None:
            return None
        ids = np.asarray(store.index["sdss_object_id"], dtype=np.str_).tolist()
        row_of = {name: row for row, name in enumerate(ids)}

        def pair(name: str) -> Pair:
            if name not in row_of:
                raise ValueError(f"{store.path} has no pair with SDSS id {name}: it is not the store of this run")
            return store.pair(row_of[name])

        return pair


def score_charts(
    predictions: Predictions,
    config: EvaluationConfig,
    *,
    scores: Scores | None = None,
    uncalibrated: Floats | None = None,
) -> list[Chart]:
    """Return precision-recall, ROC, confusion matrix and reliability of some predictions.

    ``scores`` are for legends; ``uncalibrated`` (object,) probabilities are drawn with the calibrated ones.
    """
    quick = replace(config, bootstrap_draws=min(config.bootstrap_draws, BAND_DRAWS))
    truth, probability = predictions.truth, predictions.probability
    confusion = np.bincount((2 * truth + predictions.positive).astype(int), minlength=4).reshape(2, 2)
    sets = {"before calibration": uncalibrated, "calibrated": probability}
    curves = {"config": quick, "scores": scores}
    return [
        Chart(
            name="precision_recall",
            figure=precision_recall_figure(truth, probability, p_agn=predictions.column("p_agn"), **curves),  # type: ignore[arg-type]
            caption="Precision against recall over all thresholds.",
        ),
        Chart(
            name="roc",
            figure=roc_figure(truth, probability, **curves),  # type: ignore[arg-type]
            caption="ROC curve: true-positive against false-positive rate over all thresholds.",
        ),
        Chart(
            name="confusion",
            figure=confusion_figure(confusion, threshold=None if scores is None else scores.threshold),
            caption="Confusion matrix: counts, and per cent of the true class.",
        ),
        Chart(
            name="reliability",
            figure=reliability_figure(
                truth, {name: each for name, each in sets.items() if each is not None}, config=quick
            ),
            caption="Reliability: on the diagonal P(AGN) is the fraction of AGN.",
        ),
    ]


def diagram_section(predictions: Predictions, measured: Table, sample: str) -> Section:
    """Return the BPT and WHAN diagrams: predictions by probability, which lead to their cards, and all pairs by class.

    ``sample`` are words for the objects of the predictions.
    """
    with_card = card_objects(predictions)
    by_probability = Chart(
        name="bpt_probability",
        figure=measured_bpt_figure(predictions.measured, probability=predictions.probability),
        caption=f"Galaxies of {sample} by P(AGN). Point at one for its numbers; click it for its card.",
    )
    charts = [
        replace(by_probability, targets=lambda: bpt_targets(by_probability, predictions, with_card)),
        Chart(name="bpt", figure=measured_bpt_figure(measured), caption="All pairs by BPT class."),
    ]
    if "whan_class" in measured.colnames:
        charts.append(Chart(name="whan", figure=measured_whan_figure(measured), caption="All pairs by WHAN class."))
    return Section(name="diagrams", title="BPT and WHAN diagrams", charts=charts)


def image_section(predictions: Predictions, payload: Payload) -> Section | None:
    """Return AGN above other galaxies, and of each class those of highest and of lowest probability."""
    if (pair_of := payload.pair_of()) is None:
        return None
    ids, order = predictions.words("object_id"), np.argsort(-predictions.weakest_snr, kind="stable")
    rows = {truth: order[predictions.truth[order] == truth][:IMAGES_PER_ROW].tolist() for truth in (1, 0)}
    cutouts = {truth: [pair_of(str(ids[row])).cutout for row in members] for truth, members in rows.items()}
    chosen = _extremes(predictions)
    outcome = predictions.outcome
    gallery = gallery_figure(
        [pair_of(str(ids[row])) for row in chosen],
        [str(predictions.words("bpt_class")[row]) for row in chosen],
        captions=[f"P(AGN) = {predictions.probability[row]:.2f} · {outcome[row]}" for row in chosen],
        columns=GALLERY_COLUMNS,
    )
    return Section(
        name="images",
        title="Images",
        charts=[
            Chart(
                name="images",
                figure=image_rows_figure(cutouts[1], cutouts[0]),
                caption="HSC images in i, r and g: galaxies labelled AGN above galaxies that are not, those with the "
                "clearest lines first; bars are 5 arcsec.",
                wide=True,
            ),
            Chart(
                name="gallery",
                figure=gallery,
                caption="Of each class the galaxies of highest and of lowest P(AGN).",
                wide=True,
            ),
        ],
    )


def _extremes(predictions: Predictions) -> list[int]:
    """Of each class the object of highest and that of lowest probability."""
    classes = predictions.words("bpt_class")
    chosen: list[int] = []
    for name in BPT_CLASSES:
        members = np.flatnonzero(classes == name)
        order = members[np.argsort(-predictions.probability[members], kind="stable")]
        chosen += dict.fromkeys([*order[:1].tolist(), *order[-1:].tolist()])
    return chosen


def galaxy_parts(predictions: Predictions, payload: Payload, sample: str, *, simulated: bool) -> dict[str, Any]:
    """Return cards of galaxies and what they can be filtered by, as parts of a page."""
    with_card = card_objects(predictions)
    outcome = predictions.outcome
    counts = ", ".join(f"{outcome.count(name):,} {name}" for name in OUTCOMES)
    text = f"{len(with_card):,} of {len(predictions):,} galaxies of {sample}: {counts}."
    if len(with_card) < len(predictions):
        text += " Cards show the largest errors and the best predictions."
    if simulated:
        text += " The survey is simulated: links open the real sky at these positions, which shows other galaxies."
    if payload.reason:
        text += f" Images and spectra are not at hand: {payload.reason}"
    present = set(predictions.words("bpt_class").tolist())
    return {
        "cards": cards(predictions, with_card, payload.pair_of()),
        "cards_text": text,
        "classes": [(name, CLASS_NAMES.get(name, name)) for name in BPT_CLASSES if name in present],
        "outcomes": OUTCOMES,
    }

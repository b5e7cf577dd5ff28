"""Figures of one run: where its pairs are, what they look like, how the model scored."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy.table import Table
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import expit, logit

from mmagn.evaluation.calibration import unshifted_logits
from mmagn.evaluation.config import EvaluationConfig
from mmagn.evaluation.scorecard import Scores
from mmagn.labels.bpt import BPT_CLASSES
from mmagn.matching.store import PairStore
from mmagn.records import Pair
from mmagn.reporting.figures.bpt import measured_bpt_figure, measured_whan_figure
from mmagn.reporting.figures.curves import confusion_figure, precision_recall_figure, reliability_figure, roc_figure
from mmagn.reporting.figures.gallery import gallery_figure
from mmagn.reporting.figures.sky import coverage_figure
from mmagn.reporting.figures.style import save_figures

GALLERY_COLUMNS = 2
TRAINING_DRAWS = 200
"""Bootstrap draws behind the band of a figure that is drawn while training."""

ScoreFigure = Callable[[NDArray[np.float64], NDArray[np.float64]], Figure]


def validation_figures(config: EvaluationConfig, *, pos_weight: float = 1.0) -> dict[str, ScoreFigure]:
    """Figures of validation target and probability, by their TensorBoard tag.

    Parameters
    ----------
    config
        Draws, bins and confidence.
    pos_weight
        Weight of the positive class in the loss, which is undone for the reliability diagram.
    """
    quick = replace(config, bootstrap_draws=min(config.bootstrap_draws, TRAINING_DRAWS))

    def confusion(target: NDArray[np.float64], probability: NDArray[np.float64]) -> Figure:
        from sklearn.metrics import confusion_matrix  # where used: the first training step does not wait for it

        predicted = (probability >= 0.5).astype(int)  # the loss is weighted, so 0.5 is where both errors cost the same
        return confusion_figure(confusion_matrix(target.astype(int), predicted, labels=[0, 1]))

    def precision_recall(target: NDArray[np.float64], probability: NDArray[np.float64]) -> Figure:
        return precision_recall_figure(target, probability, config=quick)

    def roc(target: NDArray[np.float64], probability: NDArray[np.float64]) -> Figure:
        return roc_figure(target, probability, config=quick)

    def calibration(target: NDArray[np.float64], probability: NDArray[np.float64]) -> Figure:
        at_odds = expit(unshifted_logits(logit(np.clip(probability, 1e-12, 1 - 1e-12)), pos_weight))
        return reliability_figure(target, {"before calibration": at_odds}, config=quick)

    return {
        "validation/precision_recall": precision_recall,
        "validation/roc": roc,
        "validation/reliability": calibration,
        "validation/confusion": confusion,
    }


def sample_gallery(store: PairStore, rows: NDArray[np.int64], bpt_class: NDArray[np.str_]) -> Figure:
    """Return image and spectrum of the first galaxies of each class.

    Parameters
    ----------
    store
        Payload of the pairs.
    rows
        (object,) rows of the store to choose from.
    bpt_class
        (object,) their classes.
    """
    chosen = [row for name in BPT_CLASSES for row in np.flatnonzero(bpt_class == name)[:GALLERY_COLUMNS].tolist()]
    return _gallery(store, rows[chosen], bpt_class[chosen])


def save_run_figures(
    folder: Path,
    store: PairStore,
    table: Table,
    predictions: Table,
    split: str,
    scores: Scores,
    config: EvaluationConfig,
) -> list[Path]:
    """Write all figures of a scored run as PNG and return their paths.

    Parameters
    ----------
    folder
        Where they go.
    store, table
        Payload and measurements of all pairs, row by row.
    predictions
        Table of ``evaluation.predict.predictions_table``.
    split
        Split that was scored; the curves are of its objects.
    scores
        Its scores.
    config
        Draws and confidence of the bands.
    """
    scored = predictions[np.asarray(predictions["split"]) == split]
    row_of = {name: row for row, name in enumerate(np.asarray(table["object_id"]).tolist())}
    rows = np.array([row_of[name] for name in np.asarray(scored["sdss_object_id"]).tolist()], dtype=np.int64)
    truth, probability = np.asarray(scored["truth"]), np.asarray(scored["calibrated_probability"])
    shown = _surest_and_least_sure(np.asarray(scored["bpt_class"], dtype=np.str_), probability)
    captions = [f"P(AGN) = {value:.2f}" for value in probability[shown]]
    figures = {
        "coverage": coverage_figure(store.positions("sdss"), store.positions("hsc"), store.positions("pairs")),
        "bpt": measured_bpt_figure(table, title="All pairs"),
        "whan": measured_whan_figure(table, title="All pairs"),
        "gallery": _gallery(store, rows[shown], np.asarray(scored["bpt_class"], dtype=np.str_)[shown], captions),
        "confusion": confusion_figure(scores.confusion),
    }
    if len(scored):
        figures["bpt_probability"] = measured_bpt_figure(table[rows], probability=probability, title=f"{split} split")
        p_agn = np.asarray(table["p_agn"], dtype=np.float64)[rows]
        figures["precision_recall"] = precision_recall_figure(
            truth, probability, config=config, scores=scores, p_agn=p_agn
        )
        figures["roc"] = roc_figure(truth, probability, config=config, scores=scores)
        plain = {"before": np.asarray(scored["probability"]), "after": probability}
        figures["reliability"] = reliability_figure(truth, plain, config=config)
    return save_figures(figures, folder)


def _surest_and_least_sure(bpt_class: NDArray[np.str_], probability: NDArray[np.float64]) -> list[int]:
    """Of each class the object of highest and that of lowest probability."""
    shown: list[int] = []
    for name in BPT_CLASSES:
        members = np.flatnonzero(bpt_class == name)
        order = members[np.argsort(-probability[members], kind="stable")]
        shown += dict.fromkeys([*order[:1].tolist(), *order[-1:].tolist()])
    return shown


def _gallery(
    store: PairStore, rows: NDArray[np.int64], classes: NDArray[np.str_], captions: Sequence[str] = ()
) -> Figure:
    pairs: list[Pair] = [store.pair(int(row)) for row in rows]
    return gallery_figure(pairs, classes.tolist(), captions=captions, columns=GALLERY_COLUMNS)

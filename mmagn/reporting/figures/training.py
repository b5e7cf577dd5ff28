"""Figures that a training logs while it runs: validation scores, and galaxies of each class."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import expit, logit

from mmagn.evaluation.calibration import unshifted_logits
from mmagn.evaluation.config import EvaluationConfig
from mmagn.labels.bpt import BPT_CLASSES
from mmagn.matching.store import PairStore
from mmagn.records import Floats
from mmagn.reporting.figures.curves import confusion_figure, precision_recall_figure, reliability_figure, roc_figure
from mmagn.reporting.figures.gallery import gallery_figure

GALLERY_COLUMNS = 2
TRAINING_DRAWS = 200
"""Bootstrap draws behind the band of a figure that is drawn while training."""

ScoreFigure = Callable[[Floats, Floats], Figure]


def validation_figures(config: EvaluationConfig, *, pos_weight: float = 1.0) -> dict[str, ScoreFigure]:
    """Return figures of validation target and probability, by their TensorBoard tag.

    The weight of the positive class in the loss is undone for the reliability diagram.
    """
    quick = replace(config, bootstrap_draws=min(config.bootstrap_draws, TRAINING_DRAWS))

    def confusion(target: Floats, probability: Floats) -> Figure:
        from sklearn.metrics import confusion_matrix  # where used: the first training step does not wait for it

        predicted = (probability >= 0.5).astype(int)  # the loss is weighted, so 0.5 is where both errors cost the same
        return confusion_figure(confusion_matrix(target.astype(int), predicted, labels=[0, 1]), threshold=0.5)

    def calibration(target: Floats, probability: Floats) -> Figure:
        at_odds = expit(unshifted_logits(logit(np.clip(probability, 1e-12, 1 - 1e-12)), pos_weight))
        return reliability_figure(target, {"before calibration": at_odds}, config=quick)

    return {
        "validation/precision_recall": partial(precision_recall_figure, config=quick),
        "validation/roc": partial(roc_figure, config=quick),
        "validation/reliability": calibration,
        "validation/confusion": confusion,
    }


def sample_gallery(store: PairStore, rows: NDArray[np.int64], bpt_class: NDArray[np.str_]) -> Figure:
    """Return image and spectrum of the first galaxies of each class, of some rows (object,) of a store."""
    chosen = [row for name in BPT_CLASSES for row in np.flatnonzero(bpt_class == name)[:GALLERY_COLUMNS].tolist()]
    pairs = [store.pair(int(row)) for row in rows[chosen]]
    return gallery_figure(pairs, bpt_class[chosen].tolist(), columns=GALLERY_COLUMNS)

"""All scores of a classifier for thousands of resampled test sets at once.

A resampled test set is a row of counts: how often it holds each object. Scores are sorted once; cumulative sums of
the counts then give all scores of all rows, equal to scikit-learn's on the same resample.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmagn.records import Floats

METRICS = (
    "average_precision",
    "mcc",
    "roc_auc",
    "precision",
    "recall",
    "f1",
    "balanced_accuracy",
    "accuracy",
    "recall_at_precision_90",
    "brier",
    "brier_reliability",
    "brier_resolution",
    "brier_uncertainty",
    "brier_within_bins",
    "log_loss",
    "calibration_error",
)
"""Names of all scores, the most informative ones for a rare class first."""

PRECISION_FLOOR = 0.9
"""Precision at which ``recall_at_precision_90`` reads off the recall."""
_CELLS_AT_ONCE = 1_000_000


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredObjects:
    """Truth, probability and calibration bin of the objects of a test set.

    Attributes
    ----------
    target, score
        (object,) 1 positive, 0 negative; probability of the positive class.
    threshold
        An object counts as predicted positive where its score is not below it.
    bin_index
        (object,) calibration bin, see :func:`probability_bins`.
    """

    target: Floats
    score: Floats
    threshold: float
    bin_index: NDArray[np.int64]


def scored_objects(target: ArrayLike, score: ArrayLike, threshold: float, bins: int) -> ScoredObjects:
    """Return checked truth and probabilities.

    ``ValueError`` where lengths differ, a target is neither 0 nor 1, or a score is no probability.
    """
    y, p = np.asarray(target, dtype=np.float64), np.asarray(score, dtype=np.float64)
    if y.ndim != 1 or y.shape != p.shape:
        raise ValueError(f"target has shape {y.shape} and score {p.shape}; allowed: one number per object in both")
    if wrong := np.flatnonzero(~np.isin(y, (0, 1))).tolist():
        raise ValueError(f"target of object {wrong[0]} is {y[wrong[0]]}; allowed: 0 or 1")
    if wrong := np.flatnonzero(~((p >= 0) & (p <= 1))).tolist():
        raise ValueError(f"score of object {wrong[0]} is {p[wrong[0]]}; allowed: a probability from 0 to 1")
    return ScoredObjects(target=y, score=p, threshold=threshold, bin_index=probability_bins(p, bins))


def probability_bins(score: Floats, bins: int) -> NDArray[np.int64]:
    """Return the bin of each object, (object,) from 0 on: about equal counts, equal scores always together."""
    if not score.size:
        return np.zeros(0, dtype=np.int64)
    last_of_bin = (np.arange(1, bins) * score.size + bins - 1) // bins - 1
    edges = np.unique(np.sort(score)[last_of_bin])
    _, index = np.unique(np.searchsorted(edges, score, side="left"), return_inverse=True)
    return index.astype(np.int64)


def stratified_counts(target: Floats, draws: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return bootstrap counts (draw, object): each class is drawn with replacement from itself, to its own size."""
    counts = np.zeros((draws, len(target)), dtype=np.int64)
    for value in (0, 1):
        members = np.flatnonzero(target == value)
        if members.size:
            drawn = rng.integers(members.size, size=(draws, members.size))
            drawn += np.arange(draws)[:, None] * members.size
            counts[:, members] = np.bincount(drawn.ravel(), minlength=draws * members.size).reshape(draws, -1)
    return counts


def resampled_metrics(objects: ScoredObjects, counts: NDArray[np.int64]) -> dict[str, Floats]:
    """Return each score (draw,) of ``METRICS`` of each resample, from counts (draw, object) of its objects.

    NaN where a score is undefined (a class is missing, or nothing is predicted positive).
    """
    step = max(1, _CELLS_AT_ONCE // max(1, len(objects.target)))
    parts = [_metrics(objects, counts[start : start + step]) for start in range(0, len(counts), step)]
    return {name: np.concatenate([part[name] for part in parts]) for name in METRICS}


def cumulative_counts(target: Floats, score: Floats, counts: NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
    """Return (threshold,) each distinct score, falling, and (draw, threshold) positives and negatives not below it."""
    order = np.argsort(-score, kind="stable")
    falling, truth = score[order], target[order]
    last_of_ties = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)
    weights = counts[:, order].astype(np.float64)
    true_positives = np.cumsum(weights * truth, axis=1)[:, last_of_ties]
    false_positives = np.cumsum(weights * (1 - truth), axis=1)[:, last_of_ties]
    return falling[last_of_ties], true_positives, false_positives


def _metrics(objects: ScoredObjects, counts: NDArray[np.int64]) -> dict[str, Floats]:
    if not len(objects.target):
        return {name: np.full(len(counts), np.nan) for name in METRICS}
    distinct, true_positives, false_positives = cumulative_counts(objects.target, objects.score, counts)
    above = int(np.sum(distinct >= objects.threshold))
    tp, fp = (part[:, above - 1] if above else np.zeros(len(counts)) for part in (true_positives, false_positives))
    with np.errstate(divide="ignore", invalid="ignore"):
        return (
            _ranking_metrics(true_positives, false_positives)
            | decision_metrics(tp, fp, true_positives[:, -1], false_positives[:, -1])
            | _probability_metrics(objects, counts.astype(np.float64))
        )


def _ranking_metrics(true_positives: Floats, false_positives: Floats) -> dict[str, Floats]:
    """Scores of the order alone, from counts (draw, distinct score) at or above each distinct score."""
    positives, negatives = true_positives[:, -1:], false_positives[:, -1:]
    predicted = true_positives + false_positives
    precision = np.divide(true_positives, predicted, out=np.zeros_like(predicted), where=predicted > 0)
    steps_up = np.diff(true_positives, axis=1, prepend=0)
    steps_right = np.diff(false_positives, axis=1, prepend=0)
    mean_height = true_positives - steps_up / 2
    good = np.where(precision >= PRECISION_FLOOR, true_positives, 0).max(axis=1)
    both = np.where((positives > 0) & (negatives > 0), 1.0, np.nan)[:, 0]
    return {
        "average_precision": both * np.sum(steps_up * precision, axis=1) / positives[:, 0],
        "roc_auc": both * np.sum(steps_right * mean_height, axis=1) / (positives * negatives)[:, 0],
        "recall_at_precision_90": both * good / positives[:, 0],
    }


def decision_metrics(tp: Floats, fp: Floats, positives: Floats, negatives: Floats) -> dict[str, Floats]:
    """Scores of the decision at the threshold, from counts (draw,)."""
    fn, tn = positives - tp, negatives - fp
    spread = (tp + fp) * (tn + fn) * positives * negatives
    both = np.where((positives > 0) & (negatives > 0), 1.0, np.nan)
    return {
        "mcc": both * np.where(spread > 0, (tp * tn - fp * fn) / np.sqrt(spread), 0.0),
        "precision": tp / (tp + fp),
        "recall": tp / positives,
        "f1": np.where(positives > 0, 2 * tp / (2 * tp + fp + fn), np.nan),
        "balanced_accuracy": (tp / positives + tn / negatives) / 2,
        "accuracy": (tp + tn) / (positives + negatives),
    }


def bin_parts(share: Floats, forecast: Floats, observed: Floats, base_rate: Floats) -> dict[str, Floats]:
    """Return the scores (draw,) that compare mean forecast and observed fraction bin by bin.

    From the fraction of the objects in a bin, their mean probability and their fraction of positives, (draw, bin) each,
    and the fraction of positives of all objects (draw,).
    """
    return {
        "brier_reliability": np.sum(share * (forecast - observed) ** 2, axis=1),
        "brier_resolution": np.sum(share * (observed - base_rate[:, None]) ** 2, axis=1),
        "brier_uncertainty": base_rate * (1 - base_rate),
        "calibration_error": np.sum(share * np.abs(forecast - observed), axis=1),
    }


def _probability_metrics(objects: ScoredObjects, weights: Floats) -> dict[str, Floats]:
    """Scores of the probability itself; Murphy (1973) for the parts of Brier, Stephenson+2008 for what bins leave.

    brier = reliability - resolution + uncertainty + within_bins, the last from the spread of scores inside a bin.
    """
    target, score = objects.target, objects.score
    size = weights.sum(axis=1)
    eps = np.finfo(np.float64).eps
    clipped = np.clip(score, eps, 1 - eps)
    surprise = -np.where(target > 0, np.log(clipped), np.log1p(-clipped))
    member = np.eye(objects.bin_index.max() + 1)[objects.bin_index]
    in_bin = weights @ member
    filled = np.where(in_bin > 0, in_bin, 1.0)
    forecast, observed = (weights @ (member * values[:, None]) / filled for values in (score, target))
    parts = bin_parts(in_bin / size[:, None], forecast, observed, weights @ target / size)
    brier = weights @ (score - target) ** 2 / size
    binned = parts["brier_reliability"] - parts["brier_resolution"] + parts["brier_uncertainty"]
    return parts | {"brier": brier, "brier_within_bins": brier - binned, "log_loss": weights @ surprise / size}

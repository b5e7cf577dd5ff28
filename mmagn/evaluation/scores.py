"""Scores of a classifier on few, imbalanced objects: with intervals, prevalence and the all-negative baseline."""

import logging
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import classification_report, confusion_matrix

from mmagn.evaluation.bootstrap import (
    METRICS,
    ScoredObjects,
    cumulative_counts,
    decision_metrics,
    resampled_metrics,
    scored_objects,
    stratified_counts,
)
from mmagn.evaluation.config import EvaluationConfig
from mmagn.evaluation.intervals import accelerations, bca_interval, calibrated_levels, exact_interval
from mmagn.evaluation.scorecard import Score, Scores

CLASS_NAMES = ("not AGN", "AGN")
_NEEDS_BOTH = ("average_precision", "mcc", "roc_auc", "balanced_accuracy", "recall_at_precision_90")

logger = logging.getLogger(__name__)


def scores(target: ArrayLike, score: ArrayLike, threshold: float, *, config: EvaluationConfig) -> Scores:
    """Return all scores of probabilities with bootstrap intervals, prevalence and the all-negative baseline.

    Point values are those of scikit-learn. An undefined score (a class is missing, nothing is predicted positive) is
    None with its reason.

    Parameters
    ----------
    target, score
        (object,) 1 positive, 0 negative; probability of the positive class; ``ValueError`` where they are neither.
    threshold
        An object counts as predicted positive where its score is not below it; choose it on other objects.
    config
        Draws, confidence, bins and seed.
    """
    objects = scored_objects(target, score, threshold, config.calibration_bins)
    y, predicted = objects.target.astype(int), (objects.score >= threshold).astype(int)
    count, positives = len(y), int(y.sum())
    matrix = confusion_matrix(y, predicted, labels=[0, 1]).tolist() if count else [[0, 0], [0, 0]]
    report, report_text = _report(y, predicted)
    return Scores(
        objects=count,
        positives=positives,
        prevalence=positives / count if count else None,
        threshold=float(threshold),
        confidence=config.confidence,
        bootstrap_draws=config.bootstrap_draws,
        scores=_scores_with_intervals(objects, predicted, config),
        all_negative=_all_negative(count, positives),
        confusion_matrix=matrix,
        classification_report=report,
        classification_report_text=report_text,
    )


def best_threshold(target: ArrayLike, score: ArrayLike, metric: Literal["mcc", "f1"] = "mcc") -> float:
    """Return the probability threshold that maximises MCC or F1, half-way between the two scores it divides.

    Choose it on the validation split. Where a class is missing no threshold is better than another: 0.5 comes back,
    and a warning is logged.
    """
    objects = scored_objects(target, score, 0.5, 1)
    if len(np.unique(objects.target)) < 2:
        logger.warning("threshold set to 0.5: the %d objects to choose it on have one class only", len(objects.target))
        return 0.5
    one_each = np.ones((1, len(objects.target)), dtype=np.int64)
    distinct, (tp,), (fp,) = cumulative_counts(objects.target, objects.score, one_each)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = decision_metrics(tp, fp, np.full_like(tp, tp[-1]), np.full_like(fp, fp[-1]))[metric]
    best = int(np.argmax(values))
    if best == len(distinct) - 1:
        return float(distinct[best])
    middle = (distinct[best] + distinct[best + 1]) / 2
    return float(middle if middle > distinct[best + 1] else distinct[best])


def _report(y: NDArray[np.int_], predicted: NDArray[np.int_]) -> tuple[dict[str, Any], str]:
    if not len(y):
        return {}, "no objects"
    options = {"labels": [0, 1], "target_names": list(CLASS_NAMES), "zero_division": 0.0}
    nested = classification_report(y, predicted, output_dict=True, **options)
    return nested, classification_report(y, predicted, digits=3, **options)


def _all_negative(count: int, positives: int) -> dict[str, float | None]:
    """Scores of the model that gives every object probability 0."""
    if not count:
        return dict.fromkeys(("average_precision", "mcc", "roc_auc", "recall", "f1", "accuracy", "brier"))
    prevalence = positives / count
    both = 0 < positives < count
    return {
        "average_precision": prevalence if both else None,
        "mcc": 0.0 if both else None,
        "roc_auc": 0.5 if both else None,
        "recall": 0.0 if positives else None,
        "f1": 0.0 if positives else None,
        "accuracy": 1 - prevalence,
        "brier": prevalence,
    }


def _undefined(name: str, y: NDArray[np.int_], predicted: NDArray[np.int_]) -> str:
    """Why a score is undefined on this sample, "" where it is defined."""
    if not len(y):
        return "no objects"
    if name in (*_NEEDS_BOTH, "recall", "f1") and not y.any():
        return "no positive object"
    if name in _NEEDS_BOTH and y.all():
        return "no negative object"
    if name == "precision" and not predicted.any():
        return "nothing is predicted positive"
    return ""


def _exact_interval(
    name: str, y: NDArray[np.int_], predicted: NDArray[np.int_], confidence: float
) -> tuple[float, float] | tuple[None, None]:
    trials = {"precision": predicted == 1, "recall": y == 1, "accuracy": np.ones_like(y, dtype=bool)}.get(name)
    if trials is None:
        return None, None
    return exact_interval(int(np.sum((y == predicted)[trials])), int(trials.sum()), confidence)


def _scores_with_intervals(
    objects: ScoredObjects, predicted: NDArray[np.int_], config: EvaluationConfig
) -> dict[str, Score]:
    y = objects.target.astype(int)
    if not len(y):
        return {name: Score(reason="no objects") for name in METRICS}
    rng = np.random.default_rng(config.seed)
    draws = resampled_metrics(objects, stratified_counts(objects.target, config.bootstrap_draws, rng))
    sample = resampled_metrics(objects, np.ones((1, len(y)), dtype=np.int64))
    acceleration = accelerations(objects)
    calibrated = calibrated_levels(objects, config.bootstrap_draws, rng)
    single_member = 1 in np.bincount(y, minlength=2)
    result = {}
    for name in METRICS:
        if reason := _undefined(name, y, predicted):
            result[name] = Score(reason=reason)
            continue
        value = float(sample[name][0])
        low, high = bca_interval(value, draws[name], acceleration[name], config.confidence)
        calibrated_high = float(np.quantile(calibrated[name], config.confidence)) if name in calibrated else None
        exact_low, exact_high = _exact_interval(name, y, predicted, config.confidence)
        result[name] = Score(
            value=value,
            low=None if single_member else 0.0 if calibrated_high is not None and value <= calibrated_high else low,
            high=None if single_member else high,
            exact_low=exact_low,
            exact_high=exact_high,
            calibrated_high=calibrated_high,
            reason="no bootstrap interval: a class has a single object" if single_member else "",
        )
    return result

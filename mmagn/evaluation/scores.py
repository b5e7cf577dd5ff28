"""Scores of a classifier on few, imbalanced objects: with intervals, prevalence and the all-negative baseline."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    classification_report,
    confusion_matrix,
    f1_score,
    log_loss,
    matthews_corrcoef,
    precision_score,
    recall_score,
    roc_auc_score,
)

from mmagn.evaluation.bootstrap import (
    METRICS,
    Floats,
    ScoredObjects,
    cumulative_counts,
    decision_metrics,
    resampled_metrics,
    scored_objects,
    stratified_counts,
)
from mmagn.evaluation.config import EvaluationConfig
from mmagn.evaluation.intervals import accelerations, bca_interval, calibrated_levels

CLASS_NAMES = ("not AGN", "AGN")
_NEEDS_BOTH = ("average_precision", "mcc", "roc_auc", "balanced_accuracy", "recall_at_precision_90")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Score:
    """One score and how sure it is.

    Attributes
    ----------
    value
        The score, None where it is undefined.
    low, high
        Ends of the stratified bootstrap interval (BCa), None where it is undefined.
    exact_low, exact_high
        Ends of the exact binomial interval (Clopper & Pearson 1934) of a plain fraction (precision, recall,
        accuracy); the one to quote for a handful of objects, where a bootstrap is too sure. None for other scores.
    calibrated_high
        For calibration_error and brier_reliability the level that a perfectly calibrated model with the same
        probabilities stays below with the probability of the interval; None for other scores.
    reason
        Why the score is undefined, "" where it is defined.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    exact_low: float | None = None
    exact_high: float | None = None
    calibrated_high: float | None = None
    reason: str = ""

    def as_dict(self) -> dict[str, float | str | None]:
        """Return the fields that say something: value, low, high and reason always, the others where present."""
        always = {"value": self.value, "low": self.low, "high": self.high, "reason": self.reason or None}
        extra = {name: getattr(self, name) for name in ("exact_low", "exact_high", "calibrated_high")}
        return always | {name: value for name, value in extra.items() if value is not None}

    def __str__(self) -> str:
        """Return the score as text, such as ``0.731 [0.602, 0.838]``."""
        if self.value is None:
            return f"undefined: {self.reason}"
        return f"{self.value:.3f}" + ("" if self.low is None else f" [{self.low:.3f}, {self.high:.3f}]")


@dataclass(frozen=True, kw_only=True)
class Scores:
    """All scores of one model on one sample, and what they must be compared with.

    Attributes
    ----------
    objects, positives
        Counts of the sample.
    prevalence
        Fraction of positives, None for an empty sample.
    threshold
        Probability from which on an object counts as predicted positive.
    confidence, bootstrap_draws
        Of the intervals.
    scores
        Score by name, in the order of ``METRICS``.
    all_negative
        What a model scores that calls nothing positive.
    confusion
        Counts [[true negatives, false positives], [false negatives, true positives]].
    report
        scikit-learn's classification report as nested dict.
    report_text
        The same as text.
    """

    objects: int
    positives: int
    prevalence: float | None
    threshold: float
    confidence: float
    bootstrap_draws: int
    scores: Mapping[str, Score]
    all_negative: Mapping[str, float | None]
    confusion: list[list[int]]
    report: Mapping[str, Any]
    report_text: str

    def __getitem__(self, name: str) -> Score:
        """Return the score called ``name``."""
        return self.scores[name]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON; undefined scores are null with their reason."""
        return {
            "objects": self.objects,
            "positives": self.positives,
            "prevalence": self.prevalence,
            "threshold": self.threshold,
            "confidence": self.confidence,
            "bootstrap_draws": self.bootstrap_draws,
            "scores": {name: score.as_dict() for name, score in self.scores.items()},
            "all_negative": dict(self.all_negative),
            "confusion_matrix": self.confusion,
            "classification_report": dict(self.report),
            "classification_report_text": self.report_text,
        }

    def text(self) -> str:
        """Return a plain table: each score with its interval beside the all-negative baseline."""
        head = f"{self.objects} objects, {self.positives} positive"
        if self.prevalence is not None:
            head += f" (prevalence {self.prevalence:.3f})"
        title = f"{self.confidence:.0%} interval"
        rows = [head + f", threshold {self.threshold:.3f}", f"{'score':<24}{'value [' + title + ']':<28}all-negative"]
        for name, score in self.scores.items():
            baseline = self.all_negative.get(name)
            rows.append(f"{name:<24}{score!s:<28}{'' if baseline is None else f'{baseline:.3f}'}".rstrip())
        return "\n".join(rows)


def scores(target: ArrayLike, score: ArrayLike, threshold: float, *, config: EvaluationConfig) -> Scores:
    """Return all scores of probabilities with bootstrap intervals, prevalence and the all-negative baseline.

    Point values are scikit-learn's. A score that is undefined (a class is missing, nothing is predicted positive) is
    None with its reason; the others are still given.

    Parameters
    ----------
    target
        (object,) 1 positive, 0 negative.
    score
        (object,) probability of the positive class.
    threshold
        An object counts as predicted positive where its score is not below it; choose it on other objects.
    config
        Draws, confidence, bins and seed.

    Raises
    ------
    ValueError
        Where lengths differ, a target is neither 0 nor 1, or a score is no probability.
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
        confusion=matrix,
        report=report,
        report_text=report_text,
    )


def stratum_scores(
    target: ArrayLike, score: ArrayLike, threshold: float, stratum: ArrayLike, *, config: EvaluationConfig
) -> dict[str, Scores]:
    """Return the scores of each stratum of the sample, by its name.

    Parameters
    ----------
    target, score, threshold, config
        As in :func:`scores`.
    stratum
        (object,) name of the stratum of each object, such as a range of redshift.
    """
    y, p, names = np.asarray(target), np.asarray(score), np.asarray(stratum, dtype=np.str_)
    return {
        str(name): scores(y[names == name], p[names == name], threshold, config=config) for name in np.unique(names)
    }


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
    said = {"labels": [0, 1], "target_names": list(CLASS_NAMES), "zero_division": 0.0}
    nested = classification_report(y, predicted, output_dict=True, **said)
    return nested, classification_report(y, predicted, digits=3, **said)


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


def _point_value(name: str, objects: ScoredObjects, y: NDArray[np.int_], predicted: NDArray[np.int_]) -> float | None:
    """Return scikit-learn's value of a defined score, None for the scores that it does not have."""
    match name:
        case "average_precision":
            value = average_precision_score(y, objects.score)
        case "roc_auc":
            value = roc_auc_score(y, objects.score)
        case "brier":
            value = brier_score_loss(y, objects.score, pos_label=1)
        case "log_loss":
            value = log_loss(y, objects.score, labels=[0, 1])
        case "balanced_accuracy":
            value = balanced_accuracy_score(y, predicted)
        case "precision" | "recall" | "f1":
            function = {"precision": precision_score, "recall": recall_score, "f1": f1_score}[name]
            value = function(y, predicted, zero_division=0.0)
        case "mcc":
            value = matthews_corrcoef(y, predicted)
        case "accuracy":
            value = accuracy_score(y, predicted)
        case _:
            return None
    return float(value)


def _exact_interval(
    name: str, y: NDArray[np.int_], predicted: NDArray[np.int_], confidence: float
) -> tuple[float, float] | tuple[None, None]:
    trials = {"precision": predicted == 1, "recall": y == 1, "accuracy": np.ones_like(y, dtype=bool)}.get(name)
    if trials is None:
        return None, None
    interval = binomtest(int(np.sum((y == predicted)[trials])), int(trials.sum())).proportion_ci(confidence, "exact")
    return float(interval.low), float(interval.high)


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
    found = {}
    for name in METRICS:
        if reason := _undefined(name, y, predicted):
            found[name] = Score(reason=reason)
            continue
        value = float(sample[name][0])
        low, high = bca_interval(value, draws[name], acceleration[name], config.confidence)
        calibrated_high = _upper(calibrated.get(name), config.confidence)
        if calibrated_high is not None and value <= calibrated_high:
            low = 0.0
        exact_low, exact_high = _exact_interval(name, y, predicted, config.confidence)
        point = _point_value(name, objects, y, predicted)
        found[name] = Score(
            value=value if point is None else point,
            low=low if math.isfinite(low) else None,
            high=high if math.isfinite(high) else None,
            exact_low=exact_low,
            exact_high=exact_high,
            calibrated_high=calibrated_high,
        )
    return found


def _upper(draws: Floats | None, confidence: float) -> float | None:
    return None if draws is None else float(np.quantile(draws, confidence))

"""Intervals of scores and bands of curves, from resampled test sets; exact intervals of fractions."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri
from scipy.stats import binomtest

from mmagn.evaluation.bootstrap import (
    METRICS,
    ScoredObjects,
    bin_parts,
    cumulative_counts,
    resampled_metrics,
    scored_objects,
    stratified_counts,
)
from mmagn.evaluation.config import EvaluationConfig
from mmagn.records import Floats

JACKKNIFE_GROUPS = 500
"""Largest number of groups per class that the jackknife leaves out one at a time."""


def percentile_interval(draws: Floats, confidence: float) -> tuple[float, float]:
    """Return the ends of the percentile interval of (draw,) values; undefined ones (NaN) are left out."""
    low, high = np.quantile(draws[np.isfinite(draws)], [(1 - confidence) / 2, (1 + confidence) / 2]).tolist()
    return low, high


def exact_interval(hits: int, trials: int, confidence: float) -> tuple[float, float]:
    """Return the ends of the exact binomial interval of a fraction (Clopper & Pearson 1934)."""
    interval = binomtest(hits, trials).proportion_ci(confidence, "exact")
    return float(interval.low), float(interval.high)


def accelerations(objects: ScoredObjects) -> dict[str, float]:
    """Return the acceleration of each score for BCa intervals, 0 where it is undefined.

    Stratified jackknife (Davison & Hinkley 1997, section 5.3), leaving out up to ``JACKKNIFE_GROUPS`` groups of
    objects of each class one at a time.
    """
    groups = [np.array_split(np.flatnonzero(objects.target == value), JACKKNIFE_GROUPS) for value in (0, 1)]
    groups = [[members for members in stratum if members.size] for stratum in groups]
    counts = np.ones((sum(map(len, groups)), len(objects.target)), dtype=np.int64)
    for row, members in enumerate(members for stratum in groups for members in stratum):
        counts[row, members] = 0
    left_out = resampled_metrics(objects, counts)
    return {name: _acceleration(left_out[name], [len(stratum) for stratum in groups]) for name in METRICS}


def _acceleration(left_out: Floats, sizes: list[int]) -> float:
    if not np.isfinite(left_out).all():
        return 0.0
    strata = np.split(left_out, [sizes[0]])
    influence = [(len(part) - 1) * (part.mean() - part) for part in strata if part.size]
    third = sum(float(np.sum(part**3)) / len(part) ** 3 for part in influence)
    second = sum(float(np.sum(part**2)) / len(part) ** 2 for part in influence)
    return third / (6 * second**1.5) if second > 0 else 0.0


def bca_interval(value: float, draws: Floats, acceleration: float, confidence: float) -> tuple[float, float]:
    """Return the ends of the bias-corrected and accelerated bootstrap interval (Efron 1987).

    Undefined draws (NaN) are left out. Where all draws lie on one side of ``value`` its percentile interval is
    taken and stretched to hold ``value``.
    """
    finite = draws[np.isfinite(draws)]
    if not finite.size:
        return np.nan, np.nan
    tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    below = (np.sum(finite < value) + np.sum(finite == value) / 2) / finite.size
    if 0 < below < 1:
        bias = ndtri(below)
        shifted = bias + ndtri(tails)
        tails = ndtr(bias + shifted / (1 - acceleration * shifted))
    low, high = np.quantile(finite, tails)
    return min(float(low), value), max(float(high), value)


def calibrated_levels(objects: ScoredObjects, draws: int, rng: np.random.Generator) -> dict[str, Floats]:
    """Return (draw,) binned calibration scores of a perfectly calibrated model with the same probabilities.

    Consistency resampling (Broecker & Smith 2007): truth is drawn from the probabilities themselves. These scores are
    above 0 for the best model there can be, the more so the fewer objects there are.
    """
    member = np.eye(objects.bin_index.max() + 1)[objects.bin_index]
    in_bin = member.sum(axis=0)
    observed = np.empty((draws, len(in_bin)))
    for draw in range(draws):
        observed[draw] = (rng.random(len(objects.score)) < objects.score) @ member / in_bin
    share = np.broadcast_to(in_bin / in_bin.sum(), observed.shape)
    parts = bin_parts(share, objects.score @ member / in_bin, observed, np.sum(share * observed, axis=1))
    return {name: parts[name] for name in ("calibration_error", "brier_reliability")}


@dataclass(frozen=True, kw_only=True, eq=False)
class CurveBand:
    """Pointwise band around a curve, from resampled curves.

    Attributes
    ----------
    x, mean, low, high
        (point,) abscissa, and mean and ends of the percentile interval of the ordinate.
    """

    x: Floats
    mean: Floats
    low: Floats
    high: Floats

    @classmethod
    def of(cls, x: Floats, curves: Floats | list[Floats], confidence: float) -> "CurveBand":
        """Return the band of (draw, point) ordinates."""
        low, high = np.quantile(curves, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
        return cls(x=x, mean=np.mean(curves, axis=0), low=low, high=high)


RECALL = np.linspace(0.01, 1, 100)
"""Abscissae of precision-recall bands."""


def precision_at_recall(true_positives: Floats, false_positives: Floats) -> Floats:
    """Return precision at ``RECALL``, as a step curve like average precision takes it, from cumulative counts."""
    reached = np.searchsorted(true_positives / true_positives[-1], RECALL - 1e-12)
    return np.asarray(true_positives[reached] / (true_positives + false_positives)[reached])


def precision_recall_band(target: ArrayLike, score: ArrayLike, *, config: EvaluationConfig) -> CurveBand:
    """Return the band of precision at ``RECALL``."""
    return _band(target, score, RECALL, precision_at_recall, config)


def roc_band(target: ArrayLike, score: ArrayLike, *, config: EvaluationConfig) -> CurveBand:
    """Return the band of the true-positive rate at false-positive rate 0 ... 1."""
    x = np.linspace(0, 1, 101)

    def hit_rate(true_positives: Floats, false_positives: Floats) -> Floats:
        rates = (np.append(0, part) / part[-1] for part in (false_positives, true_positives))
        return np.asarray(np.interp(x, *rates))

    return _band(target, score, x, hit_rate, config)


def _band(
    target: ArrayLike,
    score: ArrayLike,
    x: Floats,
    ordinate: Callable[[Floats, Floats], Floats],
    config: EvaluationConfig,
) -> CurveBand:
    objects = scored_objects(target, score, 0.5, 1)
    if len(np.unique(objects.target)) < 2:
        raise ValueError("target has one class only; a band around a curve needs positives and negatives")
    order = np.argsort(-objects.score, kind="stable")
    truth, falling = objects.target[order], objects.score[order]
    counts = stratified_counts(truth, config.bootstrap_draws, np.random.default_rng(config.seed))
    curves = np.empty((len(counts), len(x)))
    for draw in range(len(counts)):
        _, true_positives, false_positives = cumulative_counts(truth, falling, counts[draw : draw + 1])
        curves[draw] = ordinate(true_positives[0], false_positives[0])
    return CurveBand.of(x, curves, config.confidence)

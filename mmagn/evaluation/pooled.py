"""Out-of-fold scores pooled over folds, averaged over repeats, and the differences between models with their intervals.

Every repeat tests each object once, with networks of its own. A score is computed per repeat from all its objects and
then averaged. A bootstrap draw resamples both the *objects*, the same ones in every repeat, and the *repeats*, the same
ones for every model: the intervals describe other test objects and other training runs. With a single repeat they
describe other test objects only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from mmagn.evaluation.bootstrap import (
    METRICS,
    decision_metrics,
    resampled_metrics,
    scored_objects,
    stratified_counts,
)
from mmagn.evaluation.config import EvaluationConfig
from mmagn.evaluation.intervals import percentile_interval
from mmagn.evaluation.scorecard import Score
from mmagn.records import Floats

BINNED_METRICS = ("calibration_error", "brier_reliability", "brier_resolution", "brier_within_bins")
"""Scores that depend on how many objects are in a bin."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OutOfFold:
    """Predictions of a model for objects that it was not trained on.

    Attributes
    ----------
    target
        (object,) 1 positive, 0 negative.
    probability, called
        (repeat, object) calibrated inside the fold; 1 where it is not below the threshold chosen inside the fold.
    """

    target: Floats
    probability: Floats
    called: Floats

    def of(self, members: NDArray[np.bool_]) -> "OutOfFold":
        """Return the same for some of the objects."""
        return OutOfFold(
            target=self.target[members], probability=self.probability[:, members], called=self.called[:, members]
        )


def out_of_fold(table: Table, object_id: NDArray[np.str_], target: NDArray[np.float64]) -> OutOfFold:
    """Return the rows of one model's table by repeat and object, in the order of ``object_id``.

    ``ValueError`` where a repeat does not test every object exactly once.
    """
    place = {name: number for number, name in enumerate(object_id.tolist())}
    repeat = np.asarray(table["repeat"])
    shape = (len(np.unique(repeat)), len(object_id))
    column = np.array([place[name] for name in np.asarray(table["object_id"]).tolist()])
    tested = np.zeros(shape, dtype=np.int64)
    np.add.at(tested, (repeat, column), 1)
    if (tested != 1).any():
        wrong, number = np.argwhere(tested != 1)[0].tolist()
        raise ValueError(
            f"object {object_id[number]} is tested {tested[wrong, number]} times in repeat {wrong}, not once"
        )
    probability, called = np.empty(shape), np.empty(shape)
    probability[repeat, column] = table["calibrated_probability"]
    called[repeat, column] = table["called"]
    return OutOfFold(target=target, probability=probability, called=called)


@dataclass(frozen=True, kw_only=True, eq=False)
class PooledScores:
    """All scores of one model, mean over the repeats, NaN where undefined; and those of resampled objects, (draw,)."""

    objects: int
    positives: int
    value: dict[str, float]
    draws: dict[str, Floats]

    def score(self, metric: str, config: EvaluationConfig) -> Score:
        """Return one score with the percentile interval of its draws, binned scores without: resampling raises them."""
        drawn = self.draws[metric][np.isfinite(self.draws[metric])]
        if not np.isfinite(self.value[metric]) or not drawn.size:
            return Score(reason="undefined in this sample")
        if metric in BINNED_METRICS:
            return Score(value=self.value[metric], reason="the draws of a binned score lie above it")
        low, high = percentile_interval(drawn, config.confidence)
        return Score(value=self.value[metric], low=low, high=high)


def pooled_scores(scored: OutOfFold, config: EvaluationConfig) -> PooledScores:
    """Return all scores of a model; the draws are the same objects for every model of the same sample."""
    rng = np.random.default_rng(config.seed)
    counts = stratified_counts(scored.target, config.bootstrap_draws, rng)
    once = np.ones((1, len(scored.target)), dtype=np.int64)
    return PooledScores(
        objects=len(scored.target),
        positives=int(scored.target.sum()),
        value={name: float(values[0]) for name, values in _mean_metrics(scored, once, config).items()},
        draws=_mean_metrics(scored, counts, config, repeat_weights(len(scored.probability), len(counts), rng)),
    )


def repeat_weights(repeats: int, draws: int, rng: np.random.Generator) -> Floats:
    """(draw, repeat) weights of the repeats in the mean of each bootstrap draw.

    Repeats are drawn with replacement. Deviations from equal weights are scaled by sqrt(R / (R - 1)) for R repeats, so
    that the variance of the weighted mean is the unbiased estimate s**2 / R and not (R - 1) / R of it, as that of a
    plain bootstrap mean is (Davison & Hinkley 1997, section 2.3).
    """
    equal = np.full((draws, repeats), 1 / repeats)
    if repeats == 1:
        return equal
    drawn = rng.multinomial(repeats, equal[0], size=draws) / repeats
    return np.asarray(equal + np.sqrt(repeats / (repeats - 1)) * (drawn - equal))


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Score of model a minus score of model b on the same objects; None where undefined.

    Attributes
    ----------
    metric, value_a, value_b, value
        Which score, that of each model, and their difference.
    low, high
        Ends of the percentile interval of the paired stratified bootstrap.
    p_value
        Two-sided probability of a difference this far from 0 if there is none; below 1 - confidence exactly where
        the interval leaves out 0 (up to the granularity of the draws).
    confidence, bootstrap_draws
        Of the interval.
    """

    metric: str
    value_a: float | None
    value_b: float | None
    value: float | None
    low: float | None
    high: float | None
    p_value: float | None
    confidence: float
    bootstrap_draws: int


def difference(better: PooledScores, base: PooledScores, metric: str, config: EvaluationConfig) -> Difference:
    """Return how much better one model scores than another on the same objects, by paired bootstrap."""
    values = better.value[metric], base.value[metric], better.value[metric] - base.value[metric]
    value_a, value_b, value = (each if np.isfinite(each) else None for each in values)
    draws = better.draws[metric] - base.draws[metric]
    draws = draws[np.isfinite(draws)]
    defined = value is not None and draws.size > 0
    low, high = percentile_interval(draws, config.confidence) if defined else (None, None)
    smaller_tail = min(int(np.sum(draws <= 0)), int(np.sum(draws >= 0)))
    return Difference(
        metric=metric,
        value_a=value_a,
        value_b=value_b,
        value=value,
        low=low,
        high=high,
        p_value=min(1.0, 2 * (smaller_tail + 1) / (draws.size + 1)) if defined else None,
        confidence=config.confidence,
        bootstrap_draws=config.bootstrap_draws,
    )


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p values corrected for their number, in the same order (Holm 1979, step down); None where there is none.

    The chance of any false rejection stays below alpha where corrected values below alpha are rejected. ``ValueError``
    where a value is not between 0 and 1.
    """
    values = np.array([value for value in p_values if value is not None], dtype=np.float64)
    if wrong := values[~((values >= 0) & (values <= 1))].tolist():
        raise ValueError(f"p value is {wrong[0]}; allowed: 0 to 1")
    order = np.argsort(values, kind="stable")
    stepped = values[order] * np.arange(len(values), 0, -1)
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(stepped))
    left = iter(corrected.tolist())
    return [None if value is None else next(left) for value in p_values]


def _mean_metrics(
    scored: OutOfFold, counts: NDArray[np.int64], config: EvaluationConfig, weights: Floats | None = None
) -> dict[str, Floats]:
    """(draw,) mean of each score over repeats, weighted where ``weights`` (draw, repeat) are given.

    Scores of the decision come from ``called``, the others from probability.
    """
    parts = []
    for probability, called in zip(scored.probability, scored.called, strict=True):
        objects = scored_objects(scored.target, probability, 0.5, config.calibration_bins)
        weighed = counts.astype(np.float64)
        tp, positives = weighed @ (called * scored.target), weighed @ scored.target
        fp, negatives = weighed @ (called * (1 - scored.target)), weighed @ (1 - scored.target)
        with np.errstate(divide="ignore", invalid="ignore"):
            decided = decision_metrics(tp, fp, positives, negatives)
        parts.append(resampled_metrics(objects, counts) | decided)
    stacked = {name: np.stack([part[name] for part in parts], axis=1) for name in METRICS}
    if weights is None:
        return {name: values.mean(axis=1) for name, values in stacked.items()}
    return {name: (weights * values).sum(axis=1) for name, values in stacked.items()}

"""One label against another on the same objects: agreement and Cohen's kappa with intervals, and what is unknown."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mmagn.evaluation.config import EvaluationConfig
from mmagn.evaluation.intervals import exact_interval, percentile_interval
from mmagn.evaluation.scorecard import Score
from mmagn.records import Floats

STATES = ("positive", "negative", "unknown")


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far two labels agree.

    Attributes
    ----------
    names, counts
        Names of the two labels, and objects (first label, second label), each in the order of ``STATES``.
    agreement
        Fraction of the objects with both labels that have the same one, with its exact binomial interval.
    kappa
        Cohen's kappa (1960), the agreement beyond chance, with a percentile interval over resampled objects.
    recall
        Fraction of the objects with both labels, positive in the second one, that the first one calls positive.
    """

    names: tuple[str, str]
    counts: list[list[int]]
    agreement: Score
    kappa: Score
    recall: Score

    @property
    def both(self) -> int:
        """Number of objects that have both labels."""
        return sum(self.counts[0][:2]) + sum(self.counts[1][:2])

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "labels": list(self.names),
            "states": list(STATES),
            "counts": self.counts,
            "objects_with_both": self.both,
            "agreement": self.agreement.as_dict(),
            "kappa": self.kappa.as_dict(),
            "recall": self.recall.as_dict(),
        }


def label_agreement(first: ArrayLike, second: ArrayLike, names: tuple[str, str], config: EvaluationConfig) -> Agreement:
    """Return how far two named labels agree, (object,) each: 1 positive, 0 negative, NaN unknown."""
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    states = [(one == 1, one == 0, np.isnan(one)), (other == 1, other == 0, np.isnan(other))]
    counts = [[int(np.sum(of_one & of_other)) for of_other in states[1]] for of_one in states[0]]
    square = np.array([[*counts[0][:2]], [*counts[1][:2]]], dtype=np.float64)
    same, both = int(np.trace(square)), int(square.sum())
    return Agreement(
        names=names,
        counts=counts,
        agreement=_fraction(same, both, config.confidence, "no object has both labels"),
        kappa=_kappa_score(square, config),
        recall=_fraction(
            counts[0][0], int(square[:, 0].sum()), config.confidence, f"{names[1]} has no positive object"
        ),
    )


def _fraction(hits: int, trials: int, confidence: float, reason: str) -> Score:
    if not trials:
        return Score(reason=reason)
    low, high = exact_interval(hits, trials, confidence)
    return Score(value=hits / trials, low=low, high=high)


def _kappa_score(square: Floats, config: EvaluationConfig) -> Score:
    objects = int(square.sum())
    if not objects:
        return Score(reason="no object has both labels")
    if not (square.sum(axis=0).all() and square.sum(axis=1).all()):
        return Score(reason="one of the labels has a single class")
    value = float(kappa(square.reshape(1, -1))[0])
    drawn = np.random.default_rng(config.seed).multinomial(objects, square.ravel() / objects, config.bootstrap_draws)
    low, high = percentile_interval(kappa(drawn.astype(np.float64)), config.confidence)
    return Score(value=value, low=low, high=high)


def kappa(counts: Floats) -> Floats:
    """Return Cohen's kappa (table,) of 2 x 2 tables (table, 4) in row order; NaN where chance alone agrees fully."""
    a, b, c, d = counts.T
    total = counts.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        observed = (a + d) / total
        expected = ((a + b) * (a + c) + (c + d) * (b + d)) / total**2
        return np.asarray(np.where(expected < 1, (observed - expected) / (1 - expected), np.nan))

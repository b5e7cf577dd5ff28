"""The noise ceiling: what a model can score that knows every galaxy but not the noise of its label.

A label is a function of four measured line fluxes, so near a border of the BPT plane it is partly the noise of that
one spectrum. The Monte-Carlo soft label ``p_agn`` says how often a label is positive if the four fluxes are drawn anew
within their errors. The ceiling is the score of an oracle that answers ``p_agn`` itself, against labels drawn from it.

What it is: the score that remains if the labels came from a second spectrum of the same depth. It is what a model can
reach at best, on average, whose input does not hold the noise of the labels: images, line-free features, blanked
spectra, catalogues. Its interval is the spread over draws of the labels of *these* objects, not over other objects.

What it is not:

- A limit for a model that sees the lines of the very spectrum that the label was measured in (level L0). Noise that
  moved the label also moved its input, so it can score higher; with the fitted fluxes as input it can score 1.
- Exact. The draws are centred on the measured fluxes, which already hold the noise once, as if every flux were equally
  likely beforehand. Galaxies scattered over a border look as sure as those that belong there.
- About objects without a label. Only those whose four lines pass the S/N cut count; that a second spectrum might
  lose one of them is left out, as are errors that the flux errors do not know (continuum, wrong redshift).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmagn.evaluation.bootstrap import (
    METRICS,
    ScoredObjects,
    cumulative_counts,
    decision_metrics,
    resampled_metrics,
    scored_objects,
)
from mmagn.evaluation.config import EvaluationConfig
from mmagn.evaluation.scorecard import Score
from mmagn.records import Floats

CURVE_DRAWS = 500
"""Draws behind the band of a curve, at most."""


def noise_ceilings(p_agn: ArrayLike, *, config: EvaluationConfig) -> dict[str, Score]:
    """Return the noise ceiling of every score of ``METRICS``: mean over draws of the labels, and their interval.

    Parameters
    ----------
    p_agn
        (object,) probability of a positive label; NaN, where a flux has no error, is left out.
    config
        Draws, confidence, bins, seed, and the score that the oracle's threshold maximises, from ``p_agn`` alone.

    Returns
    -------
    dict
        Score by name; ``reason`` says why one is undefined.

    Raises
    ------
    ValueError
        Where a value is not between 0 and 1.
    """
    p = _known(p_agn)
    if not p.size:
        return {name: Score(reason="no object with a soft label") for name in METRICS}
    answers = _both_answers(p, oracle_threshold(p, config), config.calibration_bins)
    drawn = resampled_metrics(answers, _drawn_counts(p, config.bootstrap_draws, config.seed))
    return {name: _summary(drawn[name], config.confidence) for name in METRICS}


def noise_ceiling(
    p_agn: ArrayLike, *, metric: str = "average_precision", draws: int = 2000, seed: int = 0, confidence: float = 0.95
) -> Score:
    """Return the noise ceiling of one score, see :func:`noise_ceilings`.

    Raises
    ------
    ValueError
        Where the metric is unknown, or a value of ``p_agn`` is not between 0 and 1.
    """
    if metric not in METRICS:
        raise ValueError(f"metric is {metric!r}; allowed: {', '.join(METRICS)}")
    return noise_ceilings(p_agn, config=EvaluationConfig(bootstrap_draws=draws, seed=seed, confidence=confidence))[
        metric
    ]


@dataclass(frozen=True, kw_only=True)
class PartCeiling:
    """Noise ceilings of a sample or of one part of it.

    Attributes
    ----------
    stratum, part
        What the sample is parted by and which part it is; "" for the whole sample.
    scores
        Ceiling by name of the score.
    """

    stratum: str
    part: str
    scores: Mapping[str, Score]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "stratum": self.stratum,
            "part": self.part,
            **{name: score.as_dict() for name, score in self.scores.items()},
        }


def oracle_threshold(p_agn: ArrayLike, config: EvaluationConfig) -> float:
    """Return the probability from which on the oracle says yes: the best of the *expected* counts."""
    p = _known(p_agn)
    answers = _both_answers(p, 0.5, 1)
    distinct, (yes,), (no,) = cumulative_counts(answers.target, answers.score, np.concatenate([p, 1 - p])[None])
    with np.errstate(divide="ignore", invalid="ignore"):
        values = decision_metrics(yes, no, np.full_like(yes, yes[-1]), np.full_like(no, no[-1]))
    return float(distinct[int(np.argmax(np.nan_to_num(values[config.threshold_metric], nan=-1.0)))])


@dataclass(frozen=True, kw_only=True, eq=False)
class CeilingCurve:
    """Precision of the oracle against recall.

    Attributes
    ----------
    recall, precision
        (point,) recall and mean precision over the draws.
    low, high
        (point,) ends of the interval of the precision over the draws.
    """

    recall: Floats
    precision: Floats
    low: Floats
    high: Floats


def ceiling_curve(p_agn: ArrayLike, *, config: EvaluationConfig) -> CeilingCurve | None:
    """Return precision at recall 0.01 ... 1 of the oracle, None where no draw has a positive label."""
    p = _known(p_agn)
    recall = np.linspace(0.01, 1, 100)
    if not p.size:
        return None
    answers = _both_answers(p, 0.5, 1)
    counts = _drawn_counts(p, min(config.bootstrap_draws, CURVE_DRAWS), config.seed)
    _, true_positives, false_positives = cumulative_counts(answers.target, answers.score, counts)
    curves = []
    for hits, misses in zip(true_positives, false_positives, strict=True):
        if hits[-1] > 0:
            reached = np.searchsorted(hits / hits[-1], recall - 1e-12)
            curves.append(hits[reached] / (hits + misses)[reached])
    if not curves:
        return None
    low, high = np.quantile(curves, [(1 - config.confidence) / 2, (1 + config.confidence) / 2], axis=0)
    return CeilingCurve(recall=recall, precision=np.mean(curves, axis=0), low=low, high=high)


def _known(p_agn: ArrayLike) -> Floats:
    p = np.asarray(p_agn, dtype=np.float64).ravel()
    p = p[~np.isnan(p)]
    if wrong := p[(p < 0) | (p > 1)].tolist():
        raise ValueError(f"p_agn holds {wrong[0]}; allowed: a probability from 0 to 1, or NaN")
    return p


def _both_answers(p: Floats, threshold: float, bins: int) -> ScoredObjects:
    """Every object twice, as a positive and as a negative one: counts then say which of them a draw holds."""
    target = np.repeat([1.0, 0.0], len(p))
    return scored_objects(target, np.concatenate([p, p]), threshold, bins)


def _drawn_counts(p: Floats, draws: int, seed: int) -> NDArray[np.int64]:
    """(draw, 2 x object) counts of :func:`_both_answers` for labels drawn from ``p``."""
    positive = np.random.default_rng(seed).random((draws, len(p))) < p
    return np.concatenate([positive, ~positive], axis=1).astype(np.int64)


def _summary(drawn: Floats, confidence: float) -> Score:
    finite = drawn[np.isfinite(drawn)]
    if not finite.size:
        return Score(reason="undefined for labels drawn from p_agn: one class only, or nothing called positive")
    low, high = np.quantile(finite, [(1 - confidence) / 2, (1 + confidence) / 2]).tolist()
    return Score(value=float(finite.mean()), low=low, high=high)

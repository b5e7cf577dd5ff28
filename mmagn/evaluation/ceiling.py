"""The noise ceiling: the best score of a model that cannot know the noise of the labels.

A label is a function of four measured line fluxes; near a border of the BPT plane it depends on their noise. The soft
label ``p_agn`` is the fraction of Monte-Carlo draws of the fluxes, within their errors, that give a positive label.
The ceiling is the mean score of an oracle that predicts ``p_agn``, against labels drawn from it: the best that is
possible, on average, for images, line-free features, blanked spectra and catalogues. Its interval is the spread over
draws of the labels of these objects, not over other objects.

- A model that sees the lines of the same spectrum as the label (level L0) can score higher: noise that moved the label
  moved its input too.
- The ceiling is approximate. The draws are centred on the measured fluxes, which hold the noise once already.
- Objects without a label do not count, nor do errors that the flux errors leave out (continuum, wrong redshift).
"""

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
from mmagn.evaluation.intervals import RECALL, CurveBand, percentile_interval, precision_at_recall
from mmagn.evaluation.scorecard import Score
from mmagn.records import Floats

CURVE_DRAWS = 500
"""Draws behind the band of a curve, at most."""


def noise_ceilings(p_agn: ArrayLike, *, config: EvaluationConfig) -> dict[str, Score]:
    """Return the noise ceiling of every score of ``METRICS``: mean and interval over draws of the labels.

    Parameters
    ----------
    p_agn
        (object,) probability of a positive label; NaN, where a flux has no error, is left out.
    config
        Draws, confidence, bins, seed, and the score that the oracle's threshold maximises, from ``p_agn`` alone.

    Raises
    ------
    ValueError
        Where a value is not between 0 and 1.
    """
    p = _known(p_agn)
    if not p.size:
        return {name: Score(reason="no object with a soft label") for name in METRICS}
    doubled = _both_labels(p, oracle_threshold(p, config), config.calibration_bins)
    drawn = resampled_metrics(doubled, _drawn_counts(p, config.bootstrap_draws, config.seed))
    return {name: _summary(drawn[name], config.confidence) for name in METRICS}


def oracle_threshold(p_agn: ArrayLike, config: EvaluationConfig) -> float:
    """Return the decision threshold of the oracle: the best for the *expected* counts."""
    p = _known(p_agn)
    doubled = _both_labels(p, 0.5, 1)
    distinct, (yes,), (no,) = cumulative_counts(doubled.target, doubled.score, np.concatenate([p, 1 - p])[None])
    with np.errstate(divide="ignore", invalid="ignore"):
        values = decision_metrics(yes, no, np.full_like(yes, yes[-1]), np.full_like(no, no[-1]))
    return float(distinct[int(np.argmax(np.nan_to_num(values[config.threshold_metric], nan=-1.0)))])


def ceiling_curve(p_agn: ArrayLike, *, config: EvaluationConfig) -> CurveBand | None:
    """Return the precision of the oracle at ``RECALL`` over draws of the labels; None where no draw has a positive."""
    p = _known(p_agn)
    if not p.size:
        return None
    doubled = _both_labels(p, 0.5, 1)
    counts = _drawn_counts(p, min(config.bootstrap_draws, CURVE_DRAWS), config.seed)
    _, true_positives, false_positives = cumulative_counts(doubled.target, doubled.score, counts)
    draws = zip(true_positives, false_positives, strict=True)
    curves = [precision_at_recall(hits, misses) for hits, misses in draws if hits[-1] > 0]
    return CurveBand.of(RECALL, curves, config.confidence) if curves else None


def _known(p_agn: ArrayLike) -> Floats:
    p = np.asarray(p_agn, dtype=np.float64).ravel()
    p = p[~np.isnan(p)]
    if wrong := p[(p < 0) | (p > 1)].tolist():
        raise ValueError(f"p_agn holds {wrong[0]}; allowed: a probability from 0 to 1, or NaN")
    return p


def _both_labels(p: Floats, threshold: float, bins: int) -> ScoredObjects:
    """Every object twice, as a positive and as a negative one; counts select one of them for each draw."""
    target = np.repeat([1.0, 0.0], len(p))
    return scored_objects(target, np.concatenate([p, p]), threshold, bins)


def _drawn_counts(p: Floats, draws: int, seed: int) -> NDArray[np.int64]:
    """(draw, 2 x object) counts of :func:`_both_labels` for labels drawn from ``p``."""
    positive = np.random.default_rng(seed).random((draws, len(p))) < p
    return np.concatenate([positive, ~positive], axis=1).astype(np.int64)


def _summary(drawn: Floats, confidence: float) -> Score:
    finite = drawn[np.isfinite(drawn)]
    if not finite.size:
        return Score(reason="undefined for labels drawn from p_agn: one class only, or nothing called positive")
    low, high = percentile_interval(finite, confidence)
    return Score(value=float(finite.mean()), low=low, high=high)

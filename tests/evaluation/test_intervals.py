"""Intervals hold the truth as often as they say."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.metrics import average_precision_score, matthews_corrcoef, roc_auc_score

from mmagn.evaluation.bootstrap import resampled_metrics, scored_objects, stratified_counts
from mmagn.evaluation.config import EvaluationConfig
from mmagn.evaluation.intervals import (
    accelerations,
    bca_interval,
    calibrated_levels,
    precision_recall_band,
    roc_band,
)

CONFIG = EvaluationConfig(bootstrap_draws=300)


def survey(rng: np.random.Generator, positives: int, negatives: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A calibrated classifier on two normal populations 1.8 sigma apart."""
    y = np.repeat([1.0, 0.0], [positives, negatives])
    x = rng.normal(size=len(y)) + 1.8 * y
    return y, expit(1.8 * x - 1.8**2 / 2 + np.log(positives / negatives))


def test_95_per_cent_intervals_hold_the_true_score_about_95_per_cent_of_the_time() -> None:
    rng = np.random.default_rng(5)
    y, p = survey(rng, 40_000, 160_000)
    true = {
        "average_precision": average_precision_score(y, p),
        "mcc": matthews_corrcoef(y, p >= 0.35),
        "roc_auc": roc_auc_score(y, p),
    }
    surveys, held = 150, dict.fromkeys(true, 0)
    for _ in range(surveys):
        objects = scored_objects(*survey(rng, 32, 128), 0.35, 10)
        draws = resampled_metrics(objects, stratified_counts(objects.target, 400, rng))
        value = resampled_metrics(objects, np.ones((1, 160), dtype=np.int64))
        acceleration = accelerations(objects)
        for name in true:
            low, high = bca_interval(float(value[name][0]), draws[name], acceleration[name], 0.95)
            held[name] += low <= true[name] <= high
    for name, count in held.items():
        assert 0.90 <= count / surveys <= 0.99, (name, count / surveys)


def test_without_bias_and_acceleration_the_interval_is_the_percentile_interval() -> None:
    draws = np.linspace(-1, 1, 2001)
    assert bca_interval(0.0, draws, 0.0, 0.95) == pytest.approx((-0.95, 0.95))


def test_an_interval_always_holds_its_value_and_ignores_undefined_draws() -> None:
    assert bca_interval(0.0, np.array([0.5, np.nan, 1.0]), 0.0, 0.95)[0] == 0.0
    assert np.isnan(bca_interval(0.0, np.array([np.nan]), 0.0, 0.95)).all()


def test_the_acceleration_of_a_mean_is_a_sixth_of_its_skewness_over_root_n() -> None:
    rng = np.random.default_rng(6)
    p = rng.beta(1, 6, size=400)
    y = np.zeros(400)
    error = p**2 - np.mean(p**2)
    expected = np.sum(error**3) / (6 * np.sum(error**2) ** 1.5)
    assert accelerations(scored_objects(y, p, 0.5, 10))["brier"] == pytest.approx(expected, rel=0.02)


def test_a_calibrated_model_has_a_calibration_error_above_zero_that_shrinks_with_the_sample() -> None:
    rng = np.random.default_rng(7)
    few, many = (
        calibrated_levels(scored_objects(*survey(rng, n, 4 * n), 0.5, 10), 200, rng)["calibration_error"].mean()
        for n in (30, 1500)
    )
    assert 0.02 < few < 0.1
    assert many < few / 4


def test_bands_hold_their_curve() -> None:
    y, p = survey(np.random.default_rng(8), 40, 160)
    band = precision_recall_band(y, p, config=CONFIG)
    order = np.argsort(-p)
    true_positives, ranks = np.cumsum(y[order]), np.arange(1, len(y) + 1)
    reached = np.searchsorted(true_positives / 40, band.x - 1e-12)
    precision = true_positives[reached] / ranks[reached]
    assert np.mean((band.low <= precision) & (precision <= band.high)) > 0.97
    rates = roc_band(y, p, config=CONFIG)
    assert (rates.low <= rates.high).all()
    assert rates.low[-1] == rates.high[-1] == 1


def test_the_mean_of_the_precision_band_of_a_perfect_model_is_one() -> None:
    band = precision_recall_band([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], config=CONFIG)
    assert (band.low == 1).all()


def test_a_band_needs_both_classes() -> None:
    with pytest.raises(ValueError, match="one class only"):
        roc_band([0, 0], [0.1, 0.2], config=CONFIG)

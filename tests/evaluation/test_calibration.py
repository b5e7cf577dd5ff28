"""A score is called a probability only after the loss's prior shift is undone and validation objects agree."""

import json

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, logit

from mmagn.evaluation.calibration import (
    Calibration,
    Kind,
    fitted_calibration,
    reliability,
    unshifted_logits,
    with_prevalence,
)


def drawn(count: int, slope: float, intercept: float, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Targets drawn from expit(slope * z + intercept) for logits z."""
    rng = np.random.default_rng(seed)
    z = rng.normal(-1, 2, size=count)
    return (rng.random(count) < expit(slope * z + intercept)).astype(float), z


def test_the_weighted_loss_is_smallest_at_the_logit_that_unshifting_takes_back() -> None:
    p, weight = 0.13, 6.7
    logits = np.linspace(-6, 6, 120_001)
    loss = weight * p * np.logaddexp(0, -logits) + (1 - p) * np.logaddexp(0, logits)
    learned = logits[np.argmin(loss)]
    assert expit(unshifted_logits(learned, weight)) == pytest.approx(p, abs=1e-4)


def test_a_weight_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="pos_weight is 0"):
        unshifted_logits([0.0], 0)


def test_platt_finds_slope_and_intercept_behind_the_shift() -> None:
    y, z = drawn(20_000, 0.6, -0.4)
    result = fitted_calibration(y, z + np.log(5.0), pos_weight=5.0)
    assert result.slope == pytest.approx(0.6, abs=0.03)
    assert result.intercept == pytest.approx(-0.4, abs=0.06)
    assert result.probability(z + np.log(5.0)).mean() == pytest.approx(y.mean(), abs=1e-3)


def test_temperature_finds_the_slope_alone() -> None:
    y, z = drawn(20_000, 0.5, 0.0)
    result = fitted_calibration(y, z, pos_weight=1.0, kind="temperature")
    assert result.slope == pytest.approx(0.5, abs=0.03)
    assert result.intercept == 0.0


@pytest.mark.parametrize("kind", ["none", "temperature", "platt", "isotonic"])
def test_calibration_lowers_the_error_and_never_turns_the_order(kind: Kind) -> None:
    y, z = drawn(4000, 0.4, -0.5)
    fitted = fitted_calibration(y[:2000], z[:2000], pos_weight=1.0, kind=kind)
    p = fitted.probability(z[2000:])
    assert (np.diff(p[np.argsort(z[2000:])]) >= 0).all()
    assert ((p > 0) & (p < 1)).all()
    before = np.mean((expit(z[2000:]) - y[2000:]) ** 2)
    assert np.mean((p - y[2000:]) ** 2) <= before


@pytest.mark.parametrize("kind", ["temperature", "platt", "isotonic"])
def test_a_map_fitted_on_a_thousand_objects_errs_by_less_than_three_per_cent_on_new_ones(kind: Kind) -> None:
    weight, intercept = 4.0, 0.0 if kind == "temperature" else -0.6
    before, after = [], []
    for seed in range(8):
        y, z = drawn(1000, 0.4, intercept, seed)
        new, new_z = drawn(20_000, 0.4, intercept, seed + 100)
        result = fitted_calibration(y, z + np.log(weight), pos_weight=weight, kind=kind)
        before.append(calibration_error(new, expit(new_z + np.log(weight))))
        after.append(calibration_error(new, result.probability(new_z + np.log(weight))))
    assert np.mean(before) > 0.1
    assert np.mean(after) < 0.03


def calibration_error(y: NDArray[np.float64], probability: NDArray[np.float64]) -> float:
    result = reliability(y, probability)
    return float(np.sum(result.count * np.abs(result.forecast - result.observed)) / len(y))


def test_the_order_is_kept_even_where_validation_objects_speak_against_it() -> None:
    y, z = drawn(300, -1.0, 0.0)
    for kind in ("temperature", "platt"):
        assert fitted_calibration(y, z, pos_weight=1.0, kind=kind).slope > 0


def test_perfectly_separated_objects_do_not_give_certainty() -> None:
    result = fitted_calibration([0, 0, 0, 1, 1], [-3, -2, -1, 1, 2], pos_weight=1.0)
    assert result.probability([2.0])[0] < 0.99


def test_isotonic_is_refused_below_a_thousand_objects() -> None:
    y, z = drawn(999, 1.0, 0.0)
    with pytest.raises(ValueError, match="has 999 objects; allowed: 1000 or more"):
        fitted_calibration(y, z, pos_weight=1.0, kind="isotonic")


def test_one_class_gives_the_plain_map_with_its_reason() -> None:
    result = fitted_calibration([0, 0], [0.1, 0.2], pos_weight=2.0)
    assert result.kind == "none"
    assert "one class only" in result.reason
    np.testing.assert_allclose(result.probability([np.log(2.0)]), 0.5)


@pytest.mark.parametrize("kind", ["none", "platt", "isotonic"])
def test_a_saved_map_gives_the_same_probabilities(kind: Kind) -> None:
    y, z = drawn(1200, 0.7, 0.2)
    result = fitted_calibration(y, z, pos_weight=3.0, kind=kind)
    again = Calibration.from_dict(json.loads(json.dumps(result.as_dict(), allow_nan=False)))
    np.testing.assert_array_equal(result.probability(z), again.probability(z))


def test_another_prevalence_follows_bayes() -> None:
    positive, negative, before, after = 3.0, 1.5, 0.2, 0.05
    p = positive * before / (positive * before + negative * (1 - before))
    expected = positive * after / (positive * after + negative * (1 - after))
    assert with_prevalence(p, before, after) == pytest.approx(expected)
    assert with_prevalence(p, before, before) == pytest.approx(p)
    with pytest.raises(ValueError, match=r"target_prevalence is 1\.0"):
        with_prevalence(p, before, 1.0)


def test_a_target_prevalence_moves_all_logits_by_the_same_amount() -> None:
    y, z = drawn(2000, 1.0, 0.0)
    result = fitted_calibration(y, z, pos_weight=1.0)
    shift = logit(result.probability(z, target_prevalence=0.01)) - logit(result.probability(z))
    np.testing.assert_allclose(shift, logit(0.01) - logit(y.mean()), atol=1e-9)


def test_reliability_counts_every_object_once() -> None:
    y, z = drawn(1000, 1.0, 0.0)
    result = reliability(y, expit(z), bins=10)
    assert result.count.sum() == 1000
    assert np.sum(result.count * result.observed) == pytest.approx(y.sum())
    assert (np.diff(result.forecast) > 0).all()
    assert ((result.low <= result.observed) & (result.observed <= result.high)).all()
    assert np.sum((result.low <= result.forecast) & (result.forecast <= result.high)) >= 8


def test_reliability_of_a_bin_without_positives_reaches_down_to_zero() -> None:
    result = reliability([0, 0, 0], [0.1, 0.1, 0.1], bins=5)
    assert result.low[0] == result.observed[0] == 0
    assert result.high[0] == pytest.approx(1 - 0.025 ** (1 / 3))

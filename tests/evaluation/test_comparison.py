"""Models are compared on the same objects, and many questions cost something."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from numpy.typing import NDArray

from mmagn.evaluation.config import EvaluationConfig
from mmagn.evaluation.pooled import Difference, OutOfFold, difference, holm, pooled_scores

CONFIG = EvaluationConfig(bootstrap_draws=300)


def models(separation: float, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    y = (np.arange(400) < 80).astype(float)
    noise = rng.normal(size=400)
    good = 1 / (1 + np.exp(-2 * y - noise + 1))
    bad = 1 / (1 + np.exp(-separation * y - noise + 1))
    return y, good, bad


def paired_difference(target, good, bad, metric, thresholds=(0.5, 0.5)) -> Difference:
    """Difference of two models with one repeat each."""
    y = np.asarray(target, dtype=float)
    pooled = [
        pooled_scores(
            OutOfFold(target=y, probability=np.array([score]), called=np.array([np.asarray(score) >= threshold]) * 1.0),
            CONFIG,
        )
        for score, threshold in zip((good, bad), thresholds, strict=True)
    ]
    return difference(pooled[0], pooled[1], metric, CONFIG)


def test_identical_models_differ_by_nothing() -> None:
    y, good, _ = models(0.0)
    result = paired_difference(y, good, good, "average_precision")
    assert result.value == result.low == result.high == 0.0
    assert result.p_value == 1.0


def test_a_better_model_is_found_better() -> None:
    y, good, bad = models(0.5)
    result = paired_difference(y, good, bad, "average_precision")
    assert result.low is not None
    assert result.p_value is not None
    assert result.low > 0
    assert result.p_value == pytest.approx(2 / 301)


def test_swapping_the_models_turns_the_sign() -> None:
    y, good, bad = models(1.7)
    one = paired_difference(y, good, bad, "mcc", thresholds=(0.4, 0.6))
    other = paired_difference(y, bad, good, "mcc", thresholds=(0.6, 0.4))
    assert one.value == pytest.approx(-other.value)
    assert one.low == pytest.approx(-other.high)
    assert one.p_value == other.p_value


def test_the_interval_leaves_out_zero_where_the_p_value_is_small() -> None:
    agree = 0
    for seed in range(10):
        y, good, bad = models(1.75, seed)
        result = paired_difference(y, good, bad, "average_precision")
        assert result.low is not None
        assert result.high is not None
        assert result.p_value is not None
        agree += (result.low > 0 or result.high < 0) == (result.p_value < 0.05)
    assert agree >= 9


def test_a_missing_class_leaves_the_difference_undefined() -> None:
    result = paired_difference([0, 0], [0.1, 0.2], [0.3, 0.1], "average_precision")
    assert result.value is result.low is result.p_value is None
    json.dumps(asdict(result), allow_nan=False)


def test_holm_multiplies_the_smallest_by_all_and_never_turns_the_order() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, None, 0.9]) == [1.0, None, 1.0]
    assert holm([]) == []
    with pytest.raises(ValueError, match=r"p value is 1\.5"):
        holm([0.1, 1.5])

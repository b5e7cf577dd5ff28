"""Agreement of two labels: Cohen's kappa of scikit-learn, intervals that cover, and what is unknown."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from mmagn.evaluation.agreement import label_agreement
from mmagn.evaluation.config import EvaluationConfig

CONFIG = EvaluationConfig(bootstrap_draws=500)


def pair_of_labels(rng: np.random.Generator, count: int, flipped: float) -> tuple[np.ndarray, np.ndarray]:
    first = (rng.random(count) < 0.3).astype(float)
    return first, np.where(rng.random(count) < flipped, 1 - first, first)


def test_kappa_is_that_of_scikit_learn_and_unknown_objects_count_apart() -> None:
    first, second = pair_of_labels(np.random.default_rng(1), 300, 0.2)
    first[:20], second[10:50] = np.nan, np.nan
    both = np.isfinite(first) & np.isfinite(second)
    result = label_agreement(first, second, ("one", "other"), CONFIG)
    assert result.both == both.sum() == 250
    assert result.kappa.value == pytest.approx(cohen_kappa_score(first[both], second[both]))
    assert result.agreement.value == pytest.approx((first == second)[both].mean())
    assert np.sum(result.counts) == 300
    assert result.counts[2][2] == 10


def test_the_intervals_hold_the_true_values_in_nineteen_of_twenty_samples() -> None:
    large = label_agreement(*pair_of_labels(np.random.default_rng(2), 400_000, 0.2), ("one", "other"), CONFIG)
    inside = []
    for seed in range(200):
        result = label_agreement(*pair_of_labels(np.random.default_rng(seed), 120, 0.2), ("one", "other"), CONFIG)
        inside.append(
            [
                each.low <= true.value <= each.high
                for each, true in ((result.kappa, large.kappa), (result.agreement, large.agreement))
            ]
        )
    covered = np.mean(inside, axis=0)
    assert ((covered > 0.89) & (covered <= 1)).all(), covered


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ([1, 1], [1, 0], "one of the labels has a single class"),
        ([1, 0], [np.nan, np.nan], "no object has both labels"),
        ([], [], "no object has both labels"),
    ],
)
def test_kappa_that_means_nothing_is_undefined(first: list, second: list, reason: str) -> None:
    assert label_agreement(first, second, ("one", "other"), CONFIG).kappa.reason == reason

"""All scores of all resamples in one go are scikit-learn's scores of each resample."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics

from mmagn.evaluation.bootstrap import (
    METRICS,
    probability_bins,
    resampled_metrics,
    scored_objects,
    stratified_counts,
)

THRESHOLD = 0.4


def sample(count: int = 60, *, ties: bool = False, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    target = (np.arange(count) < count // 4).astype(float)
    score = 1 / (1 + np.exp(1.0 - 2 * target - rng.normal(size=count)))
    return target, np.round(score, 1) if ties else score


def sklearn_scores(y: NDArray[np.float64], p: NDArray[np.float64]) -> dict[str, float]:
    called = (p >= THRESHOLD).astype(int)
    precision, recall, _ = metrics.precision_recall_curve(y, p)
    return {
        "average_precision": metrics.average_precision_score(y, p),
        "mcc": metrics.matthews_corrcoef(y, called),
        "roc_auc": metrics.roc_auc_score(y, p),
        "precision": metrics.precision_score(y, called, zero_division=np.nan),
        "recall": metrics.recall_score(y, called),
        "f1": metrics.f1_score(y, called),
        "balanced_accuracy": metrics.balanced_accuracy_score(y, called),
        "accuracy": metrics.accuracy_score(y, called),
        "recall_at_precision_90": max(recall[precision >= 0.9]),
        "brier": metrics.brier_score_loss(y, p),
        "log_loss": metrics.log_loss(y, p),
    }


@pytest.mark.parametrize("ties", [False, True])
def test_scores_of_resamples_equal_scikit_learn_on_the_same_objects(ties: bool) -> None:
    y, p = sample(ties=ties)
    counts = stratified_counts(y, 15, np.random.default_rng(1))
    result = resampled_metrics(scored_objects(y, p, THRESHOLD, 10), counts)
    for draw, row in enumerate(counts):
        chosen = np.repeat(np.arange(len(y)), row)
        for name, value in sklearn_scores(y[chosen], p[chosen]).items():
            np.testing.assert_allclose(result[name][draw], value, rtol=0, atol=1e-12, err_msg=name)


def test_the_order_of_objects_does_not_matter() -> None:
    y, p = sample(ties=True)
    shuffled = np.random.default_rng(2).permutation(len(y))
    ones = np.ones((1, len(y)), dtype=np.int64)
    one = resampled_metrics(scored_objects(y, p, THRESHOLD, 5), ones)
    other = resampled_metrics(scored_objects(y[shuffled], p[shuffled], THRESHOLD, 5), ones)
    for name in METRICS:
        np.testing.assert_allclose(one[name], other[name], atol=1e-12)


def test_brier_is_reliability_minus_resolution_plus_uncertainty_where_a_bin_has_one_probability() -> None:
    rng = np.random.default_rng(3)
    p = rng.choice([0.1, 0.4, 0.9], size=300)
    y = (rng.random(300) < p).astype(float)
    result = resampled_metrics(scored_objects(y, p, 0.5, 10), np.ones((1, 300), dtype=np.int64))
    parts = result["brier_reliability"] - result["brier_resolution"] + result["brier_uncertainty"]
    np.testing.assert_allclose(result["brier"], parts, atol=1e-12)
    np.testing.assert_allclose(result["brier_within_bins"], 0, atol=1e-12)


def test_a_forecast_of_the_prevalence_is_reliable_and_resolves_nothing() -> None:
    y = np.array([1.0, 0, 0, 0] * 10)
    result = resampled_metrics(scored_objects(y, np.full(40, 0.25), 0.5, 10), np.ones((1, 40), dtype=np.int64))
    assert result["calibration_error"][0] == result["brier_reliability"][0] == result["brier_resolution"][0] == 0
    assert result["brier"][0] == result["brier_uncertainty"][0] == pytest.approx(0.25 * 0.75)
    assert result["average_precision"][0] == pytest.approx(0.25)
    assert result["roc_auc"][0] == pytest.approx(0.5)


def test_resamples_keep_the_size_of_each_class() -> None:
    y, _ = sample()
    counts = stratified_counts(y, 200, np.random.default_rng(4))
    assert (counts[:, y == 1].sum(axis=1) == y.sum()).all()
    assert (counts.sum(axis=1) == len(y)).all()
    assert abs(counts.mean(axis=0) - 1).max() < 0.5


def test_bins_hold_about_equal_counts_and_never_part_equal_scores() -> None:
    assert np.bincount(probability_bins(np.linspace(0, 1, 100), 10)).tolist() == [10] * 10
    tied = np.array([0.1] * 50 + [0.2, 0.3, 0.4])
    index = probability_bins(tied, 10)
    assert len(set(index[:50])) == 1
    assert index.max() == len(set(index)) - 1


@pytest.mark.parametrize(
    ("target", "score", "sentence"),
    [
        ([0, 1], [0.1], "one number per object"),
        ([0, np.nan], [0.1, 0.2], "target of object 1 is nan; allowed: 0 or 1"),
        ([0, 1], [0.1, 1.2], "score of object 1 is 1.2"),
        ([0, 1], [np.nan, 0.2], "score of object 0 is nan"),
    ],
)
def test_what_is_no_truth_or_no_probability_is_refused(target: list[float], score: list[float], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        scored_objects(target, score, 0.5, 10)

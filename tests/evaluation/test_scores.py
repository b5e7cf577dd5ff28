"""Scores come with intervals, prevalence and the baseline to beat, and say so where they are undefined."""

import json
import logging

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import f1_score, matthews_corrcoef

from mmagn.evaluation.bootstrap import METRICS
from mmagn.evaluation.config import EvaluationConfig
from mmagn.evaluation.scores import best_threshold, scores

CONFIG = EvaluationConfig(bootstrap_draws=300)


def sample(count: int = 200, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    y = (np.arange(count) < count // 5).astype(float)
    return y, 1 / (1 + np.exp(2 - 2 * y - rng.normal(size=count)))


def test_every_score_is_given_inside_its_interval() -> None:
    result = scores(*sample(), 0.3, config=CONFIG)
    assert tuple(result.scores) == METRICS
    for name, score in result.scores.items():
        assert score.value is not None, name
        assert score.low is not None, name
        assert score.high is not None, name
        assert score.low <= score.value <= score.high, name


def test_average_precision_and_mcc_come_first() -> None:
    assert METRICS[:2] == ("average_precision", "mcc")


def test_the_blog_post_recall_of_three_in_five_is_anything_from_0_15_to_0_95() -> None:
    y = np.repeat([1.0, 0.0], [5, 33])
    p = np.full(38, 0.1)
    p[[0, 1, 2, 5, 6]] = 0.9
    result = scores(y, p, 0.5, config=CONFIG)
    assert result["recall"].value == pytest.approx(0.6)
    assert result["precision"].value == pytest.approx(0.6)
    assert result["accuracy"].value == pytest.approx(0.895, abs=5e-4)
    assert (result["recall"].exact_low, result["recall"].exact_high) == pytest.approx((0.15, 0.95), abs=0.005)
    assert result.all_negative["accuracy"] == pytest.approx(33 / 38)


def test_the_all_negative_model_scores_its_own_baseline() -> None:
    y, _ = sample()
    result = scores(y, np.zeros(200), 0.5, config=CONFIG)
    for name, baseline in result.all_negative.items():
        assert result[name].value == pytest.approx(baseline), name
    assert result.all_negative["average_precision"] == result.prevalence == 0.2
    assert result["precision"].reason == "nothing is predicted positive"
    assert result.confusion_matrix == [[160, 0], [40, 0]]


def test_a_perfect_model_scores_one_and_a_coin_scores_the_prevalence() -> None:
    y, _ = sample(2000)
    perfect = scores(y, y, 0.5, config=CONFIG)
    for name in ("average_precision", "mcc", "roc_auc", "precision", "recall", "f1", "recall_at_precision_90"):
        assert perfect[name].value == perfect[name].low == 1.0
    assert perfect["brier"].value == perfect["calibration_error"].value == 0.0
    coin = scores(y, np.random.default_rng(1).random(2000), 0.5, config=CONFIG)
    low, high = coin["average_precision"].low, coin["average_precision"].high
    assert low is not None
    assert high is not None
    assert low - 0.02 < 0.2 < high + 0.02


@pytest.mark.parametrize(
    ("target", "reason", "defined"),
    [
        ([0, 0, 0], "no positive object", ("accuracy", "brier", "log_loss", "calibration_error")),
        ([1, 1, 1], "no negative object", ("accuracy", "recall", "f1", "precision", "brier")),
        ([], "no objects", ()),
    ],
)
def test_where_a_class_is_missing_scores_are_null_with_a_reason_and_the_rest_goes_on(
    target: list[int], reason: str, defined: tuple[str, ...]
) -> None:
    result = scores(target, [0.2, 0.6, 0.8][: len(target)], 0.5, config=CONFIG)
    for name in ("average_precision", "mcc", "roc_auc", "balanced_accuracy"):
        assert result[name].value is None
        assert result[name].reason == reason
    for name in defined:
        assert result[name].value is not None, name
    json.dumps(result.as_dict(), allow_nan=False)
    assert reason in result.text()


def test_one_object_of_a_class_gives_no_bootstrap_interval() -> None:
    result = scores([1, 0, 0, 0], [0.9, 0.1, 0.2, 0.3], 0.5, config=CONFIG)
    assert result["recall"].value == 1.0
    assert result["recall"].low is None
    assert "a single object" in result["recall"].reason
    assert result["recall"].exact_low == pytest.approx(0.025)


def test_perfect_calibration_is_excluded_only_where_the_data_exclude_it() -> None:
    rng = np.random.default_rng(3)
    p = rng.beta(1, 4, size=400)
    y = (rng.random(400) < p).astype(float)
    calibrated = scores(y, p, 0.5, config=CONFIG)["calibration_error"]
    shifted = scores(y, np.minimum(1, p + 0.2), 0.5, config=CONFIG)["calibration_error"]
    assert calibrated.low == 0.0
    assert shifted.low is not None
    assert shifted.calibrated_high is not None
    assert shifted.low > 0.1 > shifted.calibrated_high


def test_scores_are_json_with_the_report_of_scikit_learn() -> None:
    result = json.loads(json.dumps(scores(*sample(), 0.3, config=CONFIG).as_dict(), allow_nan=False))
    assert set(result["scores"]) == set(METRICS)
    assert result["classification_report"]["AGN"]["support"] == 40
    assert "precision    recall  f1-score" in result["classification_report_text"]
    assert result["prevalence"] == 0.2
    assert np.sum(result["confusion_matrix"]) == 200


def test_the_same_seed_gives_the_same_intervals() -> None:
    one, other = (scores(*sample(), 0.3, config=CONFIG).as_dict() for _ in range(2))
    assert one == other


@pytest.mark.parametrize(("metric", "function"), [("mcc", matthews_corrcoef), ("f1", f1_score)])
def test_no_other_threshold_is_better(metric: str, function: object) -> None:
    y, p = sample(60)
    threshold = best_threshold(y, p, metric)  # type: ignore[arg-type]
    best = max(function(y, p >= other) for other in p)  # type: ignore[operator]
    assert function(y, p >= threshold) == pytest.approx(best)  # type: ignore[operator]


def test_a_threshold_lies_half_way_between_the_scores_it_divides() -> None:
    assert best_threshold([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.9]) == pytest.approx(0.4)


def test_neighbouring_numbers_are_still_divided() -> None:
    low = 0.3
    high = np.nextafter(low, 1)
    assert best_threshold([0, 1], [low, high]) == high


def test_one_class_leaves_the_threshold_at_a_half_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert best_threshold([0, 0], [0.1, 0.9]) == 0.5
    assert "one class only" in caplog.text

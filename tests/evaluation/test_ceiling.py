"""The noise ceiling is what an oracle scores that knows every probability and no label."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, matthews_corrcoef

from mmagn.evaluation.bootstrap import METRICS
from mmagn.evaluation.ceiling import ceiling_curve, noise_ceilings, oracle_threshold
from mmagn.evaluation.config import EvaluationConfig

CONFIG = EvaluationConfig(bootstrap_draws=400)


def doubtful(count: int = 300) -> np.ndarray:
    return np.random.default_rng(1).beta(0.3, 0.9, count)


def test_labels_without_noise_can_be_known_for_sure() -> None:
    result = noise_ceilings(np.repeat([0.0, 1.0], [70, 30]), config=CONFIG)
    for name in ("average_precision", "mcc", "roc_auc", "f1", "recall_at_precision_90"):
        assert (result[name].value, result[name].low, result[name].high) == (1, 1, 1), name
    assert result["brier"].value == 0


def test_labels_of_noise_alone_score_at_prevalence() -> None:
    result = noise_ceilings(np.full(400, 0.25), config=CONFIG)
    assert result["average_precision"].value == pytest.approx(0.25, abs=0.01)
    assert result["mcc"].value == 0
    assert result["roc_auc"].value == 0.5
    assert result["brier"].value == pytest.approx(0.25 * 0.75, abs=0.003)


def test_the_ceiling_is_the_mean_score_of_the_oracle_over_draws_of_the_labels() -> None:
    p, rng = doubtful(), np.random.default_rng(7)
    drawn = [(rng.random(len(p)) < p).astype(int) for _ in range(150)]
    threshold = oracle_threshold(p, CONFIG)
    result = noise_ceilings(p, config=CONFIG)
    expected = {
        "average_precision": np.mean([average_precision_score(y, p) for y in drawn]),
        "mcc": np.mean([matthews_corrcoef(y, p >= threshold) for y in drawn]),
        "brier": np.mean([brier_score_loss(y, p) for y in drawn]),
    }
    for name, value in expected.items():
        score = result[name]
        assert score.value == pytest.approx(value, abs=0.02), name
        assert score.low < score.value < score.high


def test_nobody_who_guesses_the_order_beats_the_oracle() -> None:
    p, rng = doubtful(), np.random.default_rng(2)
    ceiling = noise_ceilings(p, config=CONFIG)["average_precision"]
    blurred = np.clip(p + 0.2 * rng.normal(size=len(p)), 0, 1)
    scored = [average_precision_score(rng.random(len(p)) < p, blurred) for _ in range(200)]
    assert ceiling.value is not None
    assert np.mean(scored) < ceiling.value


def test_the_threshold_is_the_best_of_all_for_expected_counts() -> None:
    p, rng = doubtful(), np.random.default_rng(3)
    drawn = [rng.random(len(p)) < p for _ in range(40)]

    def mean_mcc(threshold: float) -> float:
        return float(np.mean([matthews_corrcoef(y, p >= threshold) for y in drawn]))

    best = mean_mcc(oracle_threshold(p, CONFIG))
    assert all(mean_mcc(other) < best + 0.015 for other in (0.1, 0.2, 0.35, 0.5, 0.65, 0.8))


def test_one_seed_gives_one_ceiling_and_objects_without_a_soft_label_change_nothing() -> None:
    p = doubtful()
    with_unknown = np.insert(p, 5, np.nan)
    assert noise_ceilings(p, config=CONFIG) == noise_ceilings(with_unknown, config=CONFIG)


def test_the_curve_encloses_its_mean_and_has_the_area_of_the_average_precision() -> None:
    p = doubtful()
    curve = ceiling_curve(p, config=CONFIG)
    assert curve is not None
    middle = slice(10, None)  # at the very first recalls nearly all draws have precision 1
    assert np.all((curve.low <= curve.mean)[middle] & (curve.mean <= curve.high)[middle])
    assert curve.mean.mean() == pytest.approx(noise_ceilings(p, config=CONFIG)["average_precision"].value, abs=0.01)


def test_without_soft_labels_every_ceiling_says_why_it_is_missing() -> None:
    for p in ([], [np.nan]):
        result = noise_ceilings(p, config=CONFIG)
        assert set(result) == set(METRICS)
        assert all(score.value is None and score.reason for score in result.values())
        assert ceiling_curve(p, config=CONFIG) is None
    assert noise_ceilings([0.0, 0.0], config=CONFIG)["average_precision"].reason
    assert ceiling_curve([0.0, 0.0], config=CONFIG) is None


def test_a_value_that_is_no_probability_is_refused() -> None:
    with pytest.raises(ValueError, match=r"p_agn holds 1\.5; allowed"):
        noise_ceilings([0.1, 1.5], config=CONFIG)

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import average_precision_score

from mmagn.records import Floats
from mmagn.training.heads.late_fusion import late_fusion_weights


def drawn(count: int, seed: int) -> tuple[Floats, dict[str, Floats]]:
    """Classes with two independent pieces of evidence, each of them a calibrated logit."""
    rng = np.random.default_rng(seed)
    target = (rng.random(count) < 0.3).astype(np.float64)
    prior = np.log(0.3 / 0.7)
    strength = {"features": 2.0, "spectrum": 1.5}
    return target, {
        name: prior + each * (each * (target - 0.5) + rng.standard_normal(count)) for name, each in strength.items()
    }


def fused(logits: dict[str, Floats], weights: dict[str, float], bias: float) -> Floats:
    return np.asarray(sum(weights[name] * values for name, values in logits.items()) + bias)


def test_independent_evidence_is_added_up() -> None:
    target, logits = drawn(10_000, 0)
    weights, bias = late_fusion_weights(logits, target)
    assert weights == pytest.approx({"features": 1.0, "spectrum": 1.0}, abs=0.15)
    test_target, test_logits = drawn(4000, 1)
    score = average_precision_score(test_target, fused(test_logits, weights, bias))
    assert score > average_precision_score(test_target, test_logits["features"]) + 0.02


def test_the_fused_logit_is_that_of_a_probability_whatever_the_scale_of_the_parts() -> None:
    target, logits = drawn(4000, 2)
    stretched = {name: 7 * values + 3 for name, values in logits.items()}
    probability = expit(fused(stretched, *late_fusion_weights(stretched, target)))
    high = probability > 0.5
    assert probability.mean() == pytest.approx(target.mean(), abs=0.01)
    assert probability[high].mean() == pytest.approx(target[high].mean(), abs=0.04)


@pytest.mark.parametrize("seed", range(5))
def test_noise_beside_a_good_modality_costs_little_with_a_hundred_objects(seed: int) -> None:
    rng = np.random.default_rng(seed)
    target, logits = drawn(100, seed)
    logits["spectrum"] = rng.standard_normal(100)
    weights, bias = late_fusion_weights(logits, target)
    test_target, test_logits = drawn(4000, 100 + seed)
    test_logits["spectrum"] = rng.standard_normal(4000)
    score = average_precision_score(test_target, fused(test_logits, weights, bias))
    assert score > average_precision_score(test_target, test_logits["features"]) - 0.005


def test_no_weight_is_negative() -> None:
    target, logits = drawn(300, 3)
    logits["head"] = -logits["features"]
    weights, _ = late_fusion_weights(logits, target)
    assert min(weights.values()) >= 0
    assert weights["head"] == pytest.approx(0.0, abs=0.05)


def test_classes_that_one_modality_separates_give_finite_weights() -> None:
    target = np.repeat([0.0, 1.0], 20)
    weights, bias = late_fusion_weights({"features": 100 * target, "spectrum": target}, target)
    assert np.isfinite([*weights.values(), bias]).all()


def test_a_modality_alone_is_calibrated() -> None:
    target, logits = drawn(4000, 4)
    weights, bias = late_fusion_weights({"spectrum": 3 * logits["spectrum"]}, target)
    assert weights["spectrum"] == pytest.approx(1 / 3, rel=0.15)
    assert bias == pytest.approx(0.0, abs=0.15)


def test_a_logit_that_the_objects_chose_is_not_what_the_fit_is_drawn_towards() -> None:
    target, logits = drawn(100, 5)
    best = {"head": logits["features"], "spectrum": logits["spectrum"]}
    drawn_towards = late_fusion_weights(best, target)[0]
    other = late_fusion_weights(best, target, chosen_on=["head"])[0]
    assert drawn_towards["head"] > other["head"]
    assert other["spectrum"] > drawn_towards["spectrum"]

"""Baselines learn from training rows alone, and say nothing where there is nothing to say."""

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from mmagn.evaluation.baselines import logistic_logits, rule_logits

RNG = np.random.default_rng(0)
TARGET = (RNG.random(600) < 0.3).astype(float)
TRAIN, REST = np.arange(0, 400), np.arange(400, 600)
VALID = np.ones((600, 2), dtype=bool)


def test_a_leak_is_found_and_noise_scores_at_prevalence() -> None:
    noise = RNG.normal(size=(600, 2))
    leak = np.stack([TARGET + 0.01 * RNG.normal(size=600), noise[:, 0]], axis=1)
    result = logistic_logits(leak, VALID, TARGET, TRAIN, pos_weight=2.0)
    assert average_precision_score(TARGET[REST], result[REST]) > 0.99
    nothing = logistic_logits(noise, VALID, TARGET, TRAIN, pos_weight=2.0)
    assert abs(average_precision_score(TARGET[REST], nothing[REST]) - TARGET[REST].mean()) < 0.12


def test_rows_to_be_tested_are_never_seen() -> None:
    values = RNG.normal(size=(600, 2))
    changed, other = values.copy(), TARGET.copy()
    changed[REST[:100]] *= 1000
    other[REST] = 1 - other[REST]
    one = logistic_logits(values, VALID, TARGET, TRAIN, pos_weight=2.0)
    two = logistic_logits(changed, VALID, other, TRAIN, pos_weight=2.0)
    np.testing.assert_array_equal(one[TRAIN], two[TRAIN])
    np.testing.assert_array_equal(one[REST[100:]], two[REST[100:]])


def test_splines_find_a_class_that_sits_in_the_middle() -> None:
    value = RNG.uniform(-1, 1, size=(600, 1))
    middle = (np.abs(value[:, 0]) < 0.4).astype(float)
    valid = np.ones((600, 1), dtype=bool)
    straight, curved = (
        logistic_logits(value, valid, middle, TRAIN, pos_weight=1.0, splines=splines) for splines in (False, True)
    )
    assert roc_auc_score(middle[REST], straight[REST]) < 0.65
    assert roc_auc_score(middle[REST], curved[REST]) > 0.95


def test_the_rule_is_positive_for_composite_and_seyfert_alone() -> None:
    star_forming, composite, seyfert, liner = (-1.0, -0.5), (-0.2, -0.2), (0.0, 0.8), (0.2, 0.1)
    x, y = zip(star_forming, composite, seyfert, liner, strict=True)
    assert np.sign(rule_logits(x, y, "schawinski2007")).tolist() == [-1, 1, 1, -1]

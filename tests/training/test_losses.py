import math

import numpy as np
import pytest
import torch

from mmagn.training.losses import pos_weight, weighted_bce


def test_the_weight_of_positives_is_negatives_over_positives():
    assert pos_weight(np.array([1, 0, 0, 0, 0, 1])) == 2.0
    assert pos_weight(np.array([1.0, 1.0, 0.0, 1.0])) == pytest.approx(1 / 3)


@pytest.mark.parametrize("target", [[0, 0, 0], [1.0, 1.0], []])
def test_a_training_split_of_one_class_is_refused_with_both_counts(target):
    with pytest.raises(ValueError, match=r"holds \d positive and \d negative objects; training needs at least one of"):
        pos_weight(np.array(target))


def test_an_unclassified_object_in_the_training_split_is_refused():
    with pytest.raises(ValueError, match="is nan; allowed: 0 to 1"):
        pos_weight(np.array([1.0, 0.0, np.nan]))


def test_probabilities_count_as_parts_of_an_object():
    assert pos_weight(np.array([0.9, 0.1, 0.0, 0.0])) == pytest.approx(3.0)


def test_a_soft_target_has_its_smallest_loss_at_its_logit_shifted_by_the_weight():
    weight, probability = torch.tensor(4.0), 0.3
    best = math.log(probability / (1 - probability)) + math.log(4.0)
    logits = torch.tensor([best - 0.1, best, best + 0.1], dtype=torch.float64, requires_grad=True)
    losses = weighted_bce(logits, torch.full((3,), probability, dtype=torch.float64), weight)
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    assert gradient[0] < 0 < gradient[2]
    assert float(gradient[1]) == pytest.approx(0, abs=1e-7)


def test_loss_of_an_object_is_its_closed_form():
    losses = weighted_bce(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 0.0]), torch.tensor(3.0))
    assert losses.tolist() == pytest.approx([3 * math.log(2), math.log(1 + math.exp(2))], rel=1e-6)


def test_weighted_classes_pull_equally_at_the_start():
    target = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0])
    bias = torch.zeros(1, requires_grad=True)
    weighted_bce(bias.expand(5), target, torch.tensor(pos_weight(target.numpy()))).mean().backward()
    assert bias.grad.item() == pytest.approx(0.0, abs=1e-7)

"""Learning rates by step and by layer."""

import dataclasses
from itertools import pairwise

import pytest
import torch
from torch import nn

from mmagn.models.config import ImageBranchConfig
from mmagn.models.image_branch import ImageBranch
from mmagn.training.config import TrainingConfig
from mmagn.training.optimiser import LearningRates, learning_rate_factor, optimiser

STEPS_PER_EPOCH = 10
COSINE = TrainingConfig(epochs=6, schedule="cosine", warmup_epochs=1.0, learning_rate=0.1)


def test_the_learning_rate_rises_to_its_full_value_and_falls_along_half_a_cosine_to_nothing():
    factors = [learning_rate_factor(step, COSINE, STEPS_PER_EPOCH) for step in range(61)]
    assert factors[:10] == pytest.approx([step / 11 for step in range(1, 11)])
    assert max(factors) == factors[10] == 1.0
    assert factors[35] == pytest.approx(0.5), "half way down"
    assert all(later < earlier for earlier, later in pairwise(factors[10:]))
    assert factors[60] == pytest.approx(0.0)


def test_a_constant_schedule_without_warm_up_changes_nothing():
    still = dataclasses.replace(COSINE, schedule="constant", warmup_epochs=0.0)
    assert {learning_rate_factor(step, still, STEPS_PER_EPOCH) for step in range(60)} == {1.0}


def test_the_learning_rate_of_a_step_is_its_factor_times_that_of_the_settings():
    weight = nn.Parameter(torch.ones(1))
    adam = torch.optim.Adam([weight], lr=COSINE.learning_rate)
    rates = LearningRates(adam, [0.1], torch.device("cpu"))
    for factor in (0.5, 1.0, 0.25):
        rates.set(factor)
        assert adam.param_groups[0]["lr"] == rates.largest == pytest.approx(0.1 * factor)


def test_the_layers_of_a_backbone_learn_the_slower_the_nearer_they_are_to_the_image():
    model = nn.ModuleDict({"image": ImageBranch(ImageBranchConfig()), "head": nn.Linear(4, 1)})
    groups = optimiser(model, TrainingConfig(layer_decay=0.5, learning_rate=0.1)).param_groups
    rate_of = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    assert rate_of.keys() == {id(parameter) for parameter in model.parameters()}, "every parameter learns, once"
    rates = {name: rate_of[id(parameter)] for name, parameter in model.named_parameters()}
    assert rates["head.weight"] == rates["image.embedding.weight"] == 0.1
    stem = max(rate for name, rate in rates.items() if "backbone.stem" in name)
    stages = [max(rate for name, rate in rates.items() if f"backbone.stages.{stage}." in name) for stage in (0, 1, 2)]
    assert stem < stages[0] < stages[1] < stages[2] < 0.1
    assert stages[1] / stages[0] == pytest.approx(2)


def test_layer_decay_changes_nothing_without_a_backbone():
    groups = optimiser(nn.Linear(2, 1), TrainingConfig(layer_decay=0.5, learning_rate=0.1)).param_groups
    assert [(len(group["params"]), group["lr"]) for group in groups] == [(2, 0.1)]

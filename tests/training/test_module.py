import dataclasses

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from training_runs import scalars

from mmagn.training.checkpoints import read_checkpoint
from mmagn.training.epoch_scores import EpochScores
from mmagn.training.module import AgnModule


def test_scores_over_batches_are_those_of_the_whole_epoch():
    rng = np.random.default_rng(0)
    target = (rng.random(101) < 0.2).astype(np.float32)
    logits = (rng.normal(size=101) + target).astype(np.float32)
    losses = rng.random(101).astype(np.float32)
    scores = EpochScores()
    for part in np.array_split(np.arange(101), [16, 32, 90]):
        scores.update(*(torch.from_numpy(values[part]) for values in (losses, logits, target)))
    values = scores.compute()
    assert values["average_precision"].item() == pytest.approx(average_precision_score(target, logits), abs=1e-6)
    assert values["roc_auc"].item() == pytest.approx(roc_auc_score(target, logits), abs=1e-6)
    assert values["loss"].item() == pytest.approx(losses.mean(), abs=1e-6)
    assert values["recall"].item() == pytest.approx((logits[target == 1] > 0).mean(), abs=1e-6)
    assert values["precision"].item() == pytest.approx(target[logits > 0].mean(), abs=1e-6)


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_an_epoch_of_one_class_has_a_loss_and_nothing_else(target):
    scores = EpochScores()
    scores.update(torch.ones(3), torch.zeros(3), torch.full((3,), target))
    assert scores.compute().keys() == {"loss"}


def test_an_epoch_knows_nothing_of_the_one_before():
    scores = EpochScores()
    scores.update(torch.ones(2), torch.tensor([1.0, -1.0]), torch.tensor([0.0, 1.0]))
    scores.compute()
    scores.reset()
    scores.update(torch.zeros(2), torch.tensor([-1.0, 1.0]), torch.tensor([0.0, 1.0]))
    assert scores.compute()["average_precision"] == 1.0


def test_the_gradient_is_clipped_to_the_configured_norm(trained, config, run, make_module):
    tight = dataclasses.replace(config, gradient_clip=1e-3, epochs=1)
    module = make_module(tight)
    norms = []

    def look(optimizer, *_):
        norms.append(sum((parameter.grad**2).sum() for parameter in module.parameters()).sqrt().item())

    handle = register_optimizer_step_post_hook(look)
    trained(config=tight, module=module)
    handle.remove()
    assert norms == pytest.approx([1e-3] * 4, rel=1e-2)
    assert min(scalars(run, "train/gradient_norm")) > 1e-3, "what is logged is the norm before clipping"


class TwoBranches(nn.Module):
    """Two logits that share no weight: one of the first features, one of the others."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.left, self.right = nn.Linear(6, 1), nn.Linear(6, 1)

    def forward(self, batch):
        return sum(self.branch_logits(batch, ("left", "right")).values())

    def branch_logits(self, batch, names):
        left, right = batch["features"].split(6, dim=1)
        logits = {"left": self.left(left).squeeze(1), "right": self.right(right).squeeze(1)}
        return {name: logits[name] for name in names}

    def branch_modules(self):
        return {"left": ("left",), "right": ("right",)}


def test_each_branch_keeps_the_weights_of_its_own_best_epoch(trained, config, run):
    module = AgnModule(TwoBranches(), config, pos_weight=4.0, seed=3)
    scores, weights = [], []

    def remember(*_):
        metrics = module.trainer.callback_metrics
        scores.append([float(metrics[f"validation/average_precision_{name}"]) for name in ("left", "right")])
        weights.append({name: value.clone() for name, value in module.model.state_dict().items()})

    module.on_validation_end = remember
    result = trained(module=module)
    best = np.argmax(scores, axis=0)
    assert len(scores) == config.epochs
    assert result.best_score == pytest.approx(np.max(scores, axis=0).mean())
    assert result.best_epoch == best.max()
    state = read_checkpoint(run.best)["state_dict"]
    for name, epoch in zip(("left", "right"), best, strict=True):
        assert torch.equal(state[f"model.{name}.weight"], weights[epoch][f"{name}.weight"])


def test_a_branch_that_is_out_of_patience_takes_no_part_in_further_steps(trained, config):
    config = dataclasses.replace(config, epochs=12, patience=2)
    module = AgnModule(TwoBranches(), config, pos_weight=4.0, seed=3)
    scores = {"left": [0.2, 0.9, *[0.8] * 10], "right": [0.1 + 0.01 * epoch for epoch in range(12)]}
    weights, learning, selection = [], [], module.best.selection

    def staged(current):
        epoch = len(learning)
        learning.append(set(current))
        weights.append({name: value.clone() for name, value in module.model.state_dict().items()})
        return selection({name: scores[name][epoch] for name in current})

    module.best.selection = staged
    result = trained(module=module)
    assert result.epochs == 12
    assert learning == [{"left", "right"}] * 4 + [{"right"}] * 8
    assert torch.equal(weights[3]["left.weight"], weights[-1]["left.weight"])
    assert not torch.equal(weights[-2]["right.weight"], weights[-1]["right.weight"])
    assert result.best_score == pytest.approx((0.9 + 0.21) / 2)
    assert module.best.state_dict()["waited"] == {"left": 10, "right": 0}


def test_an_object_without_the_input_of_a_branch_does_not_train_it(config):
    module = AgnModule(TwoBranches(), config, pos_weight=1.0, seed=3)
    batch = {"features": torch.ones(2, 12), "target": torch.tensor([0.0, 1.0])}
    losses, _ = module._losses({**batch, "left_valid": torch.tensor([True, False])}, module.learning)
    whole, _ = module._losses(batch, module.learning)
    assert losses[0, 1] == 0
    assert torch.equal(losses[1], whole[1])
    assert losses[0, 0] == whole[0, 0]

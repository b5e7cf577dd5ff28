"""How a step is taken: summed up, averaged, at its learning rate."""

import dataclasses

import pytest
import torch
from sklearn.metrics import average_precision_score

from mmagn.storage.run_folder import RunFolder
from mmagn.training.checkpoints import load_module, read_checkpoint
from mmagn.training.optimiser import learning_rate_factor
from mmagn.training.weights import load_weights


class Without(torch.nn.Module):
    """No dropout and no batch statistics: the gradient of a batch is the mean over its parts."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(12, 1)

    def forward(self, batch):
        return self.layer(batch["features"]).squeeze(1)


def test_two_half_batches_make_the_step_of_a_whole_one(trained, config, data, run, make_module, tmp_path):
    other = RunFolder.create(tmp_path / "halves", "tiny")
    trained(module=make_module(config, network=Without()))
    data.batch_size = 8
    halves = dataclasses.replace(config, batch_size=8, accumulate=2)
    trained(config=halves, run=other, module=make_module(halves, network=Without()))
    whole, parts = (read_checkpoint(folder.last) for folder in (run, other))
    assert whole["global_step"] == parts["global_step"] == 16
    for name, value in whole["state_dict"].items():
        torch.testing.assert_close(value, parts["state_dict"][name], rtol=1e-4, atol=1e-6)


def test_the_best_checkpoint_and_the_exported_weights_are_the_moving_average(
    trained, config, data, run, make_module, make_network
):
    averaged = dataclasses.replace(config, ema=0.8, epochs=1)
    before_step = []
    module = make_module(averaged)
    weight = module.model.layers[0].weight
    module.model.register_forward_pre_hook(lambda *_: before_step.append(weight.detach().clone()))
    result = trained(config=averaged, module=module)
    after_last = read_checkpoint(run.last)["state_dict"]["model.layers.0.weight"]
    expected, *later = [*before_step[1:4], after_last]
    for value in later:
        expected = 0.8 * expected + 0.2 * value
    best = read_checkpoint(run.best)["state_dict"]["model.layers.0.weight"]
    torch.testing.assert_close(best, expected)
    network = make_network()
    load_weights(network, run.weights)
    assert torch.equal(network.layers[0].weight, best)
    logits = load_module(run.best, make_network(), averaged)({"features": data.validation.features})
    assert result.best_score == pytest.approx(
        average_precision_score(data.validation.target.numpy(), logits.detach().numpy()), abs=1e-6
    )


def test_the_learning_rate_follows_its_course_step_by_step(trained, config, run):
    cosine = dataclasses.replace(config, schedule="cosine", warmup_epochs=1.0)
    trained(config=cosine)
    state = read_checkpoint(run.last)
    rate = state["optimizer_states"][0]["param_groups"][0]["lr"]
    assert rate == pytest.approx(0.01 * learning_rate_factor(15, cosine, 4)), "steps, not epochs"

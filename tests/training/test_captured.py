"""A captured step gives what one in eager mode gives; on the CPU a recording repeats the function on its buffers."""

import dataclasses
import logging

import numpy as np
import pytest
import torch
from torch import nn
from training_runs import assert_same_end, on_a_gpu

from mmagn.storage.run_folder import RunFolder
from mmagn.training.captured import CapturedFunction
from mmagn.training.checkpoints import read_checkpoint
from mmagn.training.config import TrainingConfig
from mmagn.training.fit import RunRecord, fit
from mmagn.training.heads.fit import Member, many_fits
from mmagn.training.memory import BatchTooLargeError
from mmagn.training.module import AgnModule

EVERYTHING = {"accumulate": 2, "ema": 0.9, "schedule": "cosine", "warmup_epochs": 0.5}


class Rehearsed(CapturedFunction):
    """Recorded on the CPU as on a GPU: the function is repeated on the buffers that it was recorded with."""

    recorded: int = 0

    def __init__(self, function, name, _record):
        super().__init__(function, name, self.rehearse)

    def rehearse(self, function):
        Rehearsed.recorded += 1
        return function


@pytest.fixture
def rehearsed(monkeypatch):
    monkeypatch.setattr("mmagn.training.module.CapturedFunction", Rehearsed)
    monkeypatch.setattr(Rehearsed, "recorded", 0)
    return Rehearsed


@pytest.mark.parametrize("changes", [{}, EVERYTHING])
def test_a_recorded_run_ends_as_one_in_eager_mode(trained, config, run, tmp_path, data, monkeypatch, changes):
    data.batch_size = 12  # five batches of twelve objects and one of four in each epoch
    changed = dataclasses.replace(config, batch_size=12, **changes)
    trained(config=changed)
    other = RunFolder.create(tmp_path / "other", "x")
    monkeypatch.setattr("mmagn.training.module.CapturedFunction", Rehearsed)
    monkeypatch.setattr(Rehearsed, "recorded", 0)
    trained(config=changed, run=other)
    assert_same_end(run, other)
    accumulating = "accumulate" in changes
    assert Rehearsed.recorded == (3 if accumulating else 2) + 1, "one of each size of batch, in training and validation"


def test_the_first_call_runs_and_later_ones_repeat_what_the_second_recorded():
    calls, recorded = [], []

    def double(batch, mode):
        calls.append(mode)
        return (batch["values"] * 2,)

    def record(function):
        recorded.append(1)
        return function

    captured = CapturedFunction(double, "doubling", record)
    batches = [torch.tensor([float(number)]) for number in range(5)]
    results = [captured({"values": batch}, "mode")[0].clone() for batch in batches]
    assert torch.cat(results).tolist() == [0.0, 2.0, 4.0, 6.0, 8.0]
    assert len(recorded) == 1
    captured({"values": torch.zeros(2)}, "mode")
    captured({"values": torch.zeros(1)}, "other mode")
    assert len(recorded) == 1, "another size and another mode are warmed up first"


def test_what_cannot_be_recorded_runs_in_eager_mode_after_one_warning(caplog):
    def refuse(function):
        raise RuntimeError("operation not permitted when stream is capturing\nand more lines")

    captured = CapturedFunction(lambda batch, _: (batch["values"] + 1,), "the training step", refuse)
    with caplog.at_level(logging.WARNING):
        results = [captured({"values": torch.tensor(value)})[0].item() for value in (1.0, 2.0, 3.0)]
    assert results == [2.0, 3.0, 4.0]
    assert caplog.messages == [
        "the training step cannot be captured in a CUDA graph and runs without: "
        "operation not permitted when stream is capturing"
    ]


def test_memory_that_runs_out_in_a_recording_names_the_batch_size_that_fits(
    trained, config, make_module, make_network, monkeypatch
):
    class Full(Rehearsed):
        def rehearse(self, _function):
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("mmagn.training.module.CapturedFunction", Full)
    with pytest.raises(BatchTooLargeError, match=r"does not hold a step with training\.batch_size 16; 8 fits"):
        trained(module=make_module(config, network=make_network()))


def test_a_recorded_run_that_is_resumed_ends_as_an_undisturbed_one(trained, config, run, rehearsed, undisturbed):
    trained(config=dataclasses.replace(config, epochs=2))
    trained(resume=run.last)
    assert_same_end(run, undisturbed[1])


@on_a_gpu
@pytest.mark.parametrize("changes", [{}, EVERYTHING])
def test_on_a_gpu_a_captured_run_ends_as_one_in_eager_mode(trained, config, run, tmp_path, data, monkeypatch, changes):
    data.batch_size = 12
    changed = dataclasses.replace(config, batch_size=12, device="cuda", precision="32-true", **changes)
    trained(config=changed)
    other = RunFolder.create(tmp_path / "other", "x")
    monkeypatch.setattr(AgnModule, "captures", False)
    trained(config=changed, run=other)
    captured, eager = (read_checkpoint(folder.last)["state_dict"] for folder in (run, other))
    for name, value in captured.items():
        torch.testing.assert_close(value, eager[name], rtol=1e-4, atol=1e-5)


@on_a_gpu
def test_on_a_gpu_the_weights_are_those_of_the_cpu_within_rounding(config, make_network, data, tmp_path):
    states = []
    for device in ("cpu", "cuda"):
        changed = dataclasses.replace(config, device=device, precision="32-true", epochs=2)
        torch.manual_seed(0)
        module = AgnModule(make_network(dropout=0.0), changed, pos_weight=4.0, seed=3)
        run = RunFolder.create(tmp_path / device, "x")
        fit(module, data, run, RunRecord())
        states.append(read_checkpoint(run.last)["state_dict"])
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=1e-4)


@on_a_gpu
def test_on_a_gpu_a_run_that_is_resumed_ends_as_an_undisturbed_one(trained, config, run, tmp_path):
    changed = dataclasses.replace(config, device="cuda", precision="32-true")
    trained(config=changed)
    other = RunFolder.create(tmp_path / "other", "x")
    trained(config=dataclasses.replace(changed, epochs=2), run=other)
    trained(config=changed, run=other, resume=other.last)
    whole, resumed = (read_checkpoint(folder.last)["state_dict"] for folder in (run, other))
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, rtol=1e-4, atol=1e-5)


@on_a_gpu
def test_on_a_gpu_a_network_that_waits_for_the_device_is_trained_in_eager_mode(
    trained, config, run, make_module, make_network, caplog
):
    network = make_network()
    network.register_forward_hook(lambda _, __, logits: logits * 1.0 if logits.sum().item() else logits)
    changed = dataclasses.replace(config, device="cuda")
    result = trained(config=changed, module=make_module(changed, network=network))
    assert result.complete
    assert sum("the training step cannot be captured in a CUDA graph" in line for line in caplog.messages) == 1


@on_a_gpu
def test_on_a_gpu_many_heads_are_fitted_as_on_the_cpu():
    features = torch.randn(1, 300, 10, generator=torch.Generator().manual_seed(1))
    target = (features[0, :, 0] > 0.5).float()
    members = [
        Member(
            train=np.arange(180 + seed),
            validation=np.arange(200, 300),
            pos_weight=2.0,
            seed=seed,
        )
        for seed in range(4)
    ]
    config, weights = TrainingConfig(epochs=8, patience=2, learning_rate=0.01), []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        layers = [(nn.Linear(10, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 1)) for _ in members]
        heads = [nn.Sequential(*each).to(device) for each in layers]
        many_fits(heads, features.to(device), target.to(device), members, config)
        weights.append(torch.cat([value.detach().cpu().flatten() for head in heads for value in head.parameters()]))
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-3, atol=1e-4)

"""What is logged of a run while it trains, and what that costs."""

import dataclasses

import pytest
import torch
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn

from mmagn.training.callbacks import PairsProgressBar, StepWatch
from mmagn.training.optimiser import clipped_gradients


class TwoBranches(nn.Module):
    """Sees six of the numbers through each branch; one branch can be dead."""

    def __init__(self, *, dead: bool = False) -> None:
        super().__init__()
        self.image, self.spectrum, self.head = nn.Linear(6, 3), nn.Linear(6, 3), nn.Linear(6, 1)
        if dead:
            nn.init.zeros_(self.head.weight[:, :3])

    def embedding(self, batch):
        features = batch["features"]
        return torch.cat((self.image(features[:, :6]), self.spectrum(features[:, 6:])), dim=1)

    def forward(self, batch):
        return self.head(self.embedding(batch)).squeeze(1)


def test_a_dead_branch_is_seen_in_its_gradient(trained, config, make_module, monkeypatch):
    logged = []

    def keep(board, metrics, step=None):
        logged.append(metrics)

    monkeypatch.setattr(TensorBoardLogger, "log_metrics", keep)
    module = make_module(config, network=TwoBranches(dead=True))
    trained(config=dataclasses.replace(config, epochs=1), module=module)
    first = next(metrics for metrics in logged if "gradient_norm/image" in metrics)
    assert first["gradient_norm/image"] == 0
    assert first["gradient_norm/spectrum"] > 0
    parts = [first[f"gradient_norm/{name}"] ** 2 for name in ("image", "spectrum", "head")]
    assert sum(parts) == pytest.approx(first["train/gradient_norm"] ** 2, rel=1e-5)


def test_a_part_without_a_gradient_has_the_norm_zero():
    network = nn.Sequential(nn.Linear(2, 1), nn.Linear(2, 1))
    network[1].weight.grad = torch.tensor([[3.0, 4.0]])
    assert clipped_gradients(network, 1.0).tolist() == [5.0, 0.0, 5.0]
    torch.testing.assert_close(network[1].weight.grad, torch.tensor([[0.6, 0.8]]))


def test_the_device_is_looked_at_every_few_steps_only(trained, config, run, monkeypatch):
    looks = []
    look = StepWatch._look
    monkeypatch.setattr(
        StepWatch,
        "_look",
        lambda self, trainer, logged: looks.append(trainer.global_step) or look(self, trainer, logged=logged),
    )
    trained(config=dataclasses.replace(config, epochs=2, log_every=3))
    assert looks == [3, 4, 6, 8], "every third step, and the last of each epoch before it is validated"


def test_the_progress_bar_shows_how_many_pairs_are_trained_on_per_second(run, monkeypatch):
    monkeypatch.setattr(TQDMProgressBar, "get_metrics", lambda *_: {"v_num": 0, "loss": 1.0})
    watch = StepWatch(run, log_every=1)
    watch.pairs_per_s = 15234.4
    assert PairsProgressBar(watch).get_metrics(None, None) == {"loss": 1.0, "pairs/s": "15,234"}

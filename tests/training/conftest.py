"""A tiny problem: twelve numbers per object decide a class, with few positives."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mmagn.storage.run_folder import RunFolder
from mmagn.tensors.batches import BatchLoader, ShuffledBatches
from mmagn.training.config import TrainingConfig
from mmagn.training.fit import FitResult, RunRecord, fit
from mmagn.training.module import AgnModule

Batch = dict[str, Tensor]


class Rows(Dataset[Batch]):
    def __init__(self, features: Tensor, target: Tensor) -> None:
        self.features, self.target = features, target

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, row: int | Tensor) -> Batch:
        return {"features": self.features[row], "target": self.target[row], "index": torch.as_tensor(row)}


class TinyData(LightningDataModule):
    def __init__(self, train: Rows, validation: Rows, batch_size: int = 16) -> None:
        super().__init__()
        self.train, self.validation, self.batch_size = train, validation, batch_size

    def train_dataloader(self) -> BatchLoader:
        order = ShuffledBatches(torch.arange(len(self.train)), self.batch_size, seed=5)
        return BatchLoader(lambda rows: self.train[rows], order)

    def val_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(self.validation, self.batch_size)


class TinyNetwork(nn.Module):
    """With dropout, so that random states matter, and batch statistics, so that buffers do."""

    def __init__(self, width: int = 12, *, dropout: float = 0.3) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 1)
        )

    def forward(self, batch: Batch) -> Tensor:
        return self.layers(batch["features"]).squeeze(1)


def tiny_rows(count: int, seed: int) -> Rows:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, 12, generator=generator)
    noise = torch.randn(count, generator=generator)
    return Rows(features, (features[:, 0] + features[:, 1] + 0.5 * noise > 1.5).float())


def tiny_module(config: TrainingConfig, *, seed: int = 3, network: nn.Module | None = None) -> AgnModule:
    torch.manual_seed(seed)
    return AgnModule(network or TinyNetwork(), config, pos_weight=4.0, seed=seed)


def tiny_data() -> TinyData:
    return TinyData(tiny_rows(64, 1), tiny_rows(48, 2))


@pytest.fixture(scope="session")
def make_rows() -> Callable[[int, int], Rows]:
    return tiny_rows


@pytest.fixture(scope="session")
def make_module() -> Callable[..., AgnModule]:
    return tiny_module


@pytest.fixture(scope="session")
def make_network() -> Callable[..., nn.Module]:
    return TinyNetwork


@pytest.fixture(scope="session")
def make_data() -> Callable[[], TinyData]:
    return tiny_data


@pytest.fixture
def data() -> TinyData:
    return tiny_data()


@pytest.fixture(scope="session")
def config() -> TrainingConfig:
    return TrainingConfig(epochs=4, batch_size=16, learning_rate=0.01, device="cpu", log_every=1)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path, "tiny")


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, config: TrainingConfig) -> tuple[FitResult, RunFolder]:
    """Result and folder of four epochs without any interruption."""
    run = RunFolder.create(tmp_path_factory.mktemp("undisturbed"), "tiny")
    return fit(tiny_module(config), tiny_data(), run, RunRecord()), run


@pytest.fixture
def trained(data: TinyData, config: TrainingConfig, run: RunFolder) -> Callable[..., FitResult]:
    """Train on the tiny problem; module, or its config and seed, run and data, and what is recorded can be replaced."""

    def train(resume: Path | None = None, **changes: Any) -> FitResult:
        settings = {"datamodule": data, "run": run, "config": config, "seed": 3, **changes}
        module = settings.pop("module", None) or tiny_module(settings["config"], seed=settings["seed"])
        module.config = settings.pop("config") if "config" in changes else module.config
        del settings["seed"]
        settings.pop("config", None)
        into, where = settings.pop("datamodule"), settings.pop("run")
        return fit(module, into, where, RunRecord(**settings), resume=resume)

    return train

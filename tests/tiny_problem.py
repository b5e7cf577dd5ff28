"""A tiny problem: twelve numbers per object decide a class, with few positives."""

import os
import signal
import threading
from pathlib import Path

import torch
from lightning import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from training_runs import at_training_batch

from mmagn.storage.run_folder import RunFolder
from mmagn.tensors.batches import BatchLoader, ShuffledBatches
from mmagn.training.config import TrainingConfig
from mmagn.training.fit import RunRecord, fit
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


def killed_run(path: Path, config: TrainingConfig, batch: int, delay_s: float) -> None:
    """Train, and be killed some time after a batch: in the step, in a later one, or while a checkpoint is written."""
    torch.set_num_threads(1)

    def kill(_: Batch) -> None:
        threading.Timer(delay_s, os.kill, (os.getpid(), signal.SIGKILL)).start()
        threading.Event().wait(0.0 if delay_s else None)

    fit(at_training_batch(tiny_module(config), batch, kill), tiny_data(), RunFolder(path), RunRecord())

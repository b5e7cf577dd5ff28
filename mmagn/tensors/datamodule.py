"""The Lightning data module: batches of the three splits, wherever their tensors live."""

from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor

from mmagn.records import SPLITS
from mmagn.tensors.augment import augment_batch
from mmagn.tensors.batches import BatchLoader, BatchOrder, OrderedBatches, ShuffledBatches, seed_of
from mmagn.tensors.config import AugmentConfig
from mmagn.tensors.missing import FeatureOrigin
from mmagn.tensors.residency import pair_tensors
from mmagn.tensors.sources import BatchSource, PairTensors

__all__ = ["PairDataModule", "PairTensors", "pair_tensors"]


class PairDataModule(LightningDataModule):
    """Batches of the three splits.

    Order and augmentation are functions of (seed, epoch, step) alone, so a run that is resumed, in the middle of an
    epoch too, sees what an undisturbed one sees. Augmentation happens after the transfer, on the device, in
    training only. The loader of a split without objects is empty.

    Under a Trainer of several processes each has its part of every training, validation and test batch; a training
    batch then has a ``share`` (), the weight of its mean loss. Each process draws its own augmentation.

    Parameters
    ----------
    tensors
        All objects.
    split
        (object,) one of ``SPLITS`` each.
    batch_size
        Pairs in a batch, over all processes.
    augment
        Random changes in training.
    seed
        Seed of the run.
    origin
        Of the features; needed where modalities are dropped from batches with features.
    workers
        Threads that make batches ahead of the steps, where the tensors are not in memory.
    """

    def __init__(
        self,
        tensors: BatchSource,
        split: NDArray[np.str_],
        *,
        batch_size: int,
        augment: AugmentConfig,
        seed: int,
        origin: FeatureOrigin | None = None,
        workers: int = 2,
    ) -> None:
        super().__init__()
        if len(split) != len(tensors):
            raise ValueError(f"{len(split)} split names came with tensors of {len(tensors)} objects")
        if unknown := sorted(set(split.tolist()) - set(SPLITS)):
            raise ValueError(f"unknown split {unknown[0]}; allowed: {', '.join(SPLITS)}")
        self.tensors, self.split = tensors, split
        self.batch_size, self.augment, self.seed = batch_size, augment, seed
        self.origin = origin
        self.workers = 0 if isinstance(tensors, PairTensors) else workers
        self._order: ShuffledBatches | None = None

    def rows(self, split: str) -> Tensor:
        """(object,) int64 rows of a split, ascending."""
        return torch.from_numpy(np.flatnonzero(self.split == split).astype(np.int64))

    def train_dataloader(self) -> BatchLoader:
        """Batches of the training split, shuffled anew each epoch.

        Raises
        ------
        ValueError
            When the training split has fewer than two objects, or one without a target.
        """
        rows = self.rows("train")
        if len(rows) < 2:
            raise ValueError(f"the training split has {len(rows)} objects; training needs 2 or more")
        if unlabelled := int(self.tensors.target[rows].isnan().sum()):
            raise ValueError(f"{unlabelled} objects of the training split have no target; leave them out")
        rank, world = self._place()
        self._order = ShuffledBatches(rows, self.batch_size, self.seed, rank=rank, world=world)
        return self._loader(self._order)

    def val_dataloader(self) -> BatchLoader:
        """Batches of the validation split, in order."""
        return self._split_loader("validation")

    def test_dataloader(self) -> BatchLoader:
        """Batches of the test split, in order."""
        return self._split_loader("test")

    def predict_dataloader(self) -> BatchLoader:
        """Batches of all objects, in order."""
        return self._loader(OrderedBatches(torch.arange(len(self.tensors)), self.batch_size))

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:  # noqa: ARG002
        """Batch with training augmentation, drawn from (seed, epoch, step, rank); other batches as they are."""
        if self.trainer is None or not self.trainer.training:
            return batch
        step, device, (rank, world) = self.trainer.fit_loop.batch_idx + 1, batch["target"].device, self._place()
        if world > 1 and self._order is not None:
            batch = {**batch, "share": torch.full((), self._order.share(step), device=device)}
        generator = torch.Generator(device=device)
        generator.manual_seed(seed_of(self.seed, self.trainer.current_epoch, step, *([rank] if rank else [])))
        if self.origin is not None:
            self.origin = self.origin.to(device)
        return augment_batch(batch, self.augment, generator, softening=self.tensors.softening, origin=self.origin)

    def _place(self) -> tuple[int, int]:
        """Which of how many processes this is."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _loader(self, order: BatchOrder) -> BatchLoader:
        device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
        return BatchLoader(self.tensors.gathered, order, device=device, workers=self.workers)

    def _split_loader(self, split: str) -> BatchLoader:
        rank, world = self._place()
        return self._loader(OrderedBatches(self.rows(split), self.batch_size, rank=rank, world=world))

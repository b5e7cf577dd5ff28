"""The Lightning data module: batches of the three splits, wherever their tensors live."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor

from mmagn.records import SPLITS
from mmagn.tensors.augment import augment_batch
from mmagn.tensors.batches import BatchLoader, OrderedBatches, ShuffledBatches, seed_of
from mmagn.tensors.config import AugmentConfig
from mmagn.tensors.sources import BatchSource, PairTensors, as_floats


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchPlan:
    """How batches are cut and augmented.

    Attributes
    ----------
    batch_size
        Pairs in a batch, over all processes.
    augment, seed
        Random changes in training, and the seed of the run.
    workers
        Threads that make batches ahead of the steps, where the tensors are not in memory; 0 makes them in the step.
    stream
        Number of the stream of random numbers that augmentation draws from.
    """

    batch_size: int
    augment: AugmentConfig
    seed: int
    workers: int = 2
    stream: int = 0


class PairDataModule(LightningDataModule):
    """Batches of the three splits: ``split`` (object,) is one of ``SPLITS`` each.

    Order and augmentation are functions of (seed, epoch, step) alone, so a run that is resumed, in the middle of an
    epoch too, sees what an undisturbed one sees. A training batch is completed by :meth:`training_batch` on the device,
    within the step: of resident tensors the loader delivers the rows alone. The loader of a split without objects is
    empty.

    Under a Trainer of several processes each has its part of every training and validation batch; a training batch then
    has a ``share`` (), the weight of its mean loss. Each process draws its own augmentation.
    """

    def __init__(self, tensors: BatchSource, split: NDArray[np.str_], plan: BatchPlan) -> None:
        super().__init__()
        if len(split) != len(tensors):
            raise ValueError(f"{len(split)} split names came with tensors of {len(tensors)} objects")
        if unknown := sorted(set(split.tolist()) - set(SPLITS)):
            raise ValueError(f"unknown split {unknown[0]}; allowed: {', '.join(SPLITS)}")
        self.tensors, self.split, self.plan = tensors, split, plan
        self.resident = isinstance(tensors, PairTensors)
        self.workers = 0 if self.resident else plan.workers
        self._order: ShuffledBatches | None = None

    def rows(self, split: str) -> Tensor:
        """(object,) int64 rows of a split, ascending."""
        return torch.from_numpy(np.flatnonzero(self.split == split).astype(np.int64))

    def train_dataloader(self) -> BatchLoader:
        """Batches of the training split, shuffled anew each epoch.

        ``ValueError`` where it has fewer than two objects, or one without a target.
        """
        rows = self.rows("train")
        if len(rows) < 2:
            raise ValueError(f"the training split has {len(rows)} objects; training needs 2 or more")
        if unlabelled := int(self.tensors.target[rows].isnan().sum()):
            raise ValueError(f"{unlabelled} objects of the training split have no target; leave them out")
        rank, world = self._place()
        self._order = ShuffledBatches(rows, self.plan.batch_size, self.plan.seed, rank=rank, world=world)
        select = (lambda rows: {"index": rows}) if self.resident else self.tensors.gathered
        return BatchLoader(select, self._order, device=self._device(), workers=self.workers, floats=False)

    def val_dataloader(self) -> BatchLoader:
        """Batches of the validation split, in order; on a GPU four times as large, since no gradient is kept."""
        size = (4 if self._device().type == "cuda" else 1) * self.plan.batch_size
        rank, world = self._place()
        order = OrderedBatches(self.rows("validation"), size, rank=rank, world=world)
        return BatchLoader(self.tensors.gathered, order, device=self._device(), workers=self.workers)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:  # noqa: ARG002
        """Batch with its ``share`` where several processes train; other batches as they are."""
        if self.trainer is None or not self.trainer.training or self.trainer.world_size == 1 or self._order is None:
            return batch
        share = self._order.share(self.trainer.fit_loop.batch_idx + 1)
        return {**batch, "share": torch.full((), share, device=batch["index"].device)}

    def training_batch(
        self, batch: Mapping[str, Tensor], generator: torch.Generator | None, *, without: Collection[str] = ()
    ) -> dict[str, Tensor]:
        """Batch as float32 and augmented, but ``without`` some tensors: a function of tensors on their device.

        It holds rows alone where the tensors are resident; draws come from the generator, None for that of the device.
        """
        whole = self.tensors.batch(batch["index"]) if self.resident else as_floats(batch)
        whole |= {"share": batch["share"]} if "share" in batch else {}
        whole = {name: values for name, values in whole.items() if name not in without}
        augment, softening = self.plan.augment, self.tensors.softening
        return augment_batch(whole, augment, generator, softening=softening)

    def augmentation_seed(self, epoch: int, step: int) -> int:
        """Seed of the augmentation of a step on the CPU."""
        stream = self.plan.stream + self._place()[0]
        return seed_of(self.plan.seed, epoch, step, *([stream] if stream else []))

    def _place(self) -> tuple[int, int]:
        """Rank of this process, and the number of processes."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _device(self) -> torch.device:
        return torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device

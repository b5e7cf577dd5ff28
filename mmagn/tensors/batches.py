"""Order of the batches: a pure function of (seed, epoch), and loaders that select rows of resident tensors."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor


def seed_of(*parts: int) -> int:
    """Seed that depends on all the parts, such as (seed, epoch, step), and on nothing else."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0])


class BatchOrder(Protocol):
    """Which rows make which batch."""

    epoch: int

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        ...

    def batches(self) -> list[Tensor]:
        """(batch,) int64 rows of each batch of the epoch."""
        ...


class ShuffledBatches:
    """Rows in an order drawn from (seed, epoch), for training.

    The last batch may be smaller, but a single row that would be left over joins the batch before it: batch
    normalisation has no spread over one object.

    Parameters
    ----------
    rows
        (object,) int64 rows to draw from, two or more.
    batch_size
        Rows in a batch.
    seed
        Seed of the run.
    """

    def __init__(self, rows: Tensor, batch_size: int, seed: int) -> None:
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next; Lightning calls this before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        full, left = divmod(len(self.rows), self.batch_size)
        return full + (left > 1 or (left == 1 and full == 0))

    def batches(self) -> list[Tensor]:
        """(batch,) int64 rows of each batch of the epoch."""
        generator = torch.Generator().manual_seed(seed_of(self.seed, self.epoch))
        rows = self.rows[torch.randperm(len(self.rows), generator=generator)]
        edges = [step * self.batch_size for step in range(1, len(self))]
        return list(torch.tensor_split(rows, edges))


class OrderedBatches:
    """Rows in the order given, for validation, test and prediction."""

    def __init__(self, rows: Tensor, batch_size: int) -> None:
        self.rows, self.batch_size = rows, batch_size
        self.epoch = 0

    def __len__(self) -> int:
        """Return the number of batches."""
        return -(-len(self.rows) // self.batch_size)

    def batches(self) -> list[Tensor]:
        """(batch,) int64 rows of each batch."""
        return list(torch.split(self.rows, self.batch_size)) if len(self.rows) else []


class BatchLoader:
    """Iterable over batches that are selected from tensors in memory, without workers and without collation.

    It is no torch ``DataLoader``: there is nothing for workers to do, and Lightning rebuilds and warns about those.
    Lightning finds ``sampler.set_epoch`` and, through ``state_dict``, goes on in the middle of an epoch; as in a
    ``DataLoader`` whose sampler gives whole batches, ``batch_sampler`` is None.

    Parameters
    ----------
    select
        Batch of the given (batch,) rows.
    sampler
        Order of the batches; read when the first batch of an epoch is asked for, not before.
    """

    def __init__(self, select: Callable[[Tensor], dict[str, Tensor]], sampler: BatchOrder) -> None:
        self.select, self.sampler = select, sampler
        self.batch_sampler = None  # Lightning asks for it wherever there is a sampler
        self._delivered = 0
        self._resume: dict[str, int] = {}

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Yield the batches of the sampler's epoch, from where a resumed run had stopped."""
        skip = self._resume.get("delivered", 0) if self._resume.get("epoch") == self.sampler.epoch else 0
        self._resume = {}
        for step, rows in enumerate(self.sampler.batches()):
            if step >= skip:
                self._delivered = step + 1
                yield self.select(rows)

    def state_dict(self) -> dict[str, int]:
        """Epoch and number of batches delivered in it."""
        return {"epoch": self.sampler.epoch, "delivered": self._delivered}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after the batches that were delivered in that epoch."""
        self._resume = {"epoch": int(state["epoch"]), "delivered": int(state["delivered"])}

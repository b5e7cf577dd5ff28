"""Order of the batches, a pure function of seed, epoch and process; and the loader that selects their rows."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmagn.tensors.sources import as_floats
from mmagn.workers import in_threads

Batch = Mapping[str, Tensor]


def seed_of(*parts: int) -> int:
    """Seed that depends on all the parts, such as (seed, epoch, step), and on nothing else."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0])


class ShuffledBatches:
    """Rows (object,) in an order drawn from (seed, epoch), for training.

    Several processes share each batch of ``batch_size`` rows: all draw the same order and each takes its part of every
    batch, so they make the same number of steps, and the batches are those of one process. Parts differ by one row at
    most. The last batch may be smaller, but rows that would leave a process fewer than two join the batch before it:
    batch normalisation has no spread over one object.

    Raises
    ------
    ValueError
        Where a batch, or all rows together, do not give every process two rows.
    """

    def __init__(self, rows: Tensor, batch_size: int, seed: int, *, rank: int = 0, world: int = 1) -> None:
        if world > 1 and min(batch_size, len(rows)) < 2 * world:
            raise ValueError(
                f"training.batch_size is {batch_size} and there are {len(rows)} objects to train on; allowed: both at "
                f"least {2 * world}, two for each of the {world} processes that share a batch"
            )
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self.rank, self.world = rank, world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next; Lightning calls this before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        full, left = divmod(len(self.rows), self.batch_size)
        return full + (left >= 2 * self.world or full == 0)

    def batches(self) -> list[Tensor]:
        """(batch,) int64 rows of this process in each batch of the epoch."""
        generator = torch.Generator().manual_seed(seed_of(self.seed, self.epoch))
        rows = self.rows[torch.randperm(len(self.rows), generator=generator)]
        edges = [step * self.batch_size for step in range(1, len(self))]
        return [torch.tensor_split(batch, self.world)[self.rank] for batch in torch.tensor_split(rows, edges)]

    def share(self, step: int) -> float:
        """Return the rows of this process in a batch of the epoch over those of all, times the number of processes.

        The mean over processes of their mean losses, each times its share, is the mean over the batch.
        """
        before = step * self.batch_size
        batch = (len(self.rows) if step + 1 == len(self) else before + self.batch_size) - before
        own = batch // self.world + (self.rank < batch % self.world)
        return own * self.world / batch


class OrderedBatches:
    """Rows in the order given, for validation, test and prediction.

    Of several processes each takes its part of every batch, and all have as many batches. Where there are fewer rows
    than processes each takes all of them: no score changes when every object comes as often as the others.
    """

    def __init__(self, rows: Tensor, batch_size: int, *, rank: int = 0, world: int = 1) -> None:
        if len(rows) < world:
            rank, world = 0, 1
        self.rows, self.batch_size = rows, batch_size
        self.rank, self.world = rank, world
        self.epoch = 0

    def __len__(self) -> int:
        """Return the number of batches."""
        return min(-(-len(self.rows) // self.batch_size), len(self.rows) // self.world)

    def batches(self) -> list[Tensor]:
        """(batch,) int64 rows of this process in each batch."""
        if self.world == 1:
            return list(torch.split(self.rows, self.batch_size)) if len(self.rows) else []
        whole = torch.tensor_split(self.rows, len(self))
        return [torch.tensor_split(batch, self.world)[self.rank] for batch in whole]


class BatchLoader:
    """Iterable over batches that are selected by row, from memory or, by threads ahead of the steps, from elsewhere.

    It is no torch ``DataLoader``: tensors in memory leave nothing for workers to do, threads read mapped files without
    a further copy, and Lightning rebuilds and warns about those. Lightning finds ``sampler.set_epoch`` and, through
    ``state_dict``, resumes in the middle of an epoch.

    Parameters
    ----------
    select
        Batch of the given (batch,) rows.
    sampler
        Order of the batches; read when the first batch of an epoch is needed, not before.
    device
        Where batches are delivered; None delivers them as ``select`` returns them.
    workers
        Threads that select, each one batch ahead of the steps; 0 selects batch by batch.
    floats
        Deliver everything but ``index`` as float32.
    """

    def __init__(
        self,
        select: Callable[[Tensor], dict[str, Tensor]],
        sampler: ShuffledBatches | OrderedBatches,
        *,
        device: torch.device | None = None,
        workers: int = 0,
        floats: bool = True,
    ) -> None:
        self.select, self.sampler, self.device, self.workers = select, sampler, device, workers
        self.floats = floats
        self.batch_sampler = None  # Lightning reads it wherever there is a sampler
        self._delivered = 0
        self._resume: dict[str, int] = {}

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Yield the batches of the sampler's epoch, from where a resumed run had stopped."""
        skip = self._resume.get("delivered", 0) if self._resume.get("epoch") == self.sampler.epoch else 0
        self._resume = {}
        rows = self.sampler.batches()[skip:]
        batches = in_threads(self.select, rows, self.workers) if self.workers else map(self.select, rows)
        if self.device is not None:
            batches = _on_device(batches, self.device, ahead=self.workers > 0)
        for step, batch in enumerate(batches, start=skip):
            self._delivered = step + 1
            yield as_floats(batch) if self.device is not None and self.floats else batch

    def state_dict(self) -> dict[str, int]:
        """Epoch and number of batches delivered in it."""
        return {"epoch": self.sampler.epoch, "delivered": self._delivered}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume after the batches that were delivered in that epoch."""
        self._resume = {"epoch": int(state["epoch"]), "delivered": int(state["delivered"])}


def _on_device(
    batches: Iterable[dict[str, Tensor]], device: torch.device, *, ahead: bool
) -> Iterator[dict[str, Tensor]]:
    """Yield batches on a device; ``ahead`` copies the next one to a GPU while the step of the one before runs."""
    if device.type != "cuda" or not ahead:
        for batch in batches:
            yield {name: value.to(device, non_blocking=True) for name, value in batch.items()}
        return
    copies, waiting = torch.cuda.Stream(device), None  # type: ignore[no-untyped-call]
    for batch in batches:
        with torch.cuda.stream(copies):
            copied = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
        following = copied, copies.record_event()
        if waiting is not None:
            yield _arrived(*waiting)
        waiting = following
    if waiting is not None:
        yield _arrived(*waiting)


def _arrived(batch: dict[str, Tensor], copied: torch.cuda.Event) -> dict[str, Tensor]:
    """Return a batch that the current stream may use."""
    stream = torch.cuda.current_stream()
    stream.wait_event(copied)
    for value in batch.values():
        value.record_stream(stream)
    return batch

"""A function of tensors recorded as CUDA graphs: one launch in place of one for each of its kernels."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

Outputs = tuple[Tensor, ...]
Recorder = Callable[[Callable[[], Outputs]], Callable[[], Outputs]]
"""Records a function without arguments that changes tensors in place, and returns what repeats it."""

_abandoned: list[torch.cuda.CUDAGraph] = []
"""Graphs whose recording failed."""

logger = logging.getLogger(__name__)


class CapturedFunction:
    """A function of tensors that is recorded once for each set of shapes and repeated without Python from then on.

    The first call with a set of shapes runs the function as it is: it allocates optimiser state and lets libraries
    choose their kernels. The second one records it. A batch of another size, such as the last one of an epoch, has a
    recording of its own, so that nothing is padded and batch statistics are those of the batch.

    Parameters
    ----------
    function
        Called with a dict of tensors and a mode. It may change any tensor in place, but must read no other input
        that changes from call to call, and must not wait for the device. Outputs are valid until the next call.
    name
        What it is called in a warning.
    record
        How it is recorded; None always runs the function as it is.
    """

    def __init__(
        self, function: Callable[[dict[str, Tensor], Any], Outputs], name: str, record: Recorder | None
    ) -> None:
        self.function, self.name, self.record = function, name, record
        self._warm: set[Any] = set()
        self._recorded: dict[Any, tuple[dict[str, Tensor], Callable[[], Outputs]]] = {}

    def __call__(self, batch: Mapping[str, Tensor], mode: Any = None) -> Outputs:
        """Return the outputs for a batch; ``mode`` chooses between variants of the function."""
        signature = (mode, *((name, value.shape, value.dtype) for name, value in batch.items()))
        if self.record is None or signature not in self._warm:
            self._warm.add(signature)
            return self.function(dict(batch), mode)
        if signature not in self._recorded and not self._records(signature, batch, mode):
            return self.function(dict(batch), mode)
        inputs, repeat = self._recorded[signature]
        for name, value in inputs.items():
            value.copy_(batch[name], non_blocking=True)
        return repeat()

    def _records(self, signature: Any, batch: Mapping[str, Tensor], mode: Any) -> bool:
        """Return whether the function could be recorded; where not, a warning names the reason."""
        assert self.record is not None
        inputs = {name: value.clone() for name, value in batch.items()}
        try:
            self._recorded[signature] = inputs, self.record(lambda: self.function(inputs, mode))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = str(error).strip().partition("\n")[0]
            logger.warning("%s cannot be captured in a CUDA graph and runs without: %s", self.name, reason)
            self.record = None
            self._recorded.clear()
        return self.record is not None


class CudaGraphs:
    """Stream, memory and random numbers of the graphs of one fit, apart from those of any other fit."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.pool = torch.cuda.graph_pool_handle()
        self.generator = torch.Generator(device)

    def record(self, function: Callable[[], Outputs]) -> Callable[[], Outputs]:
        """Record a function on the stream of the fit; ``RuntimeError`` where it does what no graph can hold."""
        graph = torch.cuda.CUDAGraph()
        mode = "thread_local"  # other threads may allocate, such as those that read batches ahead
        try:
            with torch.cuda.graph(graph, self.pool, torch.cuda.current_stream(self.device), mode):
                outputs = function()
        except RuntimeError as error:
            self._renew(graph)
            if isinstance(error.__context__, torch.OutOfMemoryError):
                raise error.__context__ from None
            raise

        def repeat() -> Outputs:
            graph.replay()
            return outputs

        return repeat

    def _renew(self, graph: torch.cuda.CUDAGraph) -> None:
        """Leave behind what a failed recording may have left in disorder; the allocator still refers to the graph."""
        _abandoned.append(graph)
        self.generator, self.pool = torch.Generator(self.device), torch.cuda.graph_pool_handle()
        _default_generator(self.device).graphsafe_set_state(self.generator)

    @contextmanager
    def draws(self, seed: int) -> Iterator[None]:
        """Block within which all random numbers of the device come from a seed, in a recorded function too."""
        default = _default_generator(self.device)
        before = default.graphsafe_get_state()
        default.graphsafe_set_state(self.generator)
        default.manual_seed(seed)
        try:
            yield
        finally:
            default.graphsafe_set_state(before)


def _default_generator(device: torch.device) -> torch.Generator:
    index = torch.cuda.current_device() if device.index is None else device.index
    return torch.cuda.default_generators[index]

"""The exponential moving average of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from mmagn.training.module import AgnModule


class MovingAverage(Callback):
    """Moving average of weights and buffers: validation sees it, training does not.

    ``decay`` is what an update leaves of the average; the first update takes the weights as they are.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.values: list[Tensor] = []
        self._model: torch.nn.Module | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Allocate the average where the weights are, and let each step of the optimiser update it."""
        assert isinstance(pl_module, AgnModule)
        self._model, restored = pl_module.model, self.values
        self.values = [value.detach().clone() for value in self._tensors()]
        for value, earlier in zip(self.values, restored, strict=bool(restored)):
            value.copy_(earlier)
        pl_module.after_step = self.update

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the weights; a function of tensors on their device after the first call."""
        if self.updates == 0:
            torch._foreach_copy_(self.values, list(self._tensors()))
        else:
            pairs = list(zip(self.values, self._tensors(), strict=True))
            floats = [pair for pair in pairs if pair[0].is_floating_point()]
            torch._foreach_lerp_([average for average, _ in floats], [value for _, value in floats], 1 - self.decay)
            for average, value in pairs:
                if not average.is_floating_point():
                    average.copy_(value)
        self.updates += 1

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate the average."""
        self._swap()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the weights back."""
        self._swap()

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Block within which the model has the average for weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state_dict(self) -> dict[str, Any]:
        """Return the number of updates and the average."""
        return {"updates": self.updates, "values": self.values}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore both."""
        self.updates, self.values = state_dict["updates"], state_dict["values"]

    def _tensors(self) -> Iterator[Tensor]:
        assert self._model is not None
        return (value.detach() for value in chain(self._model.parameters(), self._model.buffers()))

    @torch.no_grad()
    def _swap(self) -> None:
        weights = list(self._tensors())
        averages = [value.clone() for value in self.values]
        torch._foreach_copy_(self.values, weights)
        torch._foreach_copy_(weights, averages)

"""Loss and scores over the objects of one epoch."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_average_precision,
    binary_precision,
    binary_recall,
)

from mmagn.training.side_by_side import wait_for_device

PARTS = ("losses", "logits", "target")


class EpochScores(Metric):
    """Loss and scores of one epoch, gathered on the device without waiting for it, and over all devices.

    A step appends to lists and nothing more; at the end of the epoch all is copied to the CPU at once.
    """

    full_state_update = False
    losses: list[Tensor]
    logits: list[Tensor]
    target: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in PARTS:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, losses: Tensor, logits: Tensor, target: Tensor) -> None:
        """Add a batch: (batch,) losses, logits and targets."""
        self.losses.append(losses.detach().float())
        self.logits.append(logits.detach().float())
        self.target.append(target.detach())

    def compute(self) -> dict[str, Tensor]:
        """Return the scores by name; only ``loss`` where one class is absent. A target above 1/2 is a positive."""
        stacked = torch.stack([_joined(getattr(self, name)) for name in PARTS])
        wait_for_device(stacked.device)
        losses, logits, target = stacked.cpu()
        values = {"loss": losses.mean()}
        truth = (target > 0.5).int()
        if 0 < int(truth.sum()) < len(truth):
            probability = logits.sigmoid()
            values["average_precision"] = binary_average_precision(probability, truth, validate_args=False)
            values["roc_auc"] = binary_auroc(probability, truth, validate_args=False)
            values["recall"] = binary_recall(probability, truth, validate_args=False)
            values["precision"] = binary_precision(probability, truth, validate_args=False)
        return values

    def gathered(self) -> dict[str, Tensor]:
        """Return what the steps of this epoch have added so far, on all devices: (object,) tensors by name."""
        with self.sync_context():
            return {name: _joined(getattr(self, name)).cpu() for name in PARTS if len(getattr(self, name))}

    def restore(self, gathered: dict[str, Any]) -> None:
        """Start from what :meth:`gathered` returned."""
        self.reset()
        if gathered:
            self.update(*(gathered[name].to(self.device) for name in PARTS))


def _joined(parts: list[Tensor] | Tensor) -> Tensor:
    """One tensor of the parts; a sync over several devices has joined them already."""
    return parts if isinstance(parts, Tensor) else torch.cat(parts)

"""Heads of one architecture as a batch: their weights side by side, one matrix product for a layer of all of them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class StackedHeads:
    """A batch of sequential heads of the same layers and widths, whose weights are copied to a device.

    Layers are Linear with bias, Dropout, whose strength may differ, and others without weights.

    Attributes
    ----------
    weights
        (member, parameter) weights at the start.
    dropout_widths
        Units of each Dropout layer.
    keep
        (member, unit) probability that a unit is kept, the Dropout layers side by side, on the CPU.
    """

    def __init__(self, heads: Sequence[nn.Sequential], device: torch.device | str) -> None:
        self.layers = list(heads[0])
        self.linear = [layer for layer in self.layers if isinstance(layer, nn.Linear)]
        self.weights = torch.stack([_flat(head) for head in heads]).to(device)
        self.dropout_widths = _dropout_widths(heads[0])
        self.keep = torch.stack([_keep(head, self.dropout_widths) for head in heads])

    def parts(self, weights: Tensor) -> list[Tensor]:
        """Views of (member, parameter) weights: (member, in, out) and (member, 1, out) of each Linear layer."""
        parts, first = [], 0
        for layer in self.linear:
            for rows in (layer.in_features, 1):
                size = rows * layer.out_features
                parts.append(weights[:, first : first + size].view(len(weights), rows, layer.out_features))
                first += size
        return parts

    def logits(self, parts: Sequence[Tensor], inputs: Tensor, kept: Sequence[Tensor] = ()) -> Tensor:
        """(member, batch) logits of (member, batch, feature) inputs, with weights as :meth:`parts` gives them.

        ``kept`` are (member, batch, unit) factors of each Dropout layer: 0, or one over the probability to be kept.
        Without them nothing is dropped.
        """
        hidden, weights, factors = inputs, iter(parts), iter(kept)
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                product, shift = next(weights), next(weights)
                hidden = torch.baddbmm(shift, hidden, product)
            elif not isinstance(layer, nn.Dropout):
                hidden = layer(hidden)
            elif kept:
                hidden = hidden * next(factors)
        return hidden.squeeze(-1)

    @torch.no_grad()
    def write(self, weights: Tensor, head: nn.Sequential) -> None:
        """Copy the (parameter,) weights of one member into its head."""
        parts = iter(self.parts(weights[None]))
        for layer in head:
            if isinstance(layer, nn.Linear):
                layer.weight.copy_(next(parts)[0].T)
                layer.bias.copy_(next(parts)[0, 0])


def _flat(head: nn.Sequential) -> Tensor:
    """(parameter,) weights of a head; matrices as (in, out), which the products read in order."""
    parts = []
    for layer in head:
        if isinstance(layer, nn.Linear):
            parts += [layer.weight.detach().T.flatten(), layer.bias.detach()]
    return torch.cat(parts).float()


def _dropout_widths(head: nn.Sequential) -> list[int]:
    """Units that each Dropout layer sees."""
    widths, width = [], 0
    for layer in head:
        width = layer.out_features if isinstance(layer, nn.Linear) else width
        widths += [width] if isinstance(layer, nn.Dropout) else []
    return widths


def _keep(head: nn.Sequential, widths: Sequence[int]) -> Tensor:
    """(unit,) probability that each unit of the Dropout layers is kept."""
    dropouts = [layer for layer in head if isinstance(layer, nn.Dropout)]
    return torch.tensor([1 - layer.p for layer, width in zip(dropouts, widths, strict=True) for _ in range(width)])

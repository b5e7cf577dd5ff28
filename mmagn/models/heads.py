"""From the embeddings of the modalities to a logit: the MLP head, a head for each modality alone, the late fusion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmagn.models.config import Branch, ModelsConfig

HEAD = "head"
"""Name of the logit of the MLP head; the other logits are named after their modality."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Logits:
    """Logits of a batch.

    Attributes
    ----------
    fused
        (batch,) from all modalities.
    parts
        (batch,) by name: ``head``, and each modality alone where the network has more than one.
    """

    fused: Tensor
    parts: dict[str, Tensor]


class FusionHeads(nn.Module):
    """Heads of a network: an MLP on all modalities; with more than one, one for each alone and a late fusion besides.

    The auxiliary head of an image or a spectrum is linear in its embedding, that of the features is an MLP. The MLP on
    all modalities is Linear(hidden), ReLU, Dropout, Linear(hidden / 2), ReLU, Dropout, Linear(1).

    Parameters
    ----------
    widths
        Length of the embedding of each modality, in the order in which they lie side by side.
    config
        Width and dropout of the MLPs.
    """

    def __init__(self, widths: Mapping[Branch, int], config: ModelsConfig) -> None:
        super().__init__()
        self.widths = dict(widths)
        self.head = _mlp(sum(widths.values()), config)
        self.auxiliary = nn.ModuleDict()
        self.late_fusion: LateFusion | None = None
        if len(widths) > 1:
            for name, width in widths.items():
                self.auxiliary[name] = _mlp(width, config) if name == "features" else nn.Linear(width, 1)
            self.late_fusion = LateFusion((HEAD, *widths), modalities=len(widths))

    def forward(self, embedding: Tensor, present: Tensor) -> Logits:
        """Logits from (batch, embedding) and (batch, modality) flags of the modalities that an object has."""
        parts = {HEAD: _logits(self.head, embedding)}
        for name, part in self.split(embedding).items():
            if name in self.auxiliary:
                parts[name] = _logits(self.auxiliary[name], part)
        return Logits(fused=parts[HEAD] if self.late_fusion is None else self.late_fusion(parts, present), parts=parts)

    def split(self, embedding: Tensor) -> dict[Branch, Tensor]:
        """(batch, width) embedding of each modality."""
        return dict(zip(self.widths, torch.split(embedding, list(self.widths.values()), dim=1), strict=True))


class LateFusion(nn.Module):
    """Fused logit ``bias[s] + sum_k weight[s, k] * logit_k`` of objects that have the subset ``s`` of the modalities.

    The weights are few and are fitted to objects that the heads were not trained on, not by gradient descent: they are
    buffers. Initially the first logit is passed through.

    Parameters
    ----------
    names
        Names of the logits.
    modalities
        Number of modalities; subset ``s`` contains modality ``m`` where bit ``m`` of ``s`` is set.

    Attributes
    ----------
    weight, bias
        (subset, logit) and (subset,) float32.
    """

    weight: Tensor
    bias: Tensor
    bits: Tensor

    def __init__(self, names: Sequence[str], *, modalities: int) -> None:
        super().__init__()
        self.names = tuple(names)
        weight = torch.zeros((2**modalities, len(self.names)))
        weight[:, 0] = 1.0
        self.register_buffer("weight", weight)
        self.register_buffer("bias", torch.zeros(2**modalities))
        self.register_buffer("bits", 2 ** torch.arange(modalities), persistent=False)

    def forward(self, logits: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """(batch,) fused logits from the (batch,) logits by name and (batch, modality) flags."""
        subset = (present * self.bits).sum(dim=1)
        stacked = torch.stack([logits[name] for name in self.names], dim=1)
        fused: Tensor = (self.weight[subset] * stacked).sum(dim=1) + self.bias[subset]
        return fused


@torch.no_grad()
def fused_logits(heads: FusionHeads, embedding: Tensor, present: Tensor | None = None) -> Tensor:
    """(object,) fused logits from (object, embedding) head inputs and, where not all have every one, modalities."""
    if present is None:
        present = torch.ones((len(embedding), len(heads.widths)), dtype=torch.bool, device=embedding.device)
    logits: Tensor = heads.eval()(embedding, present).fused
    return logits


def _mlp(width: int, config: ModelsConfig) -> nn.Sequential:
    half = config.hidden_dim // 2
    return nn.Sequential(
        nn.Linear(width, config.hidden_dim),
        nn.ReLU(),
        nn.Dropout(config.dropout),
        nn.Linear(config.hidden_dim, half),
        nn.ReLU(),
        nn.Dropout(config.dropout),
        nn.Linear(half, 1),
    )


def _logits(head: nn.Module, embedding: Tensor) -> Tensor:
    logits: Tensor = head(embedding).squeeze(-1).float()
    return logits

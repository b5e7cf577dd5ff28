"""Embedding of a spectrum: 1-D residual convolutions that know which pixels are valid and where they are."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmagn.models.config import SpectrumBranchConfig

_POSITION_OCTAVES = 5
"""Waves along the grid, from one period over the whole of it to 2**4 periods."""
_NORM_GROUPS = 4


class SpectrumBranch(nn.Module):
    """Residual stages, each at half the length of the one before, then pooling over the valid pixels only.

    The grid is at rest, so a place on it is a wavelength: sines and cosines of the place enter beside the spectrum,
    because convolutions and pooling alone cannot tell one narrow line from another. Groups are normalised within
    one spectrum, not over the batch, so a spectrum's score never depends on its neighbours.

    Parameters
    ----------
    config
        Widths of the stages, size of the kernels, length of the embedding.
    pixels
        Length of the grid.
    """

    position: Tensor

    def __init__(self, config: SpectrumBranchConfig, pixels: int) -> None:
        super().__init__()
        self.register_buffer("position", _position_waves(pixels), persistent=False)
        widths = (2 + len(self.position), *config.widths)
        self.stages = nn.ModuleList(
            ResidualStage(narrow, wide, config.kernel_size) for narrow, wide in pairwise(widths)
        )
        self.embedding = nn.Linear(2 * widths[-1], config.embedding_dim)

    def forward(self, spectrum: Tensor) -> Tensor:
        """(batch, embedding) from (batch, 2, pixel); what stands in channel 0 where channel 1 is 0 is never used."""
        information = spectrum[:, 1:]
        valid = (information > 0).to(information.dtype)
        excess = spectrum[:, :1].where(information > 0, 0.0)
        hidden = torch.cat((excess, information, self.position * valid), dim=1)
        for stage in self.stages:
            hidden, valid = stage(hidden, valid)
        embedding: Tensor = self.embedding(valid_pooling(hidden, valid))
        return embedding


class ResidualStage(nn.Module):
    """Two convolutions around a shortcut at half the length; 0 where no valid pixel is within reach of the stride."""

    def __init__(self, narrow: int, wide: int, kernel_size: int) -> None:
        super().__init__()
        groups = _NORM_GROUPS if wide % _NORM_GROUPS == 0 else 1
        around = kernel_size // 2
        self.first = nn.Conv1d(narrow, wide, kernel_size, stride=2, padding=around, bias=False)
        self.first_norm = nn.GroupNorm(groups, wide)
        self.second = nn.Conv1d(wide, wide, kernel_size, padding=around, bias=False)
        self.second_norm = nn.GroupNorm(groups, wide)
        self.shortcut = nn.Conv1d(narrow, wide, 2, stride=2)

    def forward(self, hidden: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, wide, pixel / 2) features and their (batch, 1, pixel / 2) valid flags."""
        if hidden.shape[-1] % 2:
            hidden, valid = functional.pad(hidden, (0, 1)), functional.pad(valid, (0, 1))
        valid = functional.max_pool1d(valid, 2)
        inner = functional.relu(self.first_norm(self.first(hidden))) * valid
        inner = self.second_norm(self.second(inner))
        return functional.relu(inner + self.shortcut(hidden)) * valid, valid


def valid_pooling(hidden: Tensor, valid: Tensor) -> Tensor:
    """(batch, 2 x feature) mean and maximum over the valid pixels; 0 for a spectrum that has none.

    Parameters
    ----------
    hidden
        (batch, feature, pixel).
    valid
        (batch, 1, pixel), 1 where valid and 0 elsewhere.
    """
    mean = (hidden * valid).sum(-1) / valid.sum(-1).clamp(min=1)
    lowest = torch.finfo(hidden.dtype).min
    largest = hidden.masked_fill(valid == 0, lowest).amax(-1)
    return torch.cat((mean, largest.where(valid.amax(-1) > 0, 0.0)), dim=1)


def _position_waves(pixels: int) -> Tensor:
    """(wave, pixel) sines and cosines of the place on the grid."""
    place = (torch.arange(pixels) + 0.5) / pixels
    angle = 2 * torch.pi * place * 2.0 ** torch.arange(_POSITION_OCTAVES)[:, None]
    return torch.cat((angle.sin(), angle.cos()))

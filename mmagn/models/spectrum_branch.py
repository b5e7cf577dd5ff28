"""Embedding of a spectrum: 1-D residual convolutions and pooling over the valid pixels."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmagn.models.config import SpectrumBranchConfig

_NORM_GROUPS = 4
_NORM_EPSILON = 1e-5


class SpectrumBranch(nn.Module):
    """Residual stages, each at half the length of the one before, then pooling over the valid pixels only.

    Lines are identified by their neighbours (H-alpha between the [N II] lines, H-beta beside the [O III] doublet).

    Parameters
    ----------
    config
        Widths of the stages, size of the kernels, length of the embedding.
    pixels
        Length of the grid; spectra of another length come from another grid and are refused.
    """

    def __init__(self, config: SpectrumBranchConfig, pixels: int) -> None:
        super().__init__()
        self.pixels = pixels
        widths = (2, *config.widths)
        self.stages = nn.ModuleList(
            ResidualStage(narrow, wide, config.kernel_size) for narrow, wide in pairwise(widths)
        )
        self.embedding = nn.Linear(2 * widths[-1], config.embedding_dim)

    def forward(self, spectrum: Tensor) -> Tensor:
        """(batch, embedding) from (batch, 2, pixel); what stands in channel 0 where channel 1 is 0 is never used."""
        if spectrum.shape[-1] != self.pixels:
            raise ValueError(f"a spectrum of {spectrum.shape[-1]} pixels was given to a network of {self.pixels}")
        information = spectrum[:, 1:]
        valid = (information > 0).to(information.dtype)
        excess = spectrum[:, :1].where(information > 0, 0.0)
        hidden = torch.cat((excess, information), dim=1)
        for stage in self.stages:
            hidden, valid = stage(hidden, valid)
        embedding: Tensor = self.embedding(valid_pooling(hidden, valid))
        return embedding


class ResidualStage(nn.Module):
    """Two convolutions and a shortcut at half the length; 0 where not valid."""

    def __init__(self, narrow: int, wide: int, kernel_size: int) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.first = nn.Conv1d(narrow, wide, kernel_size, stride=2, padding=padding, bias=False)
        self.first_norm = ValidNorm(wide)
        self.second = nn.Conv1d(wide, wide, kernel_size, padding=padding, bias=False)
        self.second_norm = ValidNorm(wide)
        self.shortcut = nn.Conv1d(narrow, wide, 2, stride=2)

    def forward(self, hidden: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, wide, pixel / 2) features and their (batch, 1, pixel / 2) valid flags."""
        if hidden.shape[-1] % 2:
            hidden, valid = functional.pad(hidden, (0, 1)), functional.pad(valid, (0, 1))
        halved = functional.max_pool1d(valid, 2)
        share = pixel_shares(halved)
        inner = functional.relu(self.first_norm(self.first(hidden), share)) * halved
        inner = self.second_norm(self.second(inner), share)
        return functional.relu(inner + self.shortcut(hidden)) * halved, halved


def pixel_shares(valid: Tensor) -> Tensor:
    """(batch, pixel, 1) float32 weights of a mean over the valid pixels, from (batch, 1, pixel) flags of 1 and 0."""
    flags = valid.float()
    return (flags / flags.sum(-1, keepdim=True).clamp(min=1)).mT


class ValidNorm(nn.Module):
    """Group normalisation (Wu & He 2018) whose means and variances come from the valid pixels alone.

    A spectrum is normalised by itself, so its score depends neither on the rest of the batch nor on how much of the
    grid it leaves uncovered. Statistics are float32 in every precision; sums over pixels are matrix products, which
    keeps the number of kernels small.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.groups = math.gcd(width, _NORM_GROUPS)
        self.weight, self.bias = nn.Parameter(torch.ones(width, 1)), nn.Parameter(torch.zeros(width, 1))

    def forward(self, hidden: Tensor, share: Tensor) -> Tensor:
        """(batch, feature, pixel) float32 normalised features.

        Parameters
        ----------
        hidden
            (batch, feature, pixel), finite everywhere.
        share
            (batch, pixel, 1) weight of each pixel, from :func:`pixel_shares`.
        """
        with torch.autocast(hidden.device.type, enabled=False):
            centred = hidden.float() - self._of_groups(torch.bmm(hidden.float(), share))
            variance = self._of_groups(torch.bmm(centred.square(), share))
            return torch.addcmul(self.bias, centred, self.weight * (variance + _NORM_EPSILON).rsqrt())

    def _of_groups(self, means: Tensor) -> Tensor:
        """(batch, feature, 1) mean over the features of each group, from that of each feature."""
        grouped = means.view(len(means), self.groups, -1)
        return grouped.mean(2, keepdim=True).expand_as(grouped).reshape(means.shape)


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

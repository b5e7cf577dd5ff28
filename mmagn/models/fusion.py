"""The whole network: the branches that are switched on, their embeddings side by side, and one head."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmagn.models.config import ModelsConfig
from mmagn.models.image_branch import ImageBranch
from mmagn.models.spectrum_branch import SpectrumBranch

FEATURE_COUNT = 10
"""Handcrafted features, where no other number is asked for."""


class FusionModel(nn.Module):
    """Logits from any combination of image, spectrum and handcrafted features.

    Each embedding is layer-normalised, so it enters the head on the scale of the standardised features. The head is
    Linear(hidden), ReLU, Dropout, Linear(hidden / 2), ReLU, Dropout, Linear(1). With the features alone the
    network is the head and nothing else: 10 -> hidden -> hidden / 2 -> 1.

    Parameters
    ----------
    config
        Branches, their settings, and the head.
    spectrum_pixels
        Length of the spectrum grid.
    features
        Number of features of the features branch.
    """

    def __init__(self, config: ModelsConfig, *, spectrum_pixels: int, features: int = FEATURE_COUNT) -> None:
        super().__init__()
        self.branches = config.branches
        self.image: nn.Module | None = None
        self.spectrum: nn.Module | None = None
        width = features if "features" in config.branches else 0
        if "image" in config.branches:
            dim = config.image.embedding_dim
            self.image, width = nn.Sequential(ImageBranch(config.image), nn.LayerNorm(dim)), width + dim
        if "spectrum" in config.branches:
            dim = config.spectrum.embedding_dim
            branch = SpectrumBranch(config.spectrum, spectrum_pixels)
            self.spectrum, width = nn.Sequential(branch, nn.LayerNorm(dim)), width + dim
        self.head = nn.Sequential(
            nn.Linear(width, config.hidden_dim),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden_dim, config.hidden_dim // 2),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden_dim // 2, 1),
        )

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """(batch,) logits of being an AGN.

        Parameters
        ----------
        batch
            ``image`` (batch, band, height, width), ``spectrum`` (batch, 2, pixel), ``features`` (batch, feature);
            those of the branches that are switched on.

        Raises
        ------
        ValueError
            When a branch finds no input.
        """
        logits: Tensor = self.head(self.embedding(batch)).squeeze(-1)
        return logits

    def embedding(self, batch: Mapping[str, Tensor]) -> Tensor:
        """(batch, embedding) what the head sees: image, spectrum and features side by side, those switched on."""
        for branch in self.branches:
            if branch not in batch:
                raise ValueError(f"the {branch} branch is on but the batch has no {branch}; it has {', '.join(batch)}")
        parts = [] if self.image is None else [self.image(batch["image"])]
        parts += [] if self.spectrum is None else [self.spectrum(batch["spectrum"])]
        parts += [batch["features"]] if "features" in self.branches else []
        return torch.cat(parts, dim=1)

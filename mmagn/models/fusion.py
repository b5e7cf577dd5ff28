"""The whole network: the branches that are switched on, their embeddings side by side, and one head."""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from mmagn.models.config import ModelsConfig
from mmagn.models.image_branch import ImageBranch
from mmagn.models.spectrum_branch import SpectrumBranch

FEATURE_COUNT = 10
"""Handcrafted features, where no other number is asked for."""


class FusionModel(nn.Module):
    """Logits from any combination of image, spectrum and handcrafted features.

    Each embedding is layer-normalised, so that it has the spread of a scaled feature.

    The head is Linear(hidden), ReLU, Dropout, Linear(hidden / 2), ReLU, Dropout, Linear(1). With the features alone
    the network is the head and nothing else: 10 -> hidden -> hidden / 2 -> 1.

    Where a batch says that an image or a spectrum is not valid, a learned embedding stands in for it.

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
        self.image: EmbeddedBranch | None = None
        self.spectrum: EmbeddedBranch | None = None
        width = 0
        if "image" in config.branches:
            dim = config.image.embedding_dim
            self.image, width = EmbeddedBranch(ImageBranch(config.image), dim), width + dim
        if "spectrum" in config.branches:
            dim = config.spectrum.embedding_dim
            branch = SpectrumBranch(config.spectrum, spectrum_pixels)
            self.spectrum, width = EmbeddedBranch(branch, dim), width + dim
        self.embedded_width = width
        width += features if "features" in config.branches else 0
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
            those of the branches that are switched on. ``image_valid`` and ``spectrum_valid`` (batch,) bool, all valid
            where absent: what stands in an image or spectrum that is not valid has no effect, but must be finite in
            training.

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
        parts = [] if self.image is None else [self.image(batch["image"], batch.get("image_valid"))]
        parts += [] if self.spectrum is None else [self.spectrum(batch["spectrum"], batch.get("spectrum_valid"))]
        parts += [batch["features"]] if "features" in self.branches else []
        return torch.cat(parts, dim=1)

    @property
    def has_branches_beside_features(self) -> bool:
        """True where it sees the features and more."""
        return "features" in self.branches and self.embedded_width > 0

    @torch.no_grad()
    def ignore_branches(self) -> None:
        """Let the head start without any weight on the embeddings of image and spectrum."""
        cast("nn.Linear", self.head[0]).weight[:, : self.embedded_width] = 0.0

    def embedding_of_features(self, features: Tensor) -> Tensor:
        """(batch, embedding) what the head sees of (batch, feature) features, with 0 in place of image and spectrum."""
        return torch.cat((features.new_zeros((len(features), self.embedded_width)), features), dim=1)


class EmbeddedBranch(nn.Module):
    """Layer-normalised embedding of a branch, and what stands in for it where an object has no such input.

    Parameters
    ----------
    branch
        Maps its input to (batch, embedding).
    embedding_dim
        Length of the embedding.
    """

    def __init__(self, branch: nn.Module, embedding_dim: int) -> None:
        super().__init__()
        self.branch, self.layer_norm = branch, nn.LayerNorm(embedding_dim)
        self.stand_in = nn.Parameter(torch.zeros(embedding_dim))

    def forward(self, values: Tensor, valid: Tensor | None) -> Tensor:
        """(batch, embedding) from the input of the branch and its (batch,) valid flags, None for all valid."""
        embedding: Tensor = self.layer_norm(self.branch(values))
        if valid is None:
            valid = torch.ones(len(embedding), dtype=torch.bool, device=embedding.device)
        return torch.where(valid[:, None], embedding, self.stand_in.to(embedding.dtype))

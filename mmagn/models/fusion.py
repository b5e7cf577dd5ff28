"""The whole network: the branches that are on, their embeddings side by side, and the heads."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from mmagn.models.config import Branch, ModelsConfig
from mmagn.models.embedding_branch import EmbeddingBranch
from mmagn.models.heads import HEAD, FusionHeads, Logits
from mmagn.models.image_branch import ImageBranch
from mmagn.models.spectrum_branch import SpectrumBranch

FEATURE_COUNT = 10
"""Handcrafted features, unless another number is configured."""
MODULES: dict[Branch, str] = {"image": "image", "spectrum": "spectrum", "embedding": "vectors"}
"""Module of each branch that learns."""


class FusionModel(nn.Module):
    """Logits from any combination of image, spectrum, vectors that were computed elsewhere, and handcrafted features.

    Each embedding is layer-normalised, so that it has the spread of a scaled feature. With one modality the network is
    its branch and the MLP head; on features alone it is 10 -> hidden -> hidden / 2 -> 1.

    With more than one, each branch learns through a head of its own (deep supervision, Lee+2015), as it would alone;
    the MLP head on all embeddings and features, and a late fusion of its logit with those of the single modalities, are
    fitted to the finished branches. See :class:`mmagn.models.heads.FusionHeads`.

    Parameters
    ----------
    config
        Branches, their settings, and the heads.
    spectrum_pixels
        Length of the spectrum grid.
    features
        Number of features of the features branch.
    """

    def __init__(self, config: ModelsConfig, *, spectrum_pixels: int, features: int = FEATURE_COUNT) -> None:
        super().__init__()
        self.image: EmbeddedBranch | None = None
        self.spectrum: EmbeddedBranch | None = None
        self.vectors: EmbeddedBranch | None = None
        widths: dict[Branch, int] = {}
        if "image" in config.branches:
            widths["image"] = config.image.embedding_dim
            self.image = EmbeddedBranch(ImageBranch(config.image), widths["image"])
        if "spectrum" in config.branches:
            widths["spectrum"] = config.spectrum.embedding_dim
            self.spectrum = EmbeddedBranch(SpectrumBranch(config.spectrum, spectrum_pixels), widths["spectrum"])
        if "embedding" in config.branches:
            widths["embedding"] = config.embedding.embedding_dim
            self.vectors = EmbeddedBranch(EmbeddingBranch(config.embedding), widths["embedding"])
        if "features" in config.branches:
            widths["features"] = features
        self.branches = tuple(widths)
        self.heads = FusionHeads(widths, config)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """(batch,) fused logits of being an AGN; see :meth:`logits`."""
        return self.logits(batch).fused

    def logits(self, batch: Mapping[str, Tensor]) -> Logits:
        """Fused logits, and those that they are made of.

        Parameters
        ----------
        batch
            ``image`` (batch, band, height, width), ``spectrum`` (batch, 2, pixel), ``embedding`` (batch, length),
            ``features`` (batch, feature); those of the modalities that are on. ``image_valid`` and so on (batch,) bool,
            all valid where absent: a modality that is not valid has no effect, but must be finite in training.

        Raises
        ------
        ValueError
            When a branch has no input.
        """
        logits: Logits = self.heads(self.embedding(batch), self.present(batch))
        return logits

    def embedding(self, batch: Mapping[str, Tensor]) -> Tensor:
        """(batch, embedding) input of the heads: image, spectrum, vector, features side by side, those that are on.

        0, the mean of an embedding over its units, where a modality is not valid.
        """
        for name in self.branches:
            if name not in batch:
                raise ValueError(f"the {name} branch is on but the batch has no {name}; it has {', '.join(batch)}")
        return torch.cat([self._embedding(name, batch) for name in self.branches], dim=1)

    def present(self, batch: Mapping[str, Tensor]) -> Tensor:
        """(batch, modality) bool: the object has this modality."""
        some = batch[self.branches[0]]
        every = torch.ones(len(some), dtype=torch.bool, device=some.device)
        return torch.stack([batch.get(f"{name}_valid", every).bool() for name in self.branches], dim=1)

    @property
    def vector_branch(self) -> EmbeddingBranch | None:
        """What standardises and projects the vectors; None where the network takes none."""
        branch = None if self.vectors is None else self.vectors.branch
        return branch if isinstance(branch, EmbeddingBranch) else None

    def branch_logits(self, batch: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
        """(batch,) logits through which the named branches learn: each branch alone, or the whole network."""
        if not self.heads.auxiliary:
            return {HEAD: self(batch)}
        return {
            name: self.heads.auxiliary[name](self._embedding(name, batch)).squeeze(-1).float()
            for name in self.branches
            if name in names
        }

    def branch_modules(self) -> dict[str, tuple[str, ...]]:
        """Names of the modules that learn through each of :meth:`branch_logits`."""
        if not self.heads.auxiliary:
            return {HEAD: tuple(name for name, _ in self.named_children())}
        return {name: (MODULES[name], f"heads.auxiliary.{name}") for name in self.branches if name != "features"}

    def _embedding(self, name: Branch, batch: Mapping[str, Tensor]) -> Tensor:
        branch = getattr(self, MODULES[name]) if name in MODULES else None
        embedding: Tensor = batch[name] if branch is None else branch(batch[name])
        valid = batch.get(f"{name}_valid")
        return embedding if valid is None else embedding.where(valid.bool()[:, None], 0.0)


class EmbeddedBranch(nn.Module):
    """Layer-normalised embedding of a branch.

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

    def forward(self, values: Tensor) -> Tensor:
        """(batch, embedding) from the input of the branch."""
        embedding: Tensor = self.layer_norm(self.branch(values))
        return embedding

"""The embedding branch: a linear projection of vectors that were computed elsewhere."""

import torch
from torch import Tensor, nn

from mmagn.models.config import EmbeddingBranchConfig


class EmbeddingBranch(nn.Module):
    """Linear projection of vectors that are standardised by mean and standard deviation of the training objects.

    Parameters
    ----------
    config
        Lengths of vector and embedding, and dropout.

    Attributes
    ----------
    mean, std
        (length,) of the training objects, part of the weights.

    Raises
    ------
    ValueError
        Where the length of the vectors is not known.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: EmbeddingBranchConfig) -> None:
        super().__init__()
        if not config.input_dim:
            raise ValueError("models.embedding.input_dim is 0; allowed: the length of the vectors of data.embeddings")
        self.register_buffer("mean", torch.zeros(config.input_dim))
        self.register_buffer("std", torch.ones(config.input_dim))
        self.dropout = nn.Dropout(config.dropout)
        self.projection = nn.Linear(config.input_dim, config.embedding_dim)

    def standardise(self, vectors: Tensor) -> None:
        """Take mean and standard deviation of (object, length) vectors, NaN where an object has none."""
        known = vectors[vectors.isfinite().all(dim=1)].double()
        if len(known):
            std, mean = torch.std_mean(known, dim=0, correction=0)
            self.mean.copy_(mean)
            self.std.copy_(std.where(std > 0, 1.0))

    def forward(self, vectors: Tensor) -> Tensor:
        """(batch, embedding) from (batch, length) vectors."""
        embedding: Tensor = self.projection(self.dropout((vectors - self.mean) / self.std))
        return embedding

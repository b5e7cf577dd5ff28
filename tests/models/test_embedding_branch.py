"""Vectors of others are standardised by the training objects, projected, and have no effect where they are missing."""

import numpy as np
import pytest
import torch

from mmagn.models.config import EmbeddingBranchConfig, ModelsConfig
from mmagn.models.embedding_branch import EmbeddingBranch
from mmagn.models.fusion import FusionModel
from mmagn.tensors.residency import vector_columns


def test_training_objects_that_have_a_vector_have_mean_zero_and_spread_one() -> None:
    rng = np.random.default_rng(1)
    vectors = (rng.normal(size=(50, 3)) * [1e-3, 1.0, 1e3] + [5.0, 0.0, -1e4]).astype(np.float32)
    vectors = np.concatenate([vectors, np.full((50, 1), 7, np.float32)], axis=1)
    vectors[::5] = np.nan
    branch = EmbeddingBranch(EmbeddingBranchConfig(input_dim=4, embedding_dim=4, dropout=0.0))
    branch.standardise(torch.from_numpy(vectors))
    with torch.no_grad():
        branch.projection.weight.copy_(torch.eye(4))
        branch.projection.bias.zero_()
        standardised = branch(torch.from_numpy(vectors[np.isfinite(vectors).all(axis=1)]))
    torch.testing.assert_close(standardised.mean(dim=0), torch.zeros(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(standardised.std(dim=0, correction=0), torch.tensor([1.0, 1, 1, 0]), atol=1e-3, rtol=0)
    assert {"mean", "std"} <= set(branch.state_dict())


def test_an_object_without_a_vector_is_scored_by_what_it_has() -> None:
    torch.manual_seed(0)
    config = ModelsConfig(branches=("features", "embedding"), embedding=EmbeddingBranchConfig(input_dim=2))
    model = FusionModel(config, spectrum_pixels=8).eval()
    vectors = np.array([[1, 2], [np.nan, np.nan], [3, np.inf]], np.float32)
    given = {"features": torch.randn(3, 10), **vector_columns(vectors)}
    assert model.present(given).tolist() == [[True, True], [False, True], [False, True]]
    assert torch.equal(model.embedding(given)[1:, :8], torch.zeros(2, 8))
    assert torch.isfinite(model(given)).all()


def test_vectors_of_unknown_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"models\.embedding\.input_dim is 0; allowed: the length"):
        FusionModel(ModelsConfig(branches=("embedding",)), spectrum_pixels=8)

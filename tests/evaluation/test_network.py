"""Evaluation of a network uses its evaluation mode, keeps the order of the objects and refuses a diverged network."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmagn.evaluation.network import checked_logits, input_importances, network_output
from mmagn.models.config import ModelsConfig
from mmagn.models.fusion import FusionModel


class DroppedFeatures(FusionModel):
    """Network on three features, half of which training would drop."""

    def __init__(self) -> None:
        super().__init__(ModelsConfig(branches=("features",)), spectrum_pixels=64, features=3)
        self.dropout = nn.Dropout(0.5)

    def embedding(self, batch: Mapping[str, Tensor]) -> Tensor:
        assert batch["features"].dtype == torch.float32
        return self.dropout(batch["features"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_logits_and_embeddings_come_in_order_without_dropout(dtype: torch.dtype) -> None:
    values = torch.randn(10, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    model = DroppedFeatures().train()
    logits, embedding = network_output(model, [{"features": part} for part in values.split(4)], "cpu").arrays()
    np.testing.assert_array_equal(embedding, values.float().numpy())
    expected = model.heads.head(values.float()).squeeze(-1).detach().numpy()
    np.testing.assert_allclose(logits, expected, rtol=1e-6, atol=2e-7)


def test_no_batch_gives_no_logits() -> None:
    assert network_output(DroppedFeatures(), [], "cpu").arrays()[0].shape == (0,)


def test_a_diverged_network_is_named() -> None:
    with pytest.raises(ValueError, match="the logit of object 7 is nan; the network has diverged"):
        checked_logits(np.array([3, 7]), np.array([0.0, np.nan]))


@pytest.mark.parametrize("decisive", ["image", "spectrum", "features"])
def test_the_input_that_the_head_uses_is_the_important_one(decisive: str) -> None:
    model = FusionModel(ModelsConfig(branches=("image", "spectrum", "features")), spectrum_pixels=64, features=3)
    columns = {"image": 0, "spectrum": 8, "features": 16}
    rng = np.random.default_rng(0)
    target = (np.arange(60) < 20).astype(float)
    embedding = rng.normal(size=(60, 19)).astype(np.float32)
    embedding[:, columns[decisive]] += 4 * target.astype(np.float32)
    model.heads.head = nn.Sequential(nn.Linear(19, 1))
    with torch.no_grad():
        model.heads.head[0].weight.zero_()
        model.heads.head[0].weight[0, columns[decisive]] = 1.0
    importances = {each.name: each for each in input_importances(model.eval(), target, embedding, 0)}
    assert list(importances) == ["image", "spectrum", "features"]
    assert importances.pop(decisive).low > 0.2
    assert all(each.value == 0 for each in importances.values())


def test_a_single_input_needs_no_permutation() -> None:
    model = FusionModel(ModelsConfig(branches=("features",)), spectrum_pixels=64, features=3)
    assert input_importances(model, np.array([0.0, 1.0]), np.zeros((2, 3), dtype=np.float32), 0) == []

"""Evaluation of a network uses its evaluation mode, keeps the order of the objects and refuses a diverged network."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmagn.evaluation.network import checked_logits, logits_and_embeddings


class SumOfFeatures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dropout, self.head = nn.Dropout(0.5), nn.Linear(3, 1)

    def embedding(self, batch: Mapping[str, Tensor]) -> Tensor:
        assert batch["features"].dtype == torch.float32
        return self.dropout(batch["features"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_logits_and_embeddings_come_in_order_without_dropout(dtype: torch.dtype) -> None:
    values = torch.randn(10, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    model = SumOfFeatures().train()
    logits, embedding = logits_and_embeddings(model, [{"features": part} for part in values.split(4)], "cpu")
    np.testing.assert_array_equal(embedding, values.float().numpy())
    np.testing.assert_allclose(logits, model.head(values.float()).squeeze(-1).detach().numpy(), rtol=1e-6)


def test_no_batch_gives_no_logits() -> None:
    assert logits_and_embeddings(SumOfFeatures(), [], "cpu")[0].shape == (0,)


def test_a_diverged_network_is_named() -> None:
    with pytest.raises(ValueError, match="the logit of object 7 is nan; the network has diverged"):
        checked_logits(np.array([3, 7]), np.array([0.0, np.nan]))

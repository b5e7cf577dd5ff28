import pytest
import torch

from mmagn.models.config import ModelsConfig
from mmagn.models.heads import FusionHeads, LateFusion

WIDTHS = {"image": 3, "spectrum": 2, "features": 4}
EMBEDDING = torch.randn((8, 9), generator=torch.Generator().manual_seed(0))
PRESENT = torch.ones((8, 3), dtype=torch.bool)


def heads() -> FusionHeads:
    torch.manual_seed(1)
    return FusionHeads(WIDTHS, ModelsConfig()).eval()  # type: ignore[arg-type]


def test_before_the_late_fusion_is_fitted_the_fused_logit_is_that_of_the_head() -> None:
    logits = heads()(EMBEDDING, PRESENT)
    assert torch.equal(logits.fused, logits.parts["head"])
    assert list(logits.parts) == ["head", "image", "spectrum", "features"]


def test_a_single_modality_has_the_head_and_nothing_else() -> None:
    alone = FusionHeads({"features": 4}, ModelsConfig())
    assert alone.late_fusion is None
    assert list(alone(EMBEDDING[:, :4], PRESENT[:, :1]).parts) == ["head"]


@pytest.mark.parametrize(
    ("name", "columns"), [("image", slice(0, 3)), ("spectrum", slice(3, 5)), ("features", slice(5, 9))]
)
def test_the_logit_of_a_modality_depends_on_its_own_embedding_alone(name: str, columns: slice) -> None:
    network, changed = heads(), EMBEDDING.clone()
    changed[:, columns] += 1.0
    before, after = network(EMBEDDING, PRESENT).parts, network(changed, PRESENT).parts
    assert {part for part in before if not torch.equal(before[part], after[part])} == {"head", name}


def test_the_fused_logit_is_the_weighted_sum_of_the_subset_of_each_object() -> None:
    fusion = LateFusion(("head", "image", "features"), modalities=2)
    fusion.weight[1], fusion.bias[1] = torch.tensor([0.0, 2.0, 0.0]), 0.5
    fusion.weight[3], fusion.bias[3] = torch.tensor([1.0, 0.5, 0.25]), -1.0
    logits = {"head": torch.tensor([1.0, 1.0]), "image": torch.tensor([2.0, 2.0]), "features": torch.tensor([4.0, 4.0])}
    present = torch.tensor([[True, False], [True, True]])
    assert fusion(logits, present).tolist() == [4.5, 2.0]

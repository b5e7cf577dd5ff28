from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmagn.models.config import EmbeddingBranchConfig, ImageBranchConfig, ModelsConfig, SpectrumBranchConfig
from mmagn.models.fusion import FusionModel

BRANCHES = ("image", "spectrum", "embedding", "features")
MEASURED = ("image", "spectrum", "features")
COMBINATIONS = [chosen for count in (1, 2, 3) for chosen in combinations(MEASURED, count)]
COMBINATIONS += [("embedding",), ("embedding", "features"), BRANCHES]
PIXELS = 96
MIXED = {
    "image_valid": torch.arange(16) % 4 != 1,
    "spectrum_valid": torch.arange(16) % 4 != 2,
    "features_valid": torch.arange(16) % 4 != 3,
    "embedding_valid": torch.arange(16) % 4 != 3,
}
"""Of 16 objects four with everything, and four each without the image, the spectrum, and features and vector."""


def model(branches: Any = BRANCHES, **settings: Any) -> FusionModel:
    torch.manual_seed(0)
    config = ModelsConfig(
        branches=branches,
        image=ImageBranchConfig(embedding_dim=8),
        spectrum=SpectrumBranchConfig(widths=(8, 8), kernel_size=5, embedding_dim=6),
        embedding=EmbeddingBranchConfig(input_dim=12, embedding_dim=5, dropout=0.0),
        **{"hidden_dim": 16, "dropout": 0.0, **settings},
    )
    return FusionModel(config, spectrum_pixels=PIXELS)


def batch(count: int = 16) -> dict[str, Tensor]:
    drawn = torch.Generator().manual_seed(1)
    information = torch.rand((count, PIXELS), generator=drawn).clamp(min=0.05)
    information[:, -10:] = 0
    excess = torch.randn((count, PIXELS), generator=drawn) * (information > 0)
    return {
        "image": torch.randn((count, 5, 32, 32), generator=drawn),
        "spectrum": torch.stack((excess, information), dim=1),
        "features": torch.randn((count, 10), generator=drawn),
        "embedding": torch.randn((count, 12), generator=drawn),
        "target": (torch.arange(count) % 2).float(),
        "index": torch.arange(count),
    }


def loss_of(network: FusionModel, given: dict[str, Tensor]) -> Tensor:
    """Loss of the head and of each modality alone."""
    losses = [
        nn.functional.binary_cross_entropy_with_logits(logits, given["target"])
        for logits in network.logits(given).parts.values()
    ]
    return torch.stack(losses).sum()


@pytest.mark.parametrize("branches", COMBINATIONS, ids="+".join)
def test_every_parameter_gets_a_gradient(branches: tuple[str, ...]) -> None:
    network = model(branches)
    loss_of(network, {**batch(), **MIXED}).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("branches", COMBINATIONS, ids="+".join)
def test_a_branch_has_an_effect_exactly_when_it_is_plugged_in(branches: tuple[str, ...]) -> None:
    network = model(branches).eval()
    before = network(batch())
    for name in BRANCHES:
        changed = batch()
        changed[name][:, 0] += 1.0
        assert torch.equal(network(changed), before) == (name not in branches), name


@pytest.mark.parametrize("branches", COMBINATIONS, ids="+".join)
def test_only_the_branches_that_are_on_are_needed(branches: tuple[str, ...]) -> None:
    network = model(branches).eval()
    given = {name: batch()[name] for name in branches}
    assert torch.equal(network(given), network(batch()))
    assert network(given).shape == (16,)
    assert network({name: value[:1] for name, value in given.items()}).shape == (1,)


@pytest.mark.parametrize("branch", BRANCHES)
def test_a_missing_input_names_its_branch(branch: str) -> None:
    given = {name: value for name, value in batch().items() if name != branch}
    with pytest.raises(ValueError, match=f"the {branch} branch is on but the batch has no {branch}"):
        model()(given)


@pytest.mark.parametrize("hidden", [16, 32, 64])
def test_the_handcrafted_network_is_ten_to_hidden_to_half_to_one(hidden: int) -> None:
    network = model(("features",), hidden_dim=hidden, dropout=0.3)
    layers = [(type(layer), *layer.weight.shape) for layer in network.modules() if isinstance(layer, nn.Linear)]
    assert layers == [(nn.Linear, hidden, 10), (nn.Linear, hidden // 2, hidden), (nn.Linear, 1, hidden // 2)]
    assert [type(layer) for layer in network.heads.head] == [
        nn.Linear,
        nn.ReLU,
        nn.Dropout,
        nn.Linear,
        nn.ReLU,
        nn.Dropout,
        nn.Linear,
    ]
    assert [layer.p for layer in network.heads.head if isinstance(layer, nn.Dropout)] == [0.3, 0.3]
    numbers = sum(parameter.numel() for parameter in network.parameters())
    assert numbers == 11 * hidden + (hidden + 1) * hidden // 2 + hidden // 2 + 1


@pytest.mark.parametrize("branches", COMBINATIONS, ids="+".join)
def test_one_batch_can_be_overfitted(branches: tuple[str, ...]) -> None:
    network, given = model(branches, hidden_dim=64), batch(8)
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(200):
        optimiser.zero_grad()
        loss = loss_of(network, given)
        loss.backward()
        optimiser.step()
        if loss < 0.05:
            break
    assert loss < 0.05


def test_embeddings_have_the_spread_of_a_scaled_feature() -> None:
    for branches in (("image", "spectrum"), BRANCHES):
        embedding = model(branches).eval().embedding(batch())
        assert embedding.shape == (16, 8 + 6 + (5 + 10) * (len(branches) == len(BRANCHES)))
        for part in (embedding[:, :8], embedding[:, 8:14]):
            torch.testing.assert_close(part.std(dim=1, unbiased=False), torch.ones(16), rtol=0.05, atol=0.0)


def test_what_is_not_valid_has_no_effect_on_score_or_gradient() -> None:
    network, given, changed = model().eval(), {**batch(), **MIXED}, {**batch(), **MIXED}
    for name in BRANCHES:
        changed[name] = changed[name].clone()
        changed[name][~MIXED[f"{name}_valid"]] = 7.0
    assert torch.equal(network(changed), network(given))
    given["image"].requires_grad_()
    network(given).sum().backward()
    gradient = given["image"].grad
    assert gradient is not None
    assert torch.equal(gradient.abs().sum((1, 2, 3)) > 0, MIXED["image_valid"])


def test_in_a_batch_of_mixed_presence_each_object_scores_as_it_does_alone() -> None:
    network, given = model().eval(), {**batch(), **MIXED}
    together = network(given)
    for row in range(4):
        alone = network({name: value[row : row + 1] for name, value in given.items()})
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-5)
    complete = torch.stack(list(MIXED.values())).all(0)
    whole = network({name: value[complete] for name, value in batch().items()})
    torch.testing.assert_close(together[complete], whole, rtol=1e-4, atol=1e-5)


def test_bf16_autocast_is_finite_and_close() -> None:
    network = model().eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = network(batch())
    assert torch.isfinite(half).all()
    torch.testing.assert_close(half.float(), network(batch()), rtol=0.1, atol=0.1)


def test_a_score_does_not_depend_on_the_other_objects_of_the_batch() -> None:
    network = model().eval()
    alone = network({name: value[3:4] for name, value in batch().items()})
    torch.testing.assert_close(alone, network(batch())[3:4], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("branches", COMBINATIONS, ids="+".join)
def test_each_branch_learns_through_a_logit_that_no_other_input_changes(branches: tuple[str, ...]) -> None:
    network = model(branches).eval()
    modules = network.branch_modules()
    before = network.branch_logits(batch(), modules)
    assert set(before) == set(modules) == ({"head"} if len(branches) == 1 else set(branches) - {"features"})
    for name in set(BRANCHES) - {"features"} if len(branches) > 1 else ():
        changed = batch()
        changed[name][:, 0] += 1.0
        after = network.branch_logits(changed, modules)
        assert {part for part in before if not torch.equal(before[part], after[part])} == {name} & set(branches)
    learning = {
        name
        for names in modules.values()
        for prefix in names
        for name, _ in network.get_submodule(prefix).named_parameters(prefix)
    }
    sum(logits.square().sum() for logits in before.values()).backward()
    assert learning == {name for name, value in network.named_parameters() if value.grad is not None}


def test_the_same_seed_gives_the_same_weights() -> None:
    one, two = model().state_dict(), model().state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_with_fewer_features_the_head_is_narrower_and_nothing_else_changes() -> None:
    config = ModelsConfig(branches=("features",))
    ten, three = FusionModel(config, spectrum_pixels=PIXELS), FusionModel(config, spectrum_pixels=PIXELS, features=3)
    widths = [
        [layer.in_features for layer in model.heads.head if isinstance(layer, nn.Linear)] for model in (ten, three)
    ]
    assert widths == [[10, 32, 16], [3, 32, 16]]
    assert three({"features": torch.zeros(2, 3)}).shape == (2,)

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from mmagn.models.config import ImageBranchConfig
from mmagn.models.image_branch import ImageBranch

SMALL = "test_resnet"


def image(size: int = 32) -> torch.Tensor:
    return torch.randn((2, 5, size, size), generator=torch.Generator().manual_seed(0))


def branch(**settings: Any) -> ImageBranch:
    return ImageBranch(ImageBranchConfig(**{"backbone": SMALL, "embedding_dim": 7, **settings}))


@pytest.mark.parametrize("backbone", [SMALL, "lcnet_050", "test_convnext", "test_vit", "mobilenetv3_small_050"])
def test_backbones_of_any_family_give_one_embedding_each(backbone: str) -> None:
    assert branch(backbone=backbone)(image(48)).shape == (2, 7)


def test_the_default_backbone_exists_and_takes_five_bands() -> None:
    network = ImageBranch(ImageBranchConfig())
    assert network(image()).shape == (2, ImageBranchConfig().embedding_dim)


def test_an_unknown_backbone_names_the_close_ones() -> None:
    with pytest.raises(ValueError, match=r"backbone resnet10 is unknown to timm; close names: .*resnet10t"):
        branch(backbone="resnet10")


@pytest.mark.parametrize(("suffix", "save"), [("safetensors", save_file), ("pt", torch.save)])
def test_weights_from_a_local_file_are_the_ones_used(
    tmp_path: Path, suffix: str, save: Callable[[dict[str, torch.Tensor], Path], None]
) -> None:
    torch.manual_seed(3)
    donor = timm.create_model(SMALL, in_chans=5, num_classes=0)
    save(donor.state_dict(), tmp_path / f"weights.{suffix}")
    torch.manual_seed(4)
    network = branch(weights=str(tmp_path / f"weights.{suffix}"))
    for name, value in network.backbone.state_dict().items():
        assert torch.equal(value, donor.state_dict()[name]), name


def test_weights_of_a_three_band_classifier_are_adapted(tmp_path: Path) -> None:
    donor = timm.create_model(SMALL, num_classes=11)
    save_file(donor.state_dict(), tmp_path / "weights.safetensors")
    network = branch(weights=str(tmp_path / "weights.safetensors"))
    state = network.backbone.state_dict()
    assert torch.equal(state["layer1.0.conv2.weight"], donor.state_dict()["layer1.0.conv2.weight"])
    assert torch.isfinite(network(image())).all()


def test_a_missing_file_of_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"models.image.weights .*absent.pt does not exist"):
        branch(weights=str(tmp_path / "absent.pt"))


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_a_file_that_holds_something_else_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"no weights at all")
    with pytest.raises(ValueError, match=rf"models.image.weights .*{name} does not hold weights of test_resnet"):
        branch(weights=str(tmp_path / name))


def test_weights_of_another_backbone_are_refused(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_convnext", in_chans=5).state_dict(), tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other.pt does not hold weights of test_resnet \(it has no conv1"):
        branch(weights=str(tmp_path / "other.pt"))


def test_published_weights_without_network_are_one_clear_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("We couldn't connect\nto the hub")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ValueError, match=r"^models.image.pretrained: no published .*couldn't connect\).*false$"):
        branch(pretrained=True)


def test_weights_that_timm_leaves_out_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    donor = timm.create_model(SMALL, num_classes=0)
    save_file(donor.state_dict(), tmp_path / "weights.safetensors")
    create = timm.create_model

    def forgetful(*arguments: Any, **settings: Any) -> Any:
        backbone = create(*arguments, **settings)
        torch.nn.init.normal_(next(backbone.parameters()))
        return backbone

    monkeypatch.setattr(timm, "create_model", forgetful)
    with pytest.raises(ValueError, match=r"did not load its conv1.*; allowed: timm 1\.0\.31 or newer"):
        branch(weights=str(tmp_path / "weights.safetensors"))

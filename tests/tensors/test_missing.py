import pytest
import torch
from torch import Tensor

from mmagn.features.names import FEATURE_NAMES, LINE_FREE_FEATURES
from mmagn.tensors.augment import augment_batch
from mmagn.tensors.config import AugmentConfig
from mmagn.tensors.missing import FeatureOrigin, narrow_views
from mmagn.tensors.scaling import FeatureScaling

OBJECTS = 3000
DROPS = AugmentConfig(dihedral=False, image_noise=0.0, spectrum_noise=0.0, image_dropout=0.3, spectrum_dropout=0.1)


def scaling(count: int = 10) -> FeatureScaling:
    values = torch.randn((50, count), generator=torch.Generator().manual_seed(2)).exp().double().numpy()
    return FeatureScaling.fit(values, values > 0.2)


def batch(count: int = OBJECTS) -> dict[str, Tensor]:
    drawn = torch.Generator().manual_seed(3)
    return {
        "image": torch.randn((count, 5, 2, 2), generator=drawn),
        "spectrum": torch.rand((count, 2, 3), generator=drawn),
        "features": torch.randn((count, 10), generator=drawn),
        "index": torch.arange(count),
    }


def dropped(given: dict[str, Tensor], seed: int = 0, config: AugmentConfig = DROPS) -> dict[str, Tensor]:
    origin = FeatureOrigin.of(FEATURE_NAMES, scaling())
    return augment_batch(given, config, torch.Generator().manual_seed(seed), origin=origin)


def test_each_modality_is_lost_as_often_as_asked_and_nobody_loses_both() -> None:
    changed = dropped(batch())
    without_image, without_spectrum = ~changed["image_valid"], ~changed["spectrum_valid"]
    assert without_image.float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert without_spectrum.float().mean().item() == pytest.approx(0.1, abs=0.02)
    assert not (without_image & without_spectrum).any()


def test_features_of_a_lost_modality_are_what_scaling_makes_of_unknown_ones_and_others_stay() -> None:
    given, changed = batch(), dropped(batch())
    unknown = torch.zeros((1, 10), dtype=torch.float64).numpy()
    imputed = torch.from_numpy(scaling().transform(unknown, unknown > 0)[0])
    for column, name in enumerate(FEATURE_NAMES):
        valid = changed["image_valid" if name in ("concentration", "contrast") else "spectrum_valid"]
        assert torch.equal(changed["features"][valid, column], given["features"][valid, column])
        assert (changed["features"][~valid, column] == imputed[column]).all()


def test_who_has_one_modality_keeps_it() -> None:
    first = torch.arange(OBJECTS) < OBJECTS // 2
    changed = dropped({**batch(), "image_valid": first, "spectrum_valid": ~first})
    assert torch.equal(changed["image_valid"], first)
    assert torch.equal(changed["spectrum_valid"], ~first)


def test_the_same_draws_give_the_same_losses() -> None:
    one, two, other = dropped(batch(), 1), dropped(batch(), 1), dropped(batch(), 2)
    assert torch.equal(one["image_valid"], two["image_valid"])
    assert not torch.equal(one["image_valid"], other["image_valid"])


@pytest.mark.parametrize("absent", ["image", "spectrum"])
def test_nothing_is_lost_where_there_is_nothing_else_to_go_by(absent: str) -> None:
    given = {name: value for name, value in batch().items() if name != absent}
    changed = dropped(given)
    assert set(changed) == set(given)
    assert torch.equal(changed["features"], given["features"])


def test_features_of_unknown_origin_are_refused() -> None:
    with pytest.raises(ValueError, match="origin of the features is unknown"):
        augment_batch(batch(4), DROPS, torch.Generator())


def test_a_scaling_of_other_features_is_refused() -> None:
    assert FeatureOrigin.of(LINE_FREE_FEATURES, scaling(3)).of_image.tolist() == [False, True, True]
    with pytest.raises(ValueError, match="3 features were given to a scaling of 10"):
        FeatureOrigin.of(LINE_FREE_FEATURES, scaling())


def test_probabilities_above_one_are_refused() -> None:
    with pytest.raises(ValueError, match="allowed: at most 1 together with"):
        AugmentConfig(image_dropout=0.7, spectrum_dropout=0.4)


@pytest.mark.parametrize(
    ("image_dropout", "spectrum_dropout", "asked"),
    [(0.2, 0.1, {"image", "spectrum"}), (0.2, 0.0, {"spectrum"}), (0.0, 0.1, {"image"}), (0.0, 0.0, set())],
)
def test_a_network_is_asked_about_one_modality_where_training_loses_the_other(
    image_dropout: float, spectrum_dropout: float, asked: set[str]
) -> None:
    config = AugmentConfig(image_dropout=image_dropout, spectrum_dropout=spectrum_dropout)
    views = narrow_views(config, ("image", "spectrum", "features"), FeatureOrigin.of(FEATURE_NAMES, scaling()))
    assert set(views) == asked
    for name, view in views.items():
        shown = view(batch(4))
        assert shown["image_valid"].tolist() == [name == "image"] * 4
        assert shown["spectrum_valid"].tolist() == [name == "spectrum"] * 4
    assert not narrow_views(config, ("image", "features"), None)

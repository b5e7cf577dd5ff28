import numpy as np
import pytest
import torch
from torch import Tensor

from mmagn.features.names import FEATURE_NAMES, LINE_FREE_FEATURES
from mmagn.tensors.missing import FeatureOrigin, features_present, shown_batch
from mmagn.tensors.scaling import FeatureScaling

OBJECTS = 12


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


@pytest.mark.parametrize("subset", ["image", "spectrum", "image+spectrum"])
def test_features_of_a_lost_modality_are_imputed_and_the_others_stay(subset: str) -> None:
    before = batch()
    after = shown_batch(before, subset, FeatureOrigin.of(FEATURE_NAMES, scaling()))  # type: ignore[arg-type]
    unknown = torch.zeros((1, 10), dtype=torch.float64).numpy()
    imputed = torch.from_numpy(scaling().transform(unknown, unknown > 0)[0])
    for column, name in enumerate(FEATURE_NAMES):
        source = "image" if name in ("concentration", "contrast") else "spectrum"
        assert (after[f"{source}_valid"] == (source in subset)).all()
        expected = before["features"][:, column] if source in subset else imputed[column].expand(OBJECTS)
        assert torch.equal(after["features"][:, column], expected)


def test_an_object_that_lacks_a_modality_already_still_lacks_it() -> None:
    first = torch.arange(OBJECTS) < OBJECTS // 2
    given = {**batch(), "image_valid": first}
    after = shown_batch(given, "image+spectrum", FeatureOrigin.of(FEATURE_NAMES, scaling()))
    assert torch.equal(after["image_valid"], first)


def test_a_scaling_of_other_features_is_refused() -> None:
    assert FeatureOrigin.of(LINE_FREE_FEATURES, scaling(3)).of_image.tolist() == [False, True, True]
    with pytest.raises(ValueError, match="3 features were given to a scaling of 10"):
        FeatureOrigin.of(LINE_FREE_FEATURES, scaling())


def test_features_are_present_where_at_least_half_of_those_that_could_be_measured_are_defined() -> None:
    valid = np.zeros((5, 10), dtype=bool)
    valid[0] = True
    valid[1, :5] = True
    valid[2, 8:] = True  # the two of the image, of an object with a spectrum, and of one without
    valid[3, 8:] = True
    image, spectrum = np.array([True] * 4 + [False]), np.array([True, True, True, False, False])
    assert features_present(valid, FEATURE_NAMES, image, spectrum).tolist() == [True, True, False, True, False]

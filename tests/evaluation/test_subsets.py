"""What a network can be shown follows from its branches and features; what it is not shown, it cannot use."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mmagn.evaluation.calibration import Calibration
from mmagn.evaluation.subsets import (
    SubsetCalibration,
    known_subsets,
    load_calibrations,
    save_calibrations,
    subset_names,
)
from mmagn.features.names import FEATURE_NAMES, IMAGING_FEATURES
from mmagn.tensors.missing import FeatureOrigin, shown_batch

EVERY = ("image+spectrum", "image", "spectrum")


@pytest.mark.parametrize(
    ("branches", "features", "known"),
    [
        (("image", "spectrum", "features"), FEATURE_NAMES, EVERY),
        (("features",), FEATURE_NAMES, EVERY),
        (("features",), IMAGING_FEATURES, ("image",)),
        (("spectrum", "features"), ("ew_halpha",), ("spectrum",)),
        (("spectrum", "features"), ("contrast",), EVERY),
        (("image",), FEATURE_NAMES, ("image",)),
        (("image", "embedding"), FEATURE_NAMES, EVERY),
        (("embedding",), FEATURE_NAMES, EVERY),
    ],
)
def test_subsets_are_those_of_what_reaches_the_network(branches, features, known) -> None:
    assert known_subsets(branches, features) == known


def test_an_object_is_predicted_from_all_that_it_has_and_the_network_knows() -> None:
    image, spectrum = np.array([True, True, False, False]), np.array([True, False, True, False])
    assert subset_names(image, spectrum, EVERY).tolist() == ["image+spectrum", "image", "spectrum", ""]
    assert subset_names(image, spectrum, ("image",)).tolist() == ["image", "image", "", ""]


def test_a_batch_without_spectra_says_so_and_imputes_their_features_alone() -> None:
    origin = FeatureOrigin(of_image=torch.tensor([True, False]), imputed=torch.tensor([7.0, 8.0]))
    batch = {"features": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "image_valid": torch.tensor([True, False])}
    masked_batch = shown_batch(batch, "image", origin)
    assert masked_batch["image_valid"].tolist() == [True, False]
    assert masked_batch["spectrum_valid"].tolist() == [False, False]
    assert masked_batch["features"].tolist() == [[1.0, 8.0], [7.0, 8.0]]
    assert batch["features"].tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_calibrations_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    written = {
        "image+spectrum": SubsetCalibration(
            calibration=Calibration(kind="platt", slope=2.0),
            threshold=0.3,
            parts={"spectrum": Calibration(kind="platt", slope=3.0, prevalence=0.4)},
        ),
        "image": SubsetCalibration(calibration=Calibration(kind="none", prevalence=0.2, reason="why"), threshold=0.5),
    }
    save_calibrations(path, written)
    result = load_calibrations(path)
    assert list(result) == list(written)
    assert result["image"] == written["image"]
    assert result["image+spectrum"].parts == written["image+spectrum"].parts
    assert result["image+spectrum"].calibration.probability([0.5]) == pytest.approx(1 / (1 + np.exp(-1)))
    path.write_text('{"image": {"slope": 1}}', encoding="utf-8")
    with pytest.raises(ValueError, match="does not hold calibrations by subset of modalities"):
        load_calibrations(path)

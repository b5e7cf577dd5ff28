"""What a model can be shown of a galaxy, image, spectrum or both, and the map to probabilities that each needs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmagn.evaluation.calibration import Calibration
from mmagn.features.names import FEATURE_NAMES
from mmagn.tensors.scaling import FeatureScaling
from mmagn.training.runs import write_json

Subset = Literal["image+spectrum", "image", "spectrum"]
SUBSETS: dict[Subset, tuple[str, ...]] = {
    "image+spectrum": ("image", "spectrum"),
    "image": ("image",),
    "spectrum": ("spectrum",),
}
"""Modalities of each subset, the widest first."""
MODALITIES = ("image", "spectrum")
IMAGING_FEATURES = FEATURE_NAMES[8:]
"""Handcrafted features that are measured on the image; the others come from the spectrum."""


def feature_modality(name: str) -> str:
    """Return which modality a handcrafted feature is measured on."""
    return "image" if name in IMAGING_FEATURES else "spectrum"


def seen_modalities(branches: Sequence[str], features: Sequence[str]) -> tuple[str, ...]:
    """Return the modalities that reach a model, through a branch of their own or through a handcrafted feature."""
    seen = set(branches)
    if "features" in branches:
        seen |= {feature_modality(name) for name in features}
    return tuple(name for name in MODALITIES if name in seen)


def known_subsets(branches: Sequence[str], features: Sequence[str]) -> tuple[Subset, ...]:
    """Return the subsets that a model can be shown, the widest first."""
    seen = seen_modalities(branches, features)
    return tuple(name for name, parts in SUBSETS.items() if set(parts) <= set(seen))


def subset_names(
    image_valid: NDArray[np.bool_], spectrum_valid: NDArray[np.bool_], known: Sequence[Subset]
) -> NDArray[np.str_]:
    """Return the subset (object,) that a model uses of each object, "" where nothing that it knows is there."""
    there = {"image": image_valid, "spectrum": spectrum_valid}
    names = np.full(len(image_valid), "", dtype="U16")
    for subset in reversed(known):  # the widest last: it wins
        names[np.all([there[part] for part in SUBSETS[subset]], axis=0)] = subset
    return names


def imputed_features(scaling: FeatureScaling) -> Tensor:
    """(feature,) float32, what scaling makes of features that are not valid."""
    none = np.zeros((1, len(scaling.median)))
    return torch.from_numpy(scaling.transform(none, none.astype(bool))[0])


def shown_batch(
    batch: Mapping[str, Tensor], subset: Subset, features: Sequence[str], imputed: Tensor
) -> dict[str, Tensor]:
    """Return a batch without the modalities outside a subset: not valid, and the features of theirs imputed.

    Parameters
    ----------
    batch
        With ``index`` or ``target`` (batch,) among its tensors.
    subset
        What stays.
    features
        Names of the columns of ``features``.
    imputed
        (feature,) their imputed values.
    """
    shown, size = dict(batch), len(next(iter(batch.values())))
    for modality in MODALITIES:
        if modality in SUBSETS[subset]:
            continue
        shown[f"{modality}_valid"] = torch.zeros(size, dtype=torch.bool, device=next(iter(batch.values())).device)
        if "features" in batch:
            columns = [number for number, name in enumerate(features) if feature_modality(name) == modality]
            shown["features"] = shown["features"].clone()
            shown["features"][:, columns] = imputed[columns].to(shown["features"])
    return shown


@dataclass(frozen=True, kw_only=True)
class SubsetCalibration:
    """What turns the logits of objects of one subset into probabilities and into yes or no.

    Attributes
    ----------
    calibration
        Map from logits to probabilities.
    threshold
        Calibrated probability from which on an object is called an AGN.
    """

    calibration: Calibration
    threshold: float


def save_calibrations(path: Path, calibrations: Mapping[Subset, SubsetCalibration]) -> None:
    """Write calibration and threshold of each subset as JSON."""
    write_json(
        path, {name: {**each.calibration.as_dict(), "threshold": each.threshold} for name, each in calibrations.items()}
    )


def load_calibrations(path: Path) -> dict[Subset, SubsetCalibration]:
    """Return what :func:`save_calibrations` wrote.

    Raises
    ------
    FileNotFoundError
        Where there is no such file.
    ValueError
        Where it holds something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file of calibrations; evaluate.py writes it")
    try:
        told: dict[Subset, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return {name: _calibration(told[name]) for name in SUBSETS if name in told}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} does not hold calibrations by subset of modalities: {error}") from error


def _calibration(values: Mapping[str, Any]) -> SubsetCalibration:
    plain = {name: value for name, value in values.items() if name != "threshold"}
    return SubsetCalibration(calibration=Calibration.from_dict(plain), threshold=float(values["threshold"]))

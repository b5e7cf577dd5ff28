"""Subsets of the modalities image and spectrum that a model can take, and the calibration of each."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmagn.evaluation.calibration import Calibration
from mmagn.features.names import IMAGING_FEATURES
from mmagn.storage.files import as_written, write_json
from mmagn.tensors.missing import MODALITIES, SUBSETS, Subset


def seen_modalities(branches: Sequence[str], features: Sequence[str]) -> tuple[str, ...]:
    """Return the modalities that reach a model, through a branch of their own, a handcrafted feature or a vector.

    A vector may be made of either.
    """
    seen = {*branches, *(MODALITIES if "embedding" in branches else ())}
    if "features" in branches:
        seen |= {"image" if name in IMAGING_FEATURES else "spectrum" for name in features}
    return tuple(name for name in MODALITIES if name in seen)


def known_subsets(branches: Sequence[str], features: Sequence[str]) -> tuple[Subset, ...]:
    """Return the subsets that a model can take, the widest first."""
    seen = seen_modalities(branches, features)
    return tuple(name for name, parts in SUBSETS.items() if set(parts) <= set(seen))


def subset_names(
    image_valid: NDArray[np.bool_], spectrum_valid: NDArray[np.bool_], known: Sequence[Subset]
) -> NDArray[np.str_]:
    """Return the subset (object,) that a model uses of each object, "" where it has no usable input."""
    there = {"image": image_valid, "spectrum": spectrum_valid}
    names = np.full(len(image_valid), "", dtype="U16")
    for subset in reversed(known):  # the widest last: it wins
        names[np.all([there[part] for part in SUBSETS[subset]], axis=0)] = subset
    return names


@dataclass(frozen=True, kw_only=True)
class SubsetCalibration:
    """Calibration and decision threshold of one subset, and the calibration of the logit of each modality alone.

    An object counts as an AGN from the threshold, a calibrated probability, on.
    """

    calibration: Calibration
    threshold: float
    parts: Mapping[str, Calibration] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        parts = {name: each.as_dict() for name, each in self.parts.items()}
        return {**self.calibration.as_dict(), "threshold": self.threshold, "parts": parts}


def save_calibrations(path: Path, calibrations: Mapping[Subset, SubsetCalibration]) -> None:
    """Write calibration and threshold of each subset, and the calibration of its modalities, as JSON."""
    write_json(path, {name: each.as_dict() for name, each in calibrations.items()})


def load_calibrations(path: Path) -> dict[Subset, SubsetCalibration]:
    """Return what :func:`save_calibrations` wrote.

    ``FileNotFoundError`` where there is no such file, ``ValueError`` where it holds something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; evaluate.py writes it")
    with as_written(path, "calibrations by subset of modalities"):
        stored = json.loads(path.read_text(encoding="utf-8"))
        calibrations: dict[Subset, SubsetCalibration] = {
            name: _calibration(stored[name]) for name in SUBSETS if name in stored
        }
    return calibrations


def _calibration(values: Mapping[str, Any]) -> SubsetCalibration:
    plain = {name: value for name, value in values.items() if name not in ("threshold", "parts")}
    return SubsetCalibration(
        calibration=Calibration.from_dict(plain),
        threshold=float(values["threshold"]),
        parts={name: Calibration.from_dict(each) for name, each in values["parts"].items()},
    )

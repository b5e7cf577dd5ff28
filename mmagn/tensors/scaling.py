"""Scaling and imputation of the handcrafted features, fitted on the training split only."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mmagn.storage.files import as_written

_SOFTENING_QUANTILE = 0.25
"""Quantile of the absolute training values below which a feature counts as near zero."""


@dataclass(frozen=True, kw_only=True)
class FeatureScaling:
    """Map from raw features to numbers with mean 0 and spread 1 on the training split, one of each number per feature.

    ``(asinh(x / softening) - mean) * gain`` with ``x`` the value, or ``median`` where it is not valid. Fluxes span
    decades and may be negative, so asinh stands in for the logarithm; its softening is the lower quartile of the
    absolute training values. Mean and gain include the imputed values: they describe what the network sees. A
    feature that is constant or never valid in the training split cannot tell training objects apart: its gain is
    0 and so is what comes out, for any input.
    """

    softening: tuple[float, ...]
    median: tuple[float, ...]
    mean: tuple[float, ...]
    gain: tuple[float, ...]

    @classmethod
    def fit(cls, values: NDArray[np.floating], valid: NDArray[np.bool_]) -> Self:
        """Scaling of training objects: (object, feature) raw values and where they are defined.

        ``ValueError`` where their shapes differ or are not (object, feature).
        """
        usable = _usable(values, valid)
        softening, median, mean, gain = (np.zeros(values.shape[1]) for _ in range(4))
        for feature in range(values.shape[1]):
            known = np.asarray(values[usable[:, feature], feature], dtype=np.float64)
            softening[feature], median[feature] = _softening(known), np.median(known) if len(known) else 0.0
            filled = np.where(usable[:, feature], values[:, feature], median[feature])
            stretched = np.arcsinh(filled / softening[feature])
            if len(known):
                mean[feature], spread = stretched.mean(), stretched.std()
                gain[feature] = 1 / spread if spread > 1e-9 * (1 + abs(mean[feature])) else 0.0
        return cls(
            softening=tuple(softening.tolist()),
            median=tuple(median.tolist()),
            mean=tuple(mean.tolist()),
            gain=tuple(gain.tolist()),
        )

    def transform(self, values: NDArray[np.floating], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
        """(object, feature) scaled features, finite everywhere; a raw value that is not valid or finite is never used.

        ``ValueError`` where the number of features is not the one of the fit.
        """
        usable = _usable(values, valid)
        if values.shape[1] != len(self.median):
            raise ValueError(f"{values.shape[1]} features were given to a scaling of {len(self.median)} features")
        filled = np.where(usable, values, np.asarray(self.median))
        scaled = (np.arcsinh(filled / np.asarray(self.softening)) - np.asarray(self.mean)) * np.asarray(self.gain)
        return np.asarray(scaled, dtype=np.float32)

    def as_dict(self) -> dict[str, list[float]]:
        """Return plain lists, for JSON."""
        return {name: list(numbers) for name, numbers in asdict(self).items()}

    @classmethod
    def from_dict(cls, numbers: Mapping[str, Any]) -> Self:
        """Scaling from what ``as_dict`` gave; ``ValueError`` where a list is missing or lengths differ."""
        names = [field.name for field in fields(cls)]
        if set(numbers) != set(names) or len({len(numbers[name]) for name in names}) != 1:
            raise ValueError(f"a feature scaling needs {', '.join(names)} of equal length; found {sorted(numbers)}")
        return cls(**{name: tuple(float(number) for number in numbers[name]) for name in names})

    def save(self, path: Path) -> None:
        """Write the scaling as JSON."""
        path.write_text(json.dumps(self.as_dict(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Scaling read from JSON; ``ValueError`` naming the file where it holds something else."""
        with as_written(path, "a feature scaling"):
            scaling: Self = cls.from_dict(json.loads(path.read_text(encoding="utf-8")))
        return scaling


def _usable(values: NDArray[np.floating], valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    if values.ndim != 2 or values.shape != valid.shape:
        raise ValueError(f"values {values.shape} and valid {valid.shape} must both be (object, feature)")
    return np.asarray(valid & np.isfinite(values))


def _softening(known: NDArray[np.float64]) -> float:
    """Lower quartile of the absolute values; where that is 0 their mean, and 1 where all are 0 or there are none."""
    if not len(known):
        return 1.0
    size = np.abs(known)
    return float(np.quantile(size, _SOFTENING_QUANTILE)) or float(size.mean()) or 1.0

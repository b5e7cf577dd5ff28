"""Objects without an image, a spectrum or features: how a batch marks them.

A batch may hold ``image_valid``, ``spectrum_valid`` and ``features_valid``, (batch,) bool; without them every object
has all three. The network never uses what is not valid. Features that are measured on an image or a spectrum that is
not valid are imputed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmagn.features.names import IMAGING_FEATURES
from mmagn.tensors.scaling import FeatureScaling

Subset = Literal["image+spectrum", "image", "spectrum"]
SUBSETS: dict[Subset, tuple[str, ...]] = {
    "image+spectrum": ("image", "spectrum"),
    "image": ("image",),
    "spectrum": ("spectrum",),
}
"""Modalities of each subset, the widest first."""
MODALITIES = ("image", "spectrum")


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureOrigin:
    """What the columns of ``features`` are measured on, and what stands in them where that is missing.

    Attributes
    ----------
    of_image
        (feature,) bool: measured on the image; the others on the spectrum.
    imputed
        (feature,) float32: the imputed value as scaling makes it.
    """

    of_image: Tensor
    imputed: Tensor
    _copies: dict[torch.device, Self] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, names: Sequence[str], scaling: FeatureScaling) -> Self:
        """Origin of the named features; ``ValueError`` where the scaling is of another number of features."""
        nothing = np.zeros((1, len(names)))
        return cls(
            of_image=torch.tensor([name in IMAGING_FEATURES for name in names]),
            imputed=torch.from_numpy(scaling.transform(nothing, nothing.astype(bool))[0]),
        )

    def to(self, device: torch.device | str) -> Self:
        """Return the same on a device; copied once, as a CUDA graph may not copy from the host."""
        place = torch.device(device)
        if self.imputed.device == place:
            return self
        if place not in self._copies:
            self._copies[place] = type(self)(of_image=self.of_image.to(place), imputed=self.imputed.to(place))
        return self._copies[place]

    def with_imputed(self, features: Tensor, image_valid: Tensor, spectrum_valid: Tensor) -> Tensor:
        """(batch, feature) features, imputed where what they are measured on is not valid."""
        valid = torch.where(self.of_image, image_valid[:, None], spectrum_valid[:, None])
        return features.where(valid, self.imputed)


def features_present(
    valid: NDArray[np.bool_], names: Sequence[str], image_valid: NDArray[np.bool_], spectrum_valid: NDArray[np.bool_]
) -> Tensor:
    """(object,) bool: at least half of the features that the image and the spectrum of an object allow are defined.

    Of ``valid`` (object, feature), by name, and of whether an object has an image and a spectrum, (object,).
    """
    of_image = np.isin(list(names), IMAGING_FEATURES)
    possible = np.where(of_image, image_valid[:, None], spectrum_valid[:, None])
    return torch.from_numpy(2 * (valid & possible).sum(axis=1) >= np.maximum(1, possible.sum(axis=1)))


def shown_batch(batch: Mapping[str, Tensor], subset: Subset, origin: FeatureOrigin) -> dict[str, Tensor]:
    """Return a batch without the modalities outside a subset: not valid, and the features of theirs imputed."""
    some = next(iter(batch.values()))
    every = torch.ones(len(some), dtype=torch.bool, device=some.device)
    image_valid, spectrum_valid = (
        batch.get(f"{name}_valid", every).bool() & (name in SUBSETS[subset]) for name in MODALITIES
    )
    changed = {**batch, "image_valid": image_valid, "spectrum_valid": spectrum_valid}
    if "features" in batch:
        features = batch["features"]
        changed["features"] = origin.to(features.device).with_imputed(features, image_valid, spectrum_valid)
    return changed

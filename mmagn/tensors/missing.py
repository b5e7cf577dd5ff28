"""Objects without an image or without a spectrum: how a batch marks them, and how training prepares for them.

A batch may hold ``image_valid`` and ``spectrum_valid``, (batch,) bool; without them every object has both. Where an
image or a spectrum is not valid the network never uses it, and the features that are measured on it are imputed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor

from mmagn.features.names import IMAGING_FEATURES
from mmagn.tensors.config import AugmentConfig
from mmagn.tensors.scaling import FeatureScaling

Subset = Literal["image+spectrum", "image", "spectrum"]
SUBSETS: dict[Subset, tuple[str, ...]] = {
    "image+spectrum": ("image", "spectrum"),
    "image": ("image",),
    "spectrum": ("spectrum",),
}
"""Modalities of each subset, the widest first."""
MODALITIES = ("image", "spectrum")
NarrowView = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
"""Makes a batch without one modality of one with both."""


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
        """Origin of the named features.

        Raises
        ------
        ValueError
            Where the scaling is of another number of features.
        """
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

    def shown(self, features: Tensor, image_valid: Tensor, spectrum_valid: Tensor) -> Tensor:
        """(batch, feature) features, imputed where what they are measured on is not valid."""
        valid = torch.where(self.of_image, image_valid[:, None], spectrum_valid[:, None])
        return features.where(valid, self.imputed)


def modality_draws(
    batch: Mapping[str, Tensor], config: AugmentConfig, generator: torch.Generator | None
) -> dict[str, Tensor]:
    """Draw ``modality`` (batch,), uniform from 0 to 1, where modalities are dropped and the batch holds both."""
    if not ("image" in batch and "spectrum" in batch) or config.image_dropout + config.spectrum_dropout == 0:
        return {}
    image = batch["image"]
    return {"modality": torch.rand(len(image), generator=generator, device=image.device)}


def modality_dropout(
    batch: Mapping[str, Tensor], drawn: Tensor, config: AugmentConfig, origin: FeatureOrigin | None
) -> dict[str, Tensor]:
    """Batch in which some objects lose their image and some others their spectrum, never one both.

    The network learns to do with what is there (Neverova+2016, ModDrop), and cannot lean on one modality alone.
    An object that has only one modality keeps it.

    Parameters
    ----------
    batch
        With ``image`` and ``spectrum``.
    drawn
        (batch,) uniform from 0 to 1.
    config
        Probability of either loss.
    origin
        Of the features; None where the batch has none.

    Raises
    ------
    ValueError
        Where the batch has features whose origin is not given.
    """
    every = torch.ones_like(drawn, dtype=torch.bool)
    image_valid, spectrum_valid = batch.get("image_valid", every), batch.get("spectrum_valid", every)
    both = image_valid & spectrum_valid
    image_valid = image_valid & ~(both & (drawn < config.image_dropout))
    spectrum_valid = spectrum_valid & ~(both & (drawn >= 1 - config.spectrum_dropout))
    return _with_valid(batch, image_valid, spectrum_valid, origin)


def shown_batch(batch: Mapping[str, Tensor], subset: Subset, origin: FeatureOrigin | None) -> dict[str, Tensor]:
    """Return a batch without the modalities outside a subset: not valid, and the features of theirs imputed.

    Parameters
    ----------
    batch
        As the network takes it.
    subset
        What stays.
    origin
        Of the features; None where the batch has none.

    Raises
    ------
    ValueError
        Where the batch has features whose origin is not given.
    """
    some = next(iter(batch.values()))
    every = torch.ones(len(some), dtype=torch.bool, device=some.device)
    image_valid, spectrum_valid = (
        batch.get(f"{name}_valid", every).bool() & (name in SUBSETS[subset]) for name in MODALITIES
    )
    return _with_valid(batch, image_valid, spectrum_valid, origin)


def narrow_views(config: AugmentConfig, branches: Sequence[str], origin: FeatureOrigin | None) -> dict[str, NarrowView]:
    """What a network learns to be asked about besides all there is: one modality alone, where the other may be lost.

    Parameters
    ----------
    config
        Probability of either loss.
    branches
        Of the network; one that does not see image and spectrum loses neither.
    origin
        Of the features; None where the network has none.
    """
    if not {"image", "spectrum"} <= set(branches):
        return {}
    lost: dict[Subset, float] = {"image": config.spectrum_dropout, "spectrum": config.image_dropout}
    return {
        subset: partial(shown_batch, subset=subset, origin=origin)
        for subset, probability in lost.items()
        if probability > 0
    }


def _with_valid(
    batch: Mapping[str, Tensor], image_valid: Tensor, spectrum_valid: Tensor, origin: FeatureOrigin | None
) -> dict[str, Tensor]:
    """Batch with those valid flags, and the features of what is not valid imputed."""
    changed = {**batch, "image_valid": image_valid, "spectrum_valid": spectrum_valid}
    if "features" in batch:
        if origin is None:
            raise ValueError(
                "modalities are dropped from a batch with features, but the origin of the features is unknown"
            )
        features = batch["features"]
        changed["features"] = origin.to(features.device).shown(features, image_valid, spectrum_valid)
    return changed

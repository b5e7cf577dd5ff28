"""Settings of the match, of the store of pairs and of the split by sky."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class MatchingConfig:
    """Who counts as the same object, and how pairs are stored.

    Attributes
    ----------
    radius_arcsec
        Largest separation of a pair.
    image_dtype
        Number type of image flux and ivar in the store; ``float16`` halves its size.
    workers
        Processes that store pairs at the same time, each about 0.5 GB; a small survey is stored by one. The store
        does not depend on it.
    """

    radius_arcsec: float = 1.0
    image_dtype: Literal["float32", "float16"] = "float32"
    workers: int = 2

    def __post_init__(self) -> None:
        if not 0 < self.radius_arcsec <= 60:
            raise ValueError(f"matching.radius_arcsec is {self.radius_arcsec}; allowed: above 0, at most 60")
        if not 1 <= self.workers <= 256:
            raise ValueError(f"matching.workers is {self.workers}; allowed: 1 to 256")


@dataclass(frozen=True, kw_only=True)
class SplitsConfig:
    """Training, validation and test split by groups of sky.

    Attributes
    ----------
    nside
        HEALPix resolution (NESTED) of the sky groups, a power of 2; all pairs of a group share a split.
    validation_fraction
        Fraction of the pairs that chooses epoch and threshold.
    test_fraction
        Fraction of the pairs that is only scored; the rest is for training.
    seed
        Seed of the hash that orders the groups.
    """

    nside: int = 128
    validation_fraction: float = 0.2
    test_fraction: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.nside < 1 or self.nside > 2**20 or self.nside & (self.nside - 1):
            raise ValueError(f"splits.nside is {self.nside}; allowed: a power of 2 from 1 to 2**20")
        for name in ("validation_fraction", "test_fraction"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise ValueError(f"splits.{name} is {value}; allowed: between 0 and 1")
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("splits.validation_fraction + splits.test_fraction leave nothing for training")

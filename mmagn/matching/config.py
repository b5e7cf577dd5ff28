"""Settings of the match, of the store of pairs and of the split by sky."""

from dataclasses import dataclass
from typing import Literal

from mmagn.storage.settings import Settings, setting


def _power_of_two(number: int) -> bool:
    return 1 <= number <= 2**20 and number & (number - 1) == 0


@dataclass(frozen=True, kw_only=True)
class MatchingConfig(Settings):
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

    SECTION = "matching"
    radius_arcsec: float = setting(1.0, "pairs", above=0, at_most=60)
    image_dtype: Literal["float32", "float16"] = setting("float32", "pairs")
    workers: int = setting(2, "nothing", at_least=1, at_most=256)


@dataclass(frozen=True, kw_only=True)
class SplitsConfig(Settings):
    """Training, validation and test split by groups of sky.

    Attributes
    ----------
    scheme
        ``stratified``: groups of sky are dealt out so that each split has its share of both classes; ``published``: the
        split of the leaderboard, a fixed hash of the HEALPix cell, the same for everyone who has the pairs.
    nside
        HEALPix resolution (NESTED) of the sky groups, a power of 2; all pairs of a group share a split.
    validation_fraction
        Fraction of the pairs that chooses epoch and threshold.
    test_fraction
        Fraction of the pairs that is only scored; the rest is for training.
    seed
        Seed of the hash that orders the groups.
    """

    SECTION = "splits"
    scheme: Literal["stratified", "published"] = setting("stratified", "fit")
    nside: int = setting(128, "fit", rule=(_power_of_two, "a power of 2 from 1 to 2**20"))
    validation_fraction: float = setting(0.2, "fit", above=0, below=1, needs=("splits.scheme", "stratified"))
    test_fraction: float = setting(0.2, "fit", above=0, below=1, needs=("splits.scheme", "stratified"))
    seed: int = setting(0, "fit", at_least=0, needs=("splits.scheme", "stratified"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("splits.validation_fraction + splits.test_fraction leave nothing for training")

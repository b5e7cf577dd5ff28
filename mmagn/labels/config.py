"""Settings of the BPT label."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class LabelsConfig:
    """How line fluxes become a class and a target.

    Attributes
    ----------
    seyfert_liner
        Line between Seyfert and LINER on the [N II] plane.
    min_snr
        Signal-to-noise that all four BPT lines need; 0 labels without a cut.
    vote
        Let the majority of the [N II], [S II] and [O I] planes decide between Seyfert and LINER.
    retired_cut
        Leave retired galaxies (W(Ha) below 3 A on the WHAN plane) unclassified, with the reason counted.
    exclude_broad
        Leave broad-line objects and quasars unclassified, with the reason counted.
    draws
        Monte-Carlo draws of the fluxes behind the class probabilities.
    seed
        Seed of those draws.
    soft
        Train on P(AGN) of each object, from the draws of its fluxes, instead of on 0 or 1; validation, test and all
        scores keep 0 or 1.
    """

    seyfert_liner: Literal["schawinski2007", "cidfernandes2010"] = "schawinski2007"
    min_snr: float = 3.0
    vote: bool = False
    retired_cut: bool = False
    exclude_broad: bool = True
    draws: int = 1000
    seed: int = 0
    soft: bool = False

    def __post_init__(self) -> None:
        if self.min_snr < 0:
            raise ValueError(f"labels.min_snr is {self.min_snr}; allowed: 0 or more")
        if self.draws < 1:
            raise ValueError(f"labels.draws is {self.draws}; allowed: 1 or more")
        if self.seed < 0:
            raise ValueError(f"labels.seed is {self.seed}; allowed: 0 or more")

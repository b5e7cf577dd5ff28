"""Settings of the BPT label."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from mmagn.storage.settings import check_settings, setting


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

    SECTION: ClassVar[str] = "labels"
    seyfert_liner: Literal["schawinski2007", "cidfernandes2010"] = setting("schawinski2007", "labels")
    min_snr: float = setting(3.0, "labels", at_least=0)
    vote: bool = setting(False, "labels")
    retired_cut: bool = setting(False, "labels")
    exclude_broad: bool = setting(True, "labels")
    draws: int = setting(1000, "labels", at_least=1)
    seed: int = setting(0, "labels", at_least=0, below=2**32)
    soft: bool = setting(False, "fit")

    def __post_init__(self) -> None:
        check_settings(self)

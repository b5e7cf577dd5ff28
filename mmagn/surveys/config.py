"""Where the two surveys come from, and the settings of the embedded one."""

from dataclasses import dataclass, field
from typing import Literal

Source = Literal["embedded", "hdf5", "store"]


@dataclass(frozen=True, kw_only=True)
class SimulateConfig:
    """The embedded survey: small, drawn from a seed, with known truth.

    Attributes
    ----------
    pairs
        Number of galaxies present in both surveys.
    unmatched
        Objects present in one survey only, as a fraction of ``pairs``, for each survey.
    agn_fraction
        Fraction of the pairs that are Seyfert or composite, between 0 and 1.
    cells
        Number of neighbouring HEALPix cells (NSIDE 16) that the survey covers.
    seed
        Seed of every random draw.
    """

    pairs: int = 800
    unmatched: float = 0.25
    agn_fraction: float = 0.2
    cells: int = 4
    seed: int = 1

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise ValueError(f"data.simulate.pairs is {self.pairs}; allowed: 1 or more")
        if self.unmatched < 0:
            raise ValueError(f"data.simulate.unmatched is {self.unmatched}; allowed: 0 or more")
        if not 0 <= self.agn_fraction <= 1:
            raise ValueError(f"data.simulate.agn_fraction is {self.agn_fraction}; allowed: 0 to 1")
        if not 1 <= self.cells <= 64:
            raise ValueError(f"data.simulate.cells is {self.cells}; allowed: 1 to 64")
        if self.seed < 0:
            raise ValueError(f"data.simulate.seed is {self.seed}; allowed: 0 or more")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where pairs come from.

    Attributes
    ----------
    source
        ``embedded``: the simulated survey; ``hdf5``: a Multimodal Universe v1 tree under ``root``;
        ``store``: pairs that match.py wrote to the folder ``root``.
    root
        Folder of the ``hdf5`` tree or of the ``store``; not used by ``embedded``.
    sdss_surveys
        Directories under ``root/sdss`` that are read.
    hsc_survey
        Directory under ``root/hsc`` that is read.
    cells
        HEALPix cells (NSIDE 16, NESTED) to read; empty reads all.
    redshift_min
        Spectra of lower redshift are dropped and counted.
    redshift_max
        Spectra of higher redshift are dropped and counted.
    cache_dir
        Folder for the embedded survey and for stores made on the way.
    simulate
        Settings of the embedded survey.
    """

    source: Source = "embedded"
    root: str | None = None
    sdss_surveys: tuple[str, ...] = ("sdss", "boss", "eboss")
    hsc_survey: str = "pdr3_dud_22.5"
    cells: tuple[int, ...] = ()
    redshift_min: float = 0.0
    redshift_max: float = 1.2
    cache_dir: str = "~/.cache/mmagn"
    simulate: SimulateConfig = field(default_factory=SimulateConfig)

    def __post_init__(self) -> None:
        if self.source != "embedded" and self.root is None:
            raise ValueError(f"data.source {self.source} needs data.root, the folder to read")
        if not self.sdss_surveys:
            raise ValueError("data.sdss_surveys is empty; name at least one directory, such as sdss")
        if not self.redshift_min < self.redshift_max:
            raise ValueError(
                f"data.redshift_min {self.redshift_min} must be below data.redshift_max {self.redshift_max}"
            )

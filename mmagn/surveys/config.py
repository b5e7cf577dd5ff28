"""Where the two surveys come from, and the settings of the embedded one."""

import re
from dataclasses import dataclass, field
from typing import Literal

from mmagn.surveys.hats.config import HatsConfig

Source = Literal["embedded", "hdf5", "store", "hub", "hub-pairs", "hats"]


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
class HubConfig:
    """The surveys as dataset repositories of a Hugging Face hub; ``HF_ENDPOINT`` says which, ``HF_TOKEN`` who asks.

    Attributes
    ----------
    sdss
        Repository ORG/NAME of the SDSS catalogue in HATS layout.
    sdss_revision
        Its commit; a branch such as ``main`` is resolved to its commit once and recorded.
    hsc
        Repository ORG/NAME of the HSC catalogue in HATS layout.
    hsc_revision
        Its commit or branch.
    pairs
        Repository ORG/NAME of ready-made pairs, for ``data.source`` hub-pairs.
    pairs_revision
        Its commit or branch.
    workers
        Downloads at the same time.
    retries
        How often a request is repeated after a 429, a 5xx, a time-out or a cut before the run stops.
    backoff_s
        First wait before a repetition in seconds, doubled each time; a ``Retry-After`` of the hub goes first.
    timeout_s
        Silence in seconds after which a connection counts as stalled.
    """

    sdss: str = "UniverseTBD/mmu_sdss_sdss"
    sdss_revision: str = "main"
    hsc: str = "UniverseTBD/mmu_hsc_pdr3_dud_22.5"
    hsc_revision: str = "main"
    pairs: str = "Smith42/sdss_hsc_crossmatched"
    pairs_revision: str = "main"
    workers: int = 8
    retries: int = 6
    backoff_s: float = 0.5
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        for name in ("sdss", "hsc", "pairs"):
            if not re.fullmatch(r"[\w.-]+/[\w.-]+", getattr(self, name)):
                raise ValueError(
                    f"data.hub.{name} is {getattr(self, name)!r}; allowed: ORG/NAME of a dataset repository"
                )
            if not getattr(self, f"{name}_revision"):
                raise ValueError(f"data.hub.{name}_revision is empty; allowed: a commit, or a branch such as main")
        if not 1 <= self.workers <= 64:
            raise ValueError(f"data.hub.workers is {self.workers}; allowed: 1 to 64")
        if not 0 <= self.retries <= 100:
            raise ValueError(f"data.hub.retries is {self.retries}; allowed: 0 to 100")
        if self.backoff_s < 0:
            raise ValueError(f"data.hub.backoff_s is {self.backoff_s}; allowed: 0 or more")
        if self.timeout_s <= 0:
            raise ValueError(f"data.hub.timeout_s is {self.timeout_s}; allowed: above 0")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where pairs come from.

    Attributes
    ----------
    source
        ``embedded``: the simulated survey; ``hdf5``: a Multimodal Universe v1 tree under ``root``;
        ``store``: pairs that match.py wrote to the folder ``root``; ``hub``: only the matching rows of two repositories
        of a Hugging Face hub; ``hub-pairs``: a repository of ready-made pairs there;
        ``hats``: two HATS catalogues, through LSDB on Dask.
    root
        Folder of the ``hdf5`` tree or of the ``store``; not used by other sources.
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
    hub
        Repositories of ``hub`` and ``hub-pairs``.
    hats
        Catalogues of ``hats``.
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
    hub: HubConfig = field(default_factory=HubConfig)
    hats: HatsConfig = field(default_factory=HatsConfig)

    def __post_init__(self) -> None:
        if self.source in ("hdf5", "store") and self.root is None:
            raise ValueError(f"data.source {self.source} needs data.root, the folder to read")
        if not self.sdss_surveys:
            raise ValueError("data.sdss_surveys is empty; name at least one directory, such as sdss")
        if not self.redshift_min < self.redshift_max:
            raise ValueError(
                f"data.redshift_min {self.redshift_min} must be below data.redshift_max {self.redshift_max}"
            )

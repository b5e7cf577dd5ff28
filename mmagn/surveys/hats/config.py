"""Settings of the HATS catalogues and of the Dask cluster that reads them."""

from dataclasses import dataclass
from typing import ClassVar

from mmagn.storage.settings import check_settings, setting


@dataclass(frozen=True, kw_only=True)
class HatsConfig:
    """Where the HATS catalogues are.

    Attributes
    ----------
    sdss
        HATS collection or catalogue of SDSS spectra: a folder, or ``hf://datasets/ORG/NAME``, pinned with
        ``@REVISION``.
    desi
        The same of DESI, read where ``data.spectra`` has ``desi``.
    hsc
        HATS collection of images, with a margin catalogue.
    margin
        Margin of ``hsc``: its name in the collection or a path; empty takes the collection's default.
    sdss_survey
        Name of the SDSS survey in ``sdss``, which its rows do not tell; it is read where ``data.spectra`` has it.
    """

    SECTION: ClassVar[str] = "data.hats"
    sdss: str = setting("hf://datasets/UniverseTBD/mmu_sdss_sdss", "pairs", one_or_more=True, path=True, resumable=True)
    desi: str = setting(
        "hf://datasets/UniverseTBD/mmu_desi_edr_sv3", "pairs", one_or_more=True, path=True, resumable=True
    )
    hsc: str = setting(
        "hf://datasets/UniverseTBD/mmu_hsc_pdr3_dud_22.5", "pairs", one_or_more=True, path=True, resumable=True
    )
    margin: str = setting("", "pairs", resumable=True)
    sdss_survey: str = setting("sdss", "pairs", one_or_more=True)

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class DaskConfig:
    """The Dask cluster on which HATS catalogues are matched and measured.

    Attributes
    ----------
    scheduler
        Address of a running scheduler, such as ``tcp://host:8786``; unset starts a cluster on this machine.
    workers
        Processes of the cluster on this machine; unset starts one per core, 0 starts none and works in threads.
    memory_gb
        Memory of one worker of the cluster on this machine, in GB; one that needs more is started again.
    """

    SECTION: ClassVar[str] = "dask"
    scheduler: str | None = setting(None, "nothing", one_or_more=True)
    workers: int | None = setting(None, "nothing", at_least=0)
    memory_gb: float = setting(4.0, "nothing", above=0)

    def __post_init__(self) -> None:
        check_settings(self)

"""Settings of the HATS catalogues and of the Dask cluster that reads them."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class HatsConfig:
    """Where the two HATS catalogues are.

    Attributes
    ----------
    sdss
        HATS collection or catalogue of spectra: a folder, or ``hf://datasets/ORG/NAME``, pinned with ``@REVISION``.
    hsc
        HATS collection of images, with a margin catalogue.
    margin
        Margin of ``hsc``: its name in the collection or a path; empty takes the collection's default.
    sdss_survey
        Name of the survey that the spectra belong to, which the rows do not tell.
    """

    sdss: str = "hf://datasets/UniverseTBD/mmu_sdss_sdss"
    hsc: str = "hf://datasets/UniverseTBD/mmu_hsc_pdr3_dud_22.5"
    margin: str = ""
    sdss_survey: str = "sdss"

    def __post_init__(self) -> None:
        for name in ("sdss", "hsc", "sdss_survey"):
            if not getattr(self, name):
                raise ValueError(f"data.hats.{name} is empty; allowed: any text")


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

    scheduler: str | None = None
    workers: int | None = None
    memory_gb: float = 4.0

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 0:
            raise ValueError(f"dask.workers is {self.workers}; allowed: 0 or more")
        if self.memory_gb <= 0:
            raise ValueError(f"dask.memory_gb is {self.memory_gb}; allowed: above 0")

"""Where the two surveys come from: settings of each source, of the embedded survey, and of the Dask cluster."""

from dataclasses import dataclass
from typing import Literal

from mmagn.storage.settings import Settings, pattern, section, setting
from mmagn.surveys.files.wavelengths import Wavelengths

Source = Literal["embedded", "hdf5", "store", "hub", "hub-pairs", "hats", "files"]

_HUBS = ("data.source", "hub", "hub-pairs")
_TREE = ("data.source", "embedded", "hdf5")
_NAMED = (*_TREE, "store", "hub", "hub-pairs", "hats")
DESI = "desi"
"""Name of DESI among the surveys of ``data.spectra``; all others are of SDSS."""
DEFAULT_SPECTRA = ("sdss", "boss", "eboss")
"""Default of ``data.spectra``; a source that lacks one of these surveys gives no warning."""
_REPOSITORY = pattern(r"[\w.-]+/[\w.-]+", "ORG/NAME of a dataset repository")
_REVISION = pattern(r"\S+", "a commit, or a branch such as main")


@dataclass(frozen=True, kw_only=True)
class SimulateConfig(Settings):
    """The embedded survey: small, drawn from a seed, with known truth.

    Attributes
    ----------
    pairs
        Number of galaxies present in both surveys.
    unmatched
        Objects present in one survey only, as a fraction of ``pairs``, for each survey.
    agn_fraction
        Fraction of the pairs that are Seyfert or composite, between 0 and 1.
    desi
        Fraction of the pairs that DESI has observed too, as ``desi/edr_sv3``; read where ``data.spectra`` has ``desi``.
    cells
        Number of neighbouring HEALPix cells (NSIDE 16) that the survey covers.
    seed
        Seed of every random draw.
    """

    SECTION = "data.simulate"
    pairs: int = setting(800, "pairs", at_least=1)
    unmatched: float = setting(0.25, "pairs", at_least=0)
    agn_fraction: float = setting(0.2, "pairs", at_least=0, at_most=1)
    desi: float = setting(0.0, "pairs", at_least=0, at_most=1)
    cells: int = setting(4, "pairs", at_least=1, at_most=64)
    seed: int = setting(1, "pairs", at_least=0)


@dataclass(frozen=True, kw_only=True)
class HubConfig(Settings):
    """The surveys as dataset repositories of a Hugging Face hub; ``HF_ENDPOINT`` says which, ``HF_TOKEN`` who asks.

    Attributes
    ----------
    sdss
        Repository ORG/NAME of the SDSS catalogue in HATS layout.
    sdss_revision
        Its commit; a branch such as ``main`` is resolved to its commit once and recorded.
    desi
        Repository ORG/NAME of the DESI catalogue in HATS layout, read where ``data.spectra`` has ``desi``;
        ``hub-pairs`` takes from it what pairs of DESI lack, positions or redshifts.
    desi_revision
        Its commit or branch.
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

    SECTION = "data.hub"
    sdss: str = setting("UniverseTBD/mmu_sdss_sdss", "pairs", rule=_REPOSITORY, needs=("data.source", "hub"))
    sdss_revision: str = setting("main", "pairs", rule=_REVISION, needs=("data.source", "hub"), resumable=True)
    desi: str = setting("UniverseTBD/mmu_desi_edr_sv3", "pairs", rule=_REPOSITORY, needs=_HUBS)
    desi_revision: str = setting("main", "pairs", rule=_REVISION, needs=_HUBS, resumable=True)
    hsc: str = setting("UniverseTBD/mmu_hsc_pdr3_dud_22.5", "pairs", rule=_REPOSITORY, needs=("data.source", "hub"))
    hsc_revision: str = setting("main", "pairs", rule=_REVISION, needs=("data.source", "hub"), resumable=True)
    pairs: str = setting("Smith42/sdss_hsc_crossmatched", "pairs", rule=_REPOSITORY, needs=("data.source", "hub-pairs"))
    pairs_revision: str = setting("main", "pairs", rule=_REVISION, needs=("data.source", "hub-pairs"), resumable=True)
    workers: int = setting(8, "nothing", at_least=1, at_most=64)
    retries: int = setting(6, "nothing", at_least=0, at_most=100)
    backoff_s: float = setting(0.5, "nothing", at_least=0)
    timeout_s: float = setting(30.0, "nothing", above=0)


@dataclass(frozen=True, kw_only=True)
class HatsConfig(Settings):
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

    SECTION = "data.hats"
    sdss: str = setting("hf://datasets/UniverseTBD/mmu_sdss_sdss", "pairs", one_or_more=True, path=True, resumable=True)
    desi: str = setting(
        "hf://datasets/UniverseTBD/mmu_desi_edr_sv3", "pairs", one_or_more=True, path=True, resumable=True
    )
    hsc: str = setting(
        "hf://datasets/UniverseTBD/mmu_hsc_pdr3_dud_22.5", "pairs", one_or_more=True, path=True, resumable=True
    )
    margin: str = setting("", "pairs", resumable=True)
    sdss_survey: str = setting("sdss", "pairs", one_or_more=True)


@dataclass(frozen=True, kw_only=True)
class DataConfig(Settings):
    """Where pairs come from.

    Attributes
    ----------
    source
        ``embedded``: the simulated survey; ``hdf5``: a Multimodal Universe v1 tree under ``root``;
        ``store``: pairs that match.py wrote to the folder ``root``; ``hub``: only the matching rows of two repositories
        of a Hugging Face hub; ``hub-pairs``: a repository of ready-made pairs there;
        ``hats``: two HATS catalogues, through LSDB on Dask; ``files``: an astronomer's own files, see ``table``.
    root
        Folder of the ``hdf5`` tree or of the ``store``; not used by other sources.
    table
        Table of the source ``files``: a row per galaxy with paths in the columns ``spectrum``, ``image`` or ``image_g``
        to ``image_y``, relative to the table, and any of ``object_id``, ``ra``, ``dec``, ``redshift``; or a folder.
    wavelengths
        Whether wavelengths of single files are those of ``air`` or ``vacuum``; ``header``: as each file states.
    objects
        Table of the objects to take of any source: those of an ``object_id``, ``sdss_object_id`` or ``hsc_object_id``,
        or within ``matching.radius_arcsec`` of ``ra`` and ``dec``; unset takes all.
    spectra
        Surveys whose spectra are read, in one sample: ``desi``, and those of SDSS, which are directories under
        ``root/sdss``. A galaxy that was observed more than once is one object, with its best spectrum.
    desi_survey
        Directory under ``root/desi`` that is read where ``spectra`` has ``desi``: ``edr_sv3``, ``dr1_main``.
    hsc_survey
        Directory under ``root/hsc`` that is read.
    cells
        HEALPix cells (NSIDE 16, NESTED) to read; empty reads all.
    image_noise
        Read the noise of images of ``hub`` and ``hats`` for ``match`` and ``open_pairs``; without it ivar is 1 in
        valid pixels. What only needs to know which pixels are valid, such as training, measuring and predicting,
        does without it, and reads about half the bytes where the statistics of a row group state that all noise is
        usable.
    redshift_min
        Spectra of lower redshift are dropped and counted.
    redshift_max
        Spectra of higher redshift are dropped and counted.
    embeddings
        Parquet file or HATS folder of vectors, an id and a vector in each row, such as the embeddings of a foundation
        model or what ``mmagn embed`` writes. Networks with ``embedding`` among ``models.branches``, and models of an
        ablation with that in their name, take them.
    cache_dir
        Folder for the embedded survey and for stores made on the way.
    simulate
        Settings of the embedded survey.
    hub
        Repositories of ``hub`` and ``hub-pairs``.
    hats
        Catalogues of ``hats``.
    """

    SECTION = "data"
    source: Source = setting("embedded", "pairs")
    root: str | None = setting(
        None, "pairs", one_or_more=True, needs=("data.source", "hdf5", "store"), path=True, resumable=True
    )
    table: str | None = setting(
        None, "pairs", one_or_more=True, needs=("data.source", "files"), path=True, resumable=True
    )
    wavelengths: Wavelengths = setting("header", "pairs", needs=("data.source", "files"))
    objects: str | None = setting(None, "pairs", one_or_more=True, path=True, resumable=True)
    spectra: tuple[str, ...] = setting(DEFAULT_SPECTRA, "pairs", one_or_more=True, each_once=True, needs=_NAMED)
    desi_survey: str = setting("edr_sv3", "pairs", one_or_more=True, needs=("data.source", "hdf5"))
    hsc_survey: str = setting("pdr3_dud_22.5", "pairs", one_or_more=True, needs=_TREE)
    cells: tuple[int, ...] = setting((), "pairs", at_least=0, below=12 * 16**2, each_once=True)
    image_noise: bool = setting(True, "pairs", needs=("data.source", "hub", "hats"))
    redshift_min: float = setting(0.0, "pairs")
    redshift_max: float = setting(1.2, "pairs")
    embeddings: str = setting("", "nothing", path=True)
    cache_dir: str = setting("~/.cache/mmagn", "nothing", one_or_more=True, path=True)
    simulate: SimulateConfig = section(SimulateConfig, needs=("data.source", "embedded"))
    hub: HubConfig = section(HubConfig)
    hats: HatsConfig = section(HatsConfig, needs=("data.source", "hats"))

    @property
    def spectra_folders(self) -> tuple[str, ...]:
        """Folders of the surveys of ``spectra`` below the root of a Multimodal Universe v1 tree."""
        return tuple(f"desi/{self.desi_survey}" if name == DESI else f"sdss/{name}" for name in self.spectra)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source in ("hdf5", "store") and self.root is None:
            raise ValueError(f"data.source {self.source} needs data.root, the folder to read")
        if self.source == "files" and self.table is None:
            raise ValueError("data.source files needs data.table, a table of files or a folder")
        if not self.redshift_min < self.redshift_max:
            raise ValueError(
                f"data.redshift_min {self.redshift_min} must be below data.redshift_max {self.redshift_max}"
            )


@dataclass(frozen=True, kw_only=True)
class DaskConfig(Settings):
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

    SECTION = "dask"
    scheduler: str | None = setting(None, "nothing", one_or_more=True)
    workers: int | None = setting(None, "nothing", at_least=0)
    memory_gb: float = setting(4.0, "nothing", above=0)

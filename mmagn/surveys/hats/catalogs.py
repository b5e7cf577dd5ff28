"""HATS catalogues as LSDB opens them: with the columns that are needed and no others, from a disk or a hub."""

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow as pa

from mmagn.records import CELL_NSIDE
from mmagn.surveys.config import DataConfig
from mmagn.surveys.damage import UnavailableError
from mmagn.surveys.hats.dask_client import optional_module
from mmagn.surveys.hub.client import hub_endpoint
from mmagn.surveys.parquet.row_groups import check_needed, column_names

CELL_ORDER = CELL_NSIDE.bit_length() - 1
HUB_BLOCK_BYTES = 1 << 18
"""The library of the hub reads blocks of 5 MB otherwise, and coordinates take far less."""
_ARRAY_TYPES = tuple(f"Array{axes}DExtensionType" for axes in (2, 3, 4, 5))
_READING_LISTS = Lock()


def absolute(path: str) -> str:
    """Return a path that does not depend on the folder a process works in; a URL stays as it is."""
    return path if "://" in path else str(Path(path).expanduser().resolve())


def open_hats(
    path: str, columns: Sequence[str], needed: Mapping[str, str], data: DataConfig, *, margin: bool = False
) -> Any:
    """Return an LSDB catalogue with some columns; of ``data.cells``, or of all cells where its margin is wanted.

    Raises ``FileNotFoundError`` where there is no catalogue, no margin, or none of the cells, ``ValueError`` where it
    lacks a ``needed`` column, or cannot be read now.
    """
    lsdb = optional_module("lsdb")
    described = described_hats(path, needed)
    cells = [] if margin else [(CELL_ORDER, cell) for cell in data.cells]
    try:
        with readable(path), _arrays_as_lists(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # hats gives the options of a hub to every path
            return lsdb.open_catalog(
                path if margin else str(described.catalog_base_dir),
                columns=list(columns),
                margin_cache=_margin_place(data.hats.margin) if margin else None,
                search_filter=lsdb.PixelSearch(cells) if cells else None,
                storage_options=_storage_options(path),
            )
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} cannot be opened as a HATS catalogue with its margin: {error}") from error
    except ValueError as error:
        if "no coverage" not in str(error):
            raise
        cell_names = ", ".join(map(str, data.cells))
        raise FileNotFoundError(f"none of data.cells {cell_names} is in the HATS catalogue {path}") from error


def described_hats(path: str, needed: Mapping[str, str]) -> Any:
    """Return the description of a HATS catalogue, or of the main catalogue of a collection.

    Raises ``FileNotFoundError`` where there is none, ``ValueError`` where it lacks a column, or cannot be read now.
    """
    try:
        with readable(path), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # as above
            described = optional_module("hats").read_hats(path, storage_options=_storage_options(path))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f"{path} is no HATS catalogue or collection: {error}") from error
    main = getattr(described, "main_catalog", described)
    if main.schema is None:
        raise ValueError(f"the HATS catalogue {path} has no dataset/_common_metadata, which states its columns")
    check_needed(f"the HATS catalogue {path}", column_names(main.schema), needed)
    return main


def partition_paths(catalog: Any) -> dict[tuple[int, int], str]:
    """Return the Parquet file of every partition by HEALPix order and pixel, in the order of the catalogue."""
    hats_io = optional_module("hats.io")
    base, suffix = catalog.hc_structure.catalog_base_dir, catalog.hc_structure.catalog_info.npix_suffix
    return {
        (pixel.order, pixel.pixel): str(hats_io.pixel_catalog_file(base, pixel, None, suffix))
        for pixel in catalog.get_ordered_healpix_pixels()
    }


@contextmanager
def readable(path: str) -> Iterator[None]:
    """Turn what a hub, a disk or a Dask worker raises while a catalogue is read into one sentence.

    Raises ``UnavailableError`` where a partition cannot be read now; nothing of it is counted as lost.
    """
    killed = optional_module("distributed").KilledWorker
    try:
        yield
    except killed as error:
        raise UnavailableError(
            f"workers of the Dask cluster ended again and again while {path} was read (more dask.memory_gb or fewer "
            "dask.workers may help); the same command resumes"
        ) from error
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise
    except Exception as error:  # hats, LSDB and fsspec let through whatever a hub or a disk gives them
        reason = f"{type(error).__name__} {' '.join(str(error).split())}"
        raise UnavailableError(
            f"the HATS catalogue {path} cannot be read: {reason}; the same command resumes"
        ) from error


def _storage_options(path: str) -> dict[str, Any] | None:
    return {"block_size": HUB_BLOCK_BYTES, "endpoint": hub_endpoint()} if path.startswith("hf://") else None


def _margin_place(margin: str) -> str | None:
    """Return what LSDB takes for a margin: a name in the collection, a path, or None for the collection's default."""
    return (absolute(margin) if "/" in margin else margin) or None


@contextmanager
def _arrays_as_lists() -> Iterator[None]:
    """Have schemas hold nested lists: LSDB cannot open a catalogue with the array types that ``datasets`` registers."""
    features = sys.modules.get("datasets.features.features")
    if features is None:
        yield
        return
    with _READING_LISTS:
        for name in _ARRAY_TYPES:
            pa.unregister_extension_type(f"{features.__name__}.{name}")
        try:
            yield
        finally:
            for axes, name in enumerate(_ARRAY_TYPES, start=2):
                pa.register_extension_type(getattr(features, name)((1,) * axes, "int64"))

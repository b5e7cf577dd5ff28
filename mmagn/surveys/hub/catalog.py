"""A catalogue in the Parquet files of a hub repository: its index, and the records of wanted rows.

The index takes ids, positions and redshifts, a few bytes a row, and is kept in the cache folder. The payload takes the
row groups that hold wanted rows, and of these the wanted columns.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Generic

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mmagn.records import Catalog, Floats
from mmagn.storage.files import json_digest, whole_file
from mmagn.surveys.config import DataConfig, HubConfig
from mmagn.surveys.damage import UnavailableError
from mmagn.surveys.hub.client import HubClient, hub_client, hub_endpoint
from mmagn.surveys.hub.files import HubFile, HubParquet, catalog_files
from mmagn.surveys.parquet.row_groups import Payload, check_needed, column_chunks, column_names, read_columns
from mmagn.surveys.reader import Record, SourceFile
from mmagn.surveys.screen import cells_of, id_texts, screened_catalog

INDEX_VERSION = 2
"""Raised when an index kept in the cache folder would hold something else."""
_CELL_SHIFT = 2 * (29 - 4)
"""Bits between a HEALPix pixel of order 29 and its cell of NSIDE 16, both nested."""
_CELL_COLUMNS = {"_healpix_29": _CELL_SHIFT, "healpix": 0}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class HubCatalog(Generic[Record]):
    """One survey in a repository: which columns are its index, and which its payload.

    Attributes
    ----------
    setting, repository, revision
        Name of the setting that names the repository, and what is read.
    index
        Column of the file by its meaning: object_id, ra, dec, and Z for spectra.
    needed
        Columns without which nothing can be read, and what each is needed for.
    payload
        What is read of a row.
    places
        Position and redshift by id, where the repository itself does not have them: columns ra, dec and Z of ids
        (object,), NaN where unknown. The ids are the index column ``key``, or object_id.
    """

    setting: str
    repository: str
    revision: str
    index: Mapping[str, str]
    needed: Mapping[str, str]
    payload: Payload[Record]
    places: Callable[[NDArray[np.str_]], Mapping[str, Floats]] | None = None

    @property
    def place(self) -> str:
        """Repository and setting, for messages."""
        return f"the dataset repository {self.repository} ({self.setting})"

    def files(self, hub: HubConfig) -> tuple[HubFile, ...]:
        """Return the files of the repository."""
        return hub_files(hub_client(hub), self.repository, self.revision)


@lru_cache(maxsize=16)
def hub_files(client: HubClient, repository: str, revision: str) -> tuple[HubFile, ...]:
    """Return the files of a repository; a branch is resolved and listed once in a process."""
    files = catalog_files(client, repository, revision)
    _log.info("%s@%s is commit %s with %d files", files[0].repository, revision, files[0].commit, len(files))
    return files


def repository_columns(data: DataConfig, repository: str, revision: str) -> frozenset[str]:
    """Return the columns of the first file of a repository."""
    files = hub_files(hub_client(data.hub), repository, revision)
    return _columns(files[0].parquet(data.hub))


def source(data: DataConfig, catalog: HubCatalog[Record]) -> SourceFile:
    """Return a repository, under its present name, with its size and commit."""
    files, survey = catalog.files(data.hub), catalog.payload.survey
    size_bytes = sum(file.size_bytes for file in files)
    return SourceFile(name=f"{survey} {files[0].repository}", size_bytes=size_bytes, version=files[0].commit)


def index_catalog(catalog: HubCatalog[Record], data: DataConfig, drops: Counter[str]) -> Catalog:
    """Return ids and positions of a repository, every id once, from its index columns alone.

    Raises ``ValueError`` if the hub fails, a column is missing, or no object is left.
    """
    table = index_table(catalog, data)
    columns = {name: table.column(name).to_numpy() for name in table.column_names}
    if catalog.places is not None:
        columns = {**catalog.places(columns.get("key", columns["object_id"]).astype(np.str_)), **columns}
        columns["cell"] = cells_of(columns["ra"], columns["dec"])
    stored = Catalog(
        object_id=columns["object_id"].astype(np.str_),
        ra_deg=columns["ra"],
        dec_deg=columns["dec"],
        healpix=columns["cell"],
        file_index=columns["file"],
        row=columns["row"],
        redshift=columns.get("Z"),
        files=tuple(map(str, catalog.files(data.hub))),
    )
    return screened_catalog(catalog.payload.survey, f"the dataset repository {catalog.repository}", stored, data, drops)


def index_table(catalog: HubCatalog[Record], data: DataConfig) -> pa.Table:
    """Return the index of a repository at a commit, from the cache folder where it was read before."""
    files = catalog.files(data.hub)
    key = [INDEX_VERSION, hub_endpoint(), sorted(catalog.index.items()), data.cells, list(map(str, files))]
    path = Path(data.cache_dir).expanduser() / "hub" / f"index-{json_digest(key)[:16]}.parquet"
    if path.is_file():
        try:
            return pq.read_table(path)
        except (pa.ArrowException, OSError) as error:
            _log.warning("the index %s cannot be read (%s) and is made anew", path, error)
    check_needed(catalog.place, _columns(files[0].parquet(data.hub)), catalog.needed)  # before others ask for the same
    with ThreadPoolExecutor(data.hub.workers, thread_name_prefix="index") as pool:
        table = pa.concat_tables(pool.map(partial(_index_part, catalog, data), files, range(len(files))))
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part:
        pq.write_table(table, part)
    return table


def _index_part(catalog: HubCatalog[Record], data: DataConfig, file: HubFile, number: int) -> pa.Table:
    """Return the index of one file: the columns of ``catalog.index`` by meaning, and cell, file and row."""
    parquet = file.parquet(data.hub)
    footer, present = _footer(parquet), _columns(parquet)
    check_needed(catalog.place, present, catalog.needed)
    cell_column: str | None = next((name for name in _CELL_COLUMNS if name in present), None)
    lengths = np.array([footer.row_group(group).num_rows for group in range(footer.num_row_groups)], dtype=np.int64)
    groups = [group for group in range(len(lengths)) if _in_cells(footer, group, cell_column, data.cells)]
    wanted = {*catalog.index.values(), *([cell_column] if cell_column else [])}
    table = read_columns(parquet, groups, sorted(wanted))
    columns = {meaning: _values(table, name, meaning, parquet.name) for meaning, name in catalog.index.items()}
    if "ra" not in columns:
        cell = np.full(len(table), -1, dtype=np.int64)
    elif cell_column is None:
        cell = cells_of(columns["ra"], columns["dec"])
    else:
        cell = table.column(cell_column).to_numpy().astype(np.int64) >> _CELL_COLUMNS[cell_column]
    starts = np.cumsum(lengths) - lengths
    row = np.concatenate([np.arange(lengths[group]) + starts[group] for group in groups] or [np.empty(0, np.int64)])
    numbers = np.full(len(cell), number, dtype=np.int32)
    part = pa.table({**columns, "cell": cell, "file": numbers, "row": row.astype(np.int64)})
    return part.filter(pa.array(np.isin(cell, [*data.cells, -1]))) if data.cells and "ra" in columns else part


def _values(table: pa.Table, name: str, meaning: str, file: str) -> pa.Array:
    """Return an index column: ids as plain text, anything else as float64."""
    column = table.column(name)
    try:
        if meaning in ("object_id", "key"):
            return pa.array(id_texts(column.to_numpy()).tolist(), pa.string())
        return column.cast(pa.float64()).combine_chunks().to_numpy(zero_copy_only=False)
    except (ValueError, pa.ArrowException) as error:
        raise ValueError(f"{file}: the column {name} of type {column.type} cannot be read: {error}") from error


def _in_cells(footer: pq.FileMetaData, group: int, column: str | None, cells: Sequence[int]) -> bool:
    """Return whether the statistics of a row group allow a row in one of the cells."""
    if not cells or column is None:
        return True
    shift = _CELL_COLUMNS[column]
    (chunk,) = column_chunks(footer, group, [column])
    known = chunk.statistics
    if known is None or not known.has_min_max:
        return True
    return any(known.min >> shift <= cell <= known.max >> shift for cell in cells)


def _footer(parquet: HubParquet) -> pq.FileMetaData:
    try:
        return parquet.footer()
    except UnavailableError:
        raise
    except ValueError as error:
        raise ValueError(f"{parquet.name}: {error}") from error


def _columns(parquet: HubParquet) -> frozenset[str]:
    return column_names(_footer(parquet).schema.to_arrow_schema())

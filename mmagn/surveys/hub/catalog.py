"""A catalogue in the Parquet files of a hub repository: its index, and the records of wanted rows.

The index takes ids, positions and redshifts, a few bytes a row, and is kept in the cache folder. The payload takes the
row groups that hold wanted rows, and of these the wanted columns.
"""

import hashlib
import json
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Generic

import healpy
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mmagn.records import CELL_NSIDE, Catalog
from mmagn.surveys.config import DataConfig
from mmagn.surveys.hub.client import HubClient, hub_client
from mmagn.surveys.hub.files import HubFile, HubParquet, catalog_files
from mmagn.surveys.reader import Record, SourceFile, row_records
from mmagn.surveys.text import plain_text

INDEX_VERSION = 1
"""Raised when an index kept in the cache folder would hold something else."""
_CELL_SHIFT = 2 * (29 - 4)
"""Bits between a HEALPix pixel of order 29 and its cell of NSIDE 16, both nested."""
_CELL_COLUMNS = {"_healpix_29": _CELL_SHIFT, "healpix": 0}
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class HubCatalog(Generic[Record]):
    """One side of a repository: which columns are its index, and which its payload.

    Attributes
    ----------
    name
        ``sdss`` or ``hsc``, as reasons of loss say it.
    setting
        Name of the setting that names the repository.
    repository, revision
        What is read.
    index
        Column of the file by its meaning: object_id, ra, dec, and Z for SDSS.
    payload
        Columns of the payload, parts of a struct as ``image.flux``; those of them that are ``needed`` must be there.
    needed
        Columns without which nothing can be read, and what each is needed for.
    from_row
        Record of a row of a batch that has the payload.
    rows_at_once
        Rows decoded together.
    """

    name: str
    setting: str
    repository: str
    revision: str
    index: Mapping[str, str]
    payload: tuple[str, ...]
    needed: Mapping[str, str]
    from_row: Callable[[pa.RecordBatch, int], Record]
    rows_at_once: int


def hub_parquet(data: DataConfig) -> HubParquet:
    """Return the Parquet files of the hub that ``HF_ENDPOINT`` names, through this process's connection."""
    return _parquet(hub_client(data.hub))


@lru_cache(maxsize=4)
def _parquet(client: HubClient) -> HubParquet:
    return HubParquet(client)


@lru_cache(maxsize=16)
def hub_files(client: HubClient, repository: str, revision: str) -> tuple[HubFile, ...]:
    """Return the files of a repository; a branch is resolved and listed once in a process."""
    files = catalog_files(client, repository, revision)
    _LOGGER.info("%s: %s is commit %s with %d files", repository, revision, files[0].commit, len(files))
    return files


def source(client: HubClient, side: HubCatalog[Record]) -> SourceFile:
    """Return a repository with its size and commit."""
    files = hub_files(client, side.repository, side.revision)
    size_bytes = sum(file.size_bytes for file in files)
    return SourceFile(name=f"{side.name} {side.repository}", size_bytes=size_bytes, version=files[0].commit)


def index_catalog(side: HubCatalog[Record], data: DataConfig, drops: Counter[str]) -> Catalog:
    """Return who is where in a repository, every id once, from its index columns alone.

    Raises
    ------
    ValueError
        If the hub fails, a column is missing, or no object is left.
    """
    parquet = hub_parquet(data)
    files = hub_files(parquet.client, side.repository, side.revision)
    table = _kept_index(side, data, files, parquet)
    values = {name: table.column(name).to_numpy() for name in table.column_names if name != "object_id"}
    kept = np.ones(len(table), dtype=np.bool_)
    lost: Counter[str] = Counter()
    for unusable, reason in _unusable(values, data):
        if count := int((kept & unusable).sum()):
            lost[f"{side.name}: {reason}"] += count
            kept &= ~unusable
    rows = np.flatnonzero(kept)
    object_id = np.array([plain_text(value) for value in table.column("object_id").take(rows).to_pylist()], np.str_)
    first = np.sort(np.unique(object_id, return_index=True)[1])
    if repeated := len(object_id) - len(first):
        lost[f"{side.name}: object_id seen before"] += repeated
    drops.update(lost)
    if not len(first):
        told = "; ".join(f"{reason} ({count})" for reason, count in lost.items()) or "there is none in data.cells"
        raise ValueError(f"no {side.name} object of the dataset repository {side.repository} can be used: {told}")
    rows = rows[first]
    return Catalog(
        object_id=object_id[first],
        ra_deg=values["ra"][rows].astype(np.float64),
        dec_deg=values["dec"][rows].astype(np.float64),
        healpix=values["cell"][rows],
        file_index=values["file"][rows],
        row=values["row"][rows],
        files=tuple(map(str, files)),
    )


def _unusable(values: Mapping[str, NDArray[Any]], data: DataConfig) -> Iterator[tuple[NDArray[np.bool_], str]]:
    """Yield which rows of an index are of no use, and why."""
    on_sphere = np.isfinite(values["ra"]) & (np.abs(values["dec"]) <= 90)
    yield ~on_sphere, "position is not finite or off the sphere"
    if "Z" in values:
        redshift = values["Z"].astype(np.float64)
        limits = f"data.redshift_min {data.redshift_min} to data.redshift_max {data.redshift_max}"
        yield ~np.isfinite(redshift), "redshift is not finite"
        yield (redshift < data.redshift_min) | (redshift > data.redshift_max), f"redshift is outside {limits}"


def _kept_index(side: HubCatalog[Record], data: DataConfig, files: Sequence[HubFile], parquet: HubParquet) -> pa.Table:
    """Return the index of a repository at a commit, from the cache folder where it was read before."""
    told = [INDEX_VERSION, parquet.client.endpoint, sorted(side.index.items()), data.cells, list(map(str, files))]
    name = f"index-{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]}.parquet"
    path = Path(data.cache_dir).expanduser() / "hub" / name
    if path.is_file():
        try:
            return pq.read_table(path)
        except (pa.ArrowException, OSError) as error:
            _LOGGER.warning("the index %s cannot be read (%s) and is made anew", path, error)
    check_columns(side, parquet.footer(files[0]))
    parts = parquet.client.in_parallel(
        [partial(_index_part, side, data, parquet, file, number) for number, file in enumerate(files)]
    )
    table = pa.concat_tables(parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial_name = tempfile.mkstemp(prefix=f".{name}-", dir=path.parent)
    os.close(handle)
    try:
        pq.write_table(table, partial_name)
        Path(partial_name).replace(path)
    finally:
        Path(partial_name).unlink(missing_ok=True)
    return table


def _index_part(
    side: HubCatalog[Record], data: DataConfig, parquet: HubParquet, file: HubFile, number: int
) -> pa.Table:
    """Return the index of one file: meaning of ``side.index``, and cell, file and row."""
    footer = parquet.footer(file)
    check_columns(side, footer)
    present = column_names(footer)
    cell_column: str | None = next((name for name in _CELL_COLUMNS if name in present), None)
    lengths = np.array([footer.row_group(group).num_rows for group in range(footer.num_row_groups)], dtype=np.int64)
    groups = [group for group in range(len(lengths)) if _in_cells(footer, group, cell_column, data.cells)]
    wanted = {*side.index.values(), *([cell_column] if cell_column else [])}
    table = parquet.columns(file, groups, sorted(wanted))
    starts = np.cumsum(lengths) - lengths
    row = np.concatenate([np.arange(lengths[group]) + starts[group] for group in groups] or [np.array([], np.int64)])
    columns = {meaning: table.column(name) for meaning, name in side.index.items()}
    if cell_column is None:
        cell = _cells(columns["ra"].to_numpy(), columns["dec"].to_numpy())
    else:
        cell = table.column(cell_column).to_numpy().astype(np.int64) >> _CELL_COLUMNS[cell_column]
    columns["object_id"] = columns["object_id"].cast(pa.string())
    numbers = np.full(len(row), number, dtype=np.int32)
    part = pa.table({**columns, "cell": cell, "file": numbers, "row": row.astype(np.int64)})
    return part.filter(pa.array(np.isin(cell, data.cells))) if data.cells else part


def _cells(ra_deg: NDArray[np.float64], dec_deg: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the cell of every position, -1 where there is none."""
    cell = np.full(len(ra_deg), -1, dtype=np.int64)
    on_sphere = np.isfinite(ra_deg) & (np.abs(dec_deg) <= 90)
    cell[on_sphere] = healpy.ang2pix(CELL_NSIDE, ra_deg[on_sphere] % 360, dec_deg[on_sphere], nest=True, lonlat=True)
    return cell


def _in_cells(footer: pq.FileMetaData, group: int, column: str | None, cells: Sequence[int]) -> bool:
    """Return whether the statistics of a row group allow a row in one of the cells."""
    if not cells or column is None:
        return True
    shift = _CELL_COLUMNS[column]
    described = footer.row_group(group)
    for number in range(described.num_columns):
        chunk = described.column(number)
        if chunk.path_in_schema == column and chunk.is_stats_set and chunk.statistics.has_min_max:
            return any(chunk.statistics.min >> shift <= cell <= chunk.statistics.max >> shift for cell in cells)
    return True


def column_names(footer: pq.FileMetaData) -> frozenset[str]:
    """Return the columns of a file, parts of a struct as ``image.flux``."""
    schema = footer.schema.to_arrow_schema()
    parts = {
        f"{column.name}.{part.name}" for column in schema if pa.types.is_struct(column.type) for part in column.type
    }
    return frozenset(schema.names) | parts


def check_columns(side: HubCatalog[Record], footer: pq.FileMetaData) -> None:
    """Raise ValueError, naming the column and its purpose, where a file lacks one that is needed."""
    present = column_names(footer)
    for column, purpose in side.needed.items():
        if column not in present:
            found = ", ".join(sorted(name for name in present if "." not in name)[:12])
            hint = "; such a preview cannot be matched" if purpose == "position" else ""
            raise ValueError(
                f"the dataset repository {side.repository} ({side.setting}) has no column {column}, which is needed "
                f"for the {purpose}{hint}; its columns: {found}"
            )


def records(
    side: HubCatalog[Record], data: DataConfig, path: str, rows: NDArray[np.int64]
) -> Iterator[tuple[int, Record | str]]:
    """Yield (row, record, or the reason why there is none) of each wanted row of a file, ascending.

    Raises
    ------
    ValueError
        If the hub fails; nothing is lost then, the same command resumes later.
    """
    file, parquet = HubFile.from_text(path), hub_parquet(data)
    wanted = np.unique(np.asarray(rows, dtype=np.int64))
    present = column_names(parquet.footer(file))
    columns = [name for name in side.payload if name in present]
    places = ((batch, place) for _, batch, place in parquet.rows(file, wanted, columns, side.rows_at_once))
    damage = (pa.ArrowException, OSError)
    return row_records(side.name, path, wanted, places, lambda place: side.from_row(*place), damage)

"""The two surveys as dataset repositories of a Hugging Face hub: only what is matched is ever moved.

The index takes ids, positions and redshifts of the HATS catalogues, a few bytes a row, and is kept in the cache
folder. The payload takes the row groups that hold wanted rows, and of these the wanted columns.
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
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mmagn.records import Catalog, Cutout, Spectrum
from mmagn.surveys.config import DataConfig
from mmagn.surveys.hats_rows import (
    HSC_COLUMNS,
    IMAGE_FIELDS,
    SDSS_COLUMNS,
    SPECTRUM_FIELDS,
    cutout_from_hats,
    spectrum_from_hats,
)
from mmagn.surveys.hub_client import HubClient, hub_client
from mmagn.surveys.hub_files import HubFile, HubParquet, catalog_files
from mmagn.surveys.readers import SourceFile, reading_settings
from mmagn.surveys.text import plain_text

Record = TypeVar("Record", Cutout, Spectrum)

HUB_SURVEY = "sdss"
"""The one SDSS survey that these repositories hold."""
INDEX_VERSION = 1
"""Raised when an index kept in the cache folder would hold something else."""
CUTOUTS_AT_ONCE = 8
SPECTRA_AT_ONCE = 256
_CELL_SHIFT = 2 * (29 - 4)
"""Bits between a HEALPix pixel of order 29 and its cell of NSIDE 16, both nested."""
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class HubCatalog:
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
    """

    name: str
    setting: str
    repository: str
    revision: str
    index: Mapping[str, str]
    payload: tuple[str, ...]
    needed: Mapping[str, str]


def _columns(plain: Sequence[str], struct: str, parts: Mapping[str, str]) -> tuple[str, ...]:
    return (*(name for name in plain if name != struct), *(f"{struct}.{part}" for part in parts.values()))


_NEEDED = {"object_id": "identity", "ra": "position", "dec": "position"}
_HSC_PAYLOAD = _columns(HSC_COLUMNS, "image", IMAGE_FIELDS)
_SDSS_PAYLOAD = _columns(SDSS_COLUMNS, "spectrum", SPECTRUM_FIELDS)
_HSC_NEEDED = _NEEDED | {name: "image" for name in _HSC_PAYLOAD if "." in name and name != "image.scale"}
_SDSS_NEEDED = _NEEDED | {"Z": "redshift"} | {name: "spectrum" for name in _SDSS_PAYLOAD if "." in name}


@dataclass(frozen=True, kw_only=True)
class HubReader:
    """Reader of the surveys of a hub; see ``readers.SurveyReader``.

    Attributes
    ----------
    data
        Settings with ``data.source`` hub.
    """

    data: DataConfig

    def __post_init__(self) -> None:
        if HUB_SURVEY not in self.data.sdss_surveys:
            raise ValueError(
                f"data.sdss_surveys is {', '.join(self.data.sdss_surveys)}; data.source hub has only {HUB_SURVEY}"
            )

    def settings(self) -> dict[str, Any]:
        """Return the settings that shape what is read, by dotted name; the commits are among the sources."""
        settings = reading_settings(self.data)
        del settings["data.sdss_surveys"], settings["data.hsc_survey"]
        return settings | {"data.hub.sdss": self.data.hub.sdss, "data.hub.hsc": self.data.hub.hsc}

    def sources(self) -> tuple[SourceFile, ...]:
        """Return both repositories with the commit that is read."""
        return tuple(source(hub_parquet(self.data).client, side) for side in (self._sdss(), self._hsc()))

    def read_sdss_catalog(self, drops: Counter[str]) -> Catalog:
        """Return who is where in SDSS, every id once; only ids, positions and redshifts move, and only once."""
        return index_catalog(self._sdss(), self.data, drops)

    def read_hsc_catalog(self, drops: Counter[str]) -> Catalog:
        """Return who is where in HSC, every id once; only ids and positions move, and only once."""
        return index_catalog(self._hsc(), self.data, drops)

    def read_spectra(self, path: str, rows: NDArray[np.int64], drops: Counter[str]) -> Iterator[tuple[int, Spectrum]]:
        """Yield (row, spectrum) of the wanted rows of one file, ascending; one row group is held at a time."""
        spectrum = partial(spectrum_from_hats, survey=HUB_SURVEY)
        return records(self._sdss(), self.data, path, rows, spectrum, SPECTRA_AT_ONCE, drops)

    def read_cutouts(self, path: str, rows: NDArray[np.int64], drops: Counter[str]) -> Iterator[tuple[int, Cutout]]:
        """Yield (row, cutout) of the wanted rows of one file, ascending; one row group is held at a time."""
        return records(self._hsc(), self.data, path, rows, cutout_from_hats, CUTOUTS_AT_ONCE, drops)

    def iter_spectra(self, drops: Counter[str]) -> Iterator[Spectrum]:
        """Yield every usable spectrum of the repository, each object once."""
        catalog = self.read_sdss_catalog(drops)
        for number, path in enumerate(catalog.files):
            for _, spectrum in self.read_spectra(path, catalog.row[catalog.file_index == number], drops):
                yield spectrum

    def _sdss(self) -> HubCatalog:
        return HubCatalog(
            name="sdss",
            setting="data.hub.sdss",
            repository=self.data.hub.sdss,
            revision=self.data.hub.sdss_revision,
            index={"object_id": "object_id", "ra": "ra", "dec": "dec", "Z": "Z"},
            payload=_SDSS_PAYLOAD,
            needed=_SDSS_NEEDED,
        )

    def _hsc(self) -> HubCatalog:
        return HubCatalog(
            name="hsc",
            setting="data.hub.hsc",
            repository=self.data.hub.hsc,
            revision=self.data.hub.hsc_revision,
            index={"object_id": "object_id", "ra": "ra", "dec": "dec"},
            payload=_HSC_PAYLOAD,
            needed=_HSC_NEEDED,
        )


def hub_parquet(data: DataConfig) -> HubParquet:
    """Return the Parquet files of the hub that ``HF_ENDPOINT`` names, through this process's connection."""
    return _parquet(hub_client(data.hub))


@lru_cache(maxsize=4)
def _parquet(client: HubClient) -> HubParquet:
    return HubParquet(client)


@lru_cache(maxsize=16)
def _files(client: HubClient, repository: str, revision: str) -> tuple[HubFile, ...]:
    """Return the files of a repository; a branch is resolved and listed once in a process."""
    files = catalog_files(client, repository, revision)
    _LOGGER.info("%s: %s is commit %s with %d files", repository, revision, files[0].commit, len(files))
    return files


def source(client: HubClient, side: HubCatalog) -> SourceFile:
    """Return a repository with its size and commit."""
    files = _files(client, side.repository, side.revision)
    size_bytes = sum(file.size_bytes for file in files)
    return SourceFile(name=f"{side.name} {side.repository}", size_bytes=size_bytes, version=files[0].commit)


def index_catalog(side: HubCatalog, data: DataConfig, drops: Counter[str]) -> Catalog:
    """Return who is where in a repository, every id once, from its index columns alone.

    Raises
    ------
    ValueError
        If the hub fails, a column is missing, or no object is left.
    """
    parquet = hub_parquet(data)
    files = _files(parquet.client, side.repository, side.revision)
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


def _kept_index(side: HubCatalog, data: DataConfig, files: Sequence[HubFile], parquet: HubParquet) -> pa.Table:
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


def _index_part(side: HubCatalog, data: DataConfig, parquet: HubParquet, file: HubFile, number: int) -> pa.Table:
    """Return the index of one file: meaning of ``side.index``, and cell, file and row."""
    footer = parquet.footer(file)
    check_columns(side, footer)
    cell_column = next((name for name in ("_healpix_29", "healpix") if name in _column_names(footer)), None)
    if cell_column is None:
        raise ValueError(
            f"the dataset repository {side.repository} ({side.setting}) has no column _healpix_29 or healpix, "
            "which is needed for the HEALPix cell"
        )
    shift = _CELL_SHIFT if cell_column == "_healpix_29" else 0
    lengths = np.array([footer.row_group(group).num_rows for group in range(footer.num_row_groups)], dtype=np.int64)
    groups = [
        group for group in range(footer.num_row_groups) if _in_cells(footer, group, cell_column, shift, data.cells)
    ]
    table = parquet.columns(file, groups, [*side.index.values(), cell_column])
    starts = np.cumsum(lengths) - lengths
    row = np.concatenate([np.arange(lengths[group]) + starts[group] for group in groups] or [np.array([], np.int64)])
    cell = table.column(cell_column).to_numpy().astype(np.int64) >> shift
    columns = {meaning: table.column(name) for meaning, name in side.index.items()}
    columns["object_id"] = columns["object_id"].cast(pa.string())
    numbers = np.full(len(row), number, dtype=np.int32)
    part = pa.table({**columns, "cell": cell, "file": numbers, "row": row.astype(np.int64)})
    return part.filter(pa.array(np.isin(cell, data.cells))) if data.cells else part


def _in_cells(footer: pq.FileMetaData, group: int, column: str, shift: int, cells: Sequence[int]) -> bool:
    """Return whether the statistics of a row group allow a row in one of the cells."""
    if not cells:
        return True
    described = footer.row_group(group)
    for number in range(described.num_columns):
        chunk = described.column(number)
        if chunk.path_in_schema == column and chunk.is_stats_set and chunk.statistics.has_min_max:
            return any(chunk.statistics.min >> shift <= cell <= chunk.statistics.max >> shift for cell in cells)
    return True


def _column_names(footer: pq.FileMetaData) -> set[str]:
    """Return the columns of a file, parts of a struct as ``image.flux``."""
    schema = footer.schema.to_arrow_schema()
    parts = {
        f"{column.name}.{part.name}" for column in schema if pa.types.is_struct(column.type) for part in column.type
    }
    return set(schema.names) | parts


def check_columns(side: HubCatalog, footer: pq.FileMetaData) -> None:
    """Raise ValueError, naming the column and its purpose, where a file lacks one that is needed."""
    present = _column_names(footer)
    for column, purpose in side.needed.items():
        if column not in present:
            found = ", ".join(sorted(name for name in present if "." not in name)[:12])
            hint = "; such a preview cannot be matched" if purpose == "position" else ""
            raise ValueError(
                f"the dataset repository {side.repository} ({side.setting}) has no column {column}, which is needed "
                f"for the {purpose}{hint}; its columns: {found}"
            )


def records(
    side: HubCatalog,
    data: DataConfig,
    path: str,
    rows: NDArray[np.int64],
    from_row: Callable[[pa.RecordBatch, int], Record],
    rows_at_once: int,
    drops: Counter[str],
) -> Iterator[tuple[int, Record]]:
    """Yield (row, record) of the wanted rows of a file, ascending; bad rows and undecodable files are counted.

    Raises
    ------
    ValueError
        If the hub fails; nothing is counted as lost then, the same command goes on later.
    """
    file, parquet = HubFile.from_text(path), hub_parquet(data)
    wanted = np.unique(np.asarray(rows, dtype=np.int64))
    present = _column_names(parquet.footer(file))
    columns = [name for name in side.payload if name in present]
    done = 0
    try:
        for row, batch, place in parquet.rows(file, wanted, columns, rows_at_once):
            done += 1
            try:
                record = from_row(batch, place)
            except ValueError as error:
                drops[f"{side.name}: {error}"] += 1
                _LOGGER.info("%s row %d dropped: %s", path, row, error)
                continue
            yield row, record
    except (pa.ArrowException, OSError) as error:
        reason = f"{side.name}: file {file.repository} {file.path} cannot be decoded, {error}"
        drops[reason] += len(wanted) - done
        _LOGGER.warning(reason)

"""HATS catalogues through LSDB on Dask: who is in which partition, and the pixels of chosen rows of one.

A partition is one HEALPix pixel and one Parquet file. Coordinates come through LSDB, partition by partition on Dask;
pixels come straight from the row groups of the partition's file that hold wanted rows, a few rows at a time. Every
catalogue is opened with the columns that are needed and no others.
"""

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mmagn.records import CELL_NSIDE, Catalog, Cutout, Spectrum
from mmagn.surveys import hats_rows
from mmagn.surveys.config import DataConfig
from mmagn.surveys.dask_client import optional_module
from mmagn.surveys.readers import SourceFile, reading_settings
from mmagn.surveys.text import plain_text

Record = TypeVar("Record", Cutout, Spectrum)
Result = TypeVar("Result")

CELL_ORDER = CELL_NSIDE.bit_length() - 1
CUTOUTS_AT_ONCE = 16
SPECTRA_AT_ONCE = 256
BATCH_SPECTRA = 512
"""Spectra that a function of ``mapped_spectra`` is given at once."""
TASKS_PER_WORKER = 3
"""Partitions under way for each worker: one that it works on, one that waits, one that is sent back."""
STREAM_BYTES = 1 << 20
"""Bytes of a column read ahead."""

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class HatsReader:
    """Both surveys as HATS catalogues.

    Attributes
    ----------
    data
        Settings with ``data.source`` hats.
    """

    data: DataConfig

    def settings(self) -> dict[str, Any]:
        """Return the settings that shape what is read, by dotted name; which catalogues, ``sources`` tells."""
        settings = reading_settings(self.data)
        for name in ("data.sdss_surveys", "data.hsc_survey"):
            del settings[name]
        return settings | {"data.hats.sdss_survey": self.data.hats.sdss_survey}

    def sources(self) -> tuple[SourceFile, ...]:
        """Return the description of both catalogues, which changes whenever one is written anew."""
        hats = optional_module("hats")
        found = []
        for path, needed in ((self.data.hats.sdss, hats_rows.NEEDED_SDSS_COLUMNS), (self.data.hats.hsc, ())):
            base = _described(hats, path, needed).catalog_base_dir
            content = (base / "hats.properties").read_bytes()
            version = sha256(content).hexdigest()
            found.append(SourceFile(name=f"{base.name}/hats.properties", size_bytes=len(content), version=version))
        return tuple(found)

    def open_sdss(self) -> Any:
        """Return the LSDB catalogue of SDSS ids, positions and redshifts."""
        return self._opened(self.data.hats.sdss, (*hats_rows.POSITION_COLUMNS, "Z"), hats_rows.NEEDED_SDSS_COLUMNS)

    def open_hsc(self, *, margin: bool = False) -> Any:
        """Return the LSDB catalogue of HSC ids and positions, with ``margin`` of all cells and with its margin."""
        columns, needed = hats_rows.POSITION_COLUMNS, hats_rows.NEEDED_HSC_COLUMNS
        return self._opened(self.data.hats.hsc, columns, needed, margin=margin)

    def read_sdss_catalog(self, drops: Counter[str]) -> Catalog:
        """Return who is where in SDSS, every id once, gathered partition by partition.

        Raises
        ------
        FileNotFoundError, ValueError
            If the catalogue cannot be opened, lacks a column, or holds no usable object.
        """
        return _catalog(self.open_sdss(), "sdss", self.data, drops)

    def read_hsc_catalog(self, drops: Counter[str]) -> Catalog:
        """Return who is where in HSC, every id once, gathered partition by partition.

        Raises
        ------
        FileNotFoundError, ValueError
            If the catalogue cannot be opened, lacks a column, or holds no usable object.
        """
        return _catalog(self.open_hsc(), "hsc", self.data, drops)

    def read_spectra(self, path: str, rows: NDArray[np.int64], drops: Counter[str]) -> Iterator[tuple[int, Spectrum]]:
        """Yield (row, spectrum) of the wanted rows of one partition, ascending, a few rows at a time in memory."""
        from_row = partial(hats_rows.spectrum_from_hats, survey=self.data.hats.sdss_survey)
        columns = _Columns("sdss", hats_rows.SDSS_COLUMNS, SPECTRA_AT_ONCE)
        return _records(path, rows, columns, from_row, drops)

    def read_cutouts(self, path: str, rows: NDArray[np.int64], drops: Counter[str]) -> Iterator[tuple[int, Cutout]]:
        """Yield (row, cutout) of the wanted rows of one partition, ascending, a few rows at a time in memory."""
        columns = _Columns("hsc", hats_rows.HSC_COLUMNS, CUTOUTS_AT_ONCE)
        return _records(path, rows, columns, hats_rows.cutout_from_hats, drops)

    def iter_spectra(self, drops: Counter[str]) -> Iterator[Spectrum]:
        """Yield every usable spectrum, partition by partition, each object once."""
        catalog = self.read_sdss_catalog(drops)
        for index, path in enumerate(catalog.files):
            for _, spectrum in self.read_spectra(path, catalog.row[catalog.file_index == index], drops):
                yield spectrum

    def mapped_spectra(
        self, function: Callable[[list[Spectrum]], Result], drops: Counter[str], batch_spectra: int = BATCH_SPECTRA
    ) -> Iterator[Result]:
        """Yield what a function returns for the spectra of each partition, computed on Dask where the partition is.

        Parameters
        ----------
        function
            Called with at most ``batch_spectra`` spectra of one partition; it and its result are sent between
            processes.
        drops
            Added to: objects dropped by reason.
        batch_spectra
            Spectra in the memory of a worker.

        Yields
        ------
        Result
            In the order of ``iter_spectra``; a few partitions are under way at a time, so a slow reader of the results
            holds the cluster back instead of filling the memory.

        Raises
        ------
        FileNotFoundError, ValueError
            If the catalogue cannot be opened or lacks a column.
        """
        catalog = self.open_sdss()
        order = catalog.hc_structure.catalog_info.healpix_order
        task = _PartitionTask(self, function, batch_spectra, _partition_files(catalog), order)
        meta = pd.DataFrame({"outcome": pd.Series(dtype=object)})
        tasks = catalog.map_partitions(task, include_pixel=True, meta=meta).to_delayed()
        for frame in _computed(tasks):
            results, lost = frame["outcome"].iloc[0]
            drops.update(lost)
            yield from results

    def _opened(self, path: str, columns: Sequence[str], needed: Sequence[str], *, margin: bool = False) -> Any:
        """Return an LSDB catalogue with some columns; of the wanted cells, or whole where its margin is asked for."""
        lsdb = optional_module("lsdb")
        described = _described(optional_module("hats"), path, needed)
        cells = [] if margin else [(CELL_ORDER, cell) for cell in self.data.cells]
        try:
            return lsdb.open_catalog(
                path if margin else described.catalog_base_dir,
                columns=list(columns),
                margin_cache=(self.data.hats.margin or None) if margin else None,
                search_filter=lsdb.PixelSearch(cells) if cells else None,
            )
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{path} cannot be opened as a HATS catalogue with its margin: {error}") from error
        except ValueError as error:
            if "no coverage" not in str(error):
                raise
            named = ", ".join(map(str, self.data.cells))
            raise FileNotFoundError(f"none of data.cells {named} is in the HATS catalogue {path}") from error


def _described(hats: Any, path: str, needed: Sequence[str]) -> Any:
    """Return the description of a HATS catalogue, or of the main catalogue of a collection.

    Raises
    ------
    FileNotFoundError
        Where there is none.
    ValueError
        Where it lacks a column.
    """
    try:
        found = hats.read_hats(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f"{path} is no HATS catalogue or collection: {error}") from error
    main = getattr(found, "main_catalog", found)
    if main.schema is None:
        raise ValueError(f"the HATS catalogue {path} has no dataset/_common_metadata, which tells its columns")
    for column in needed:
        if column not in main.schema.names:
            raise ValueError(f"the HATS catalogue {path} has no column {column}; it has {', '.join(main.schema.names)}")
    return main


def _partition_files(catalog: Any) -> dict[tuple[int, int], str]:
    """Return the Parquet file of every partition by HEALPix order and pixel, in the order of the catalogue."""
    hats_io = optional_module("hats.io")
    base, suffix = catalog.hc_structure.catalog_base_dir, catalog.hc_structure.catalog_info.npix_suffix
    return {
        (pixel.order, pixel.pixel): str(hats_io.pixel_catalog_file(base, pixel, None, suffix))
        for pixel in catalog.get_ordered_healpix_pixels()
    }


def _positions(frame: Any, pixel: Any, healpix_order: int) -> pd.DataFrame:
    """Return id, position, cell and place of the rows of one partition; runs on Dask."""
    columns: dict[str, Any] = {
        "object_id": pd.array([plain_text(value) for value in frame["object_id"]], dtype="string[pyarrow]"),
        "ra_deg": frame["ra"].to_numpy(dtype=np.float64, na_value=np.nan),
        "dec_deg": frame["dec"].to_numpy(dtype=np.float64, na_value=np.nan),
        "healpix": np.asarray(frame.index, dtype=np.int64) >> (2 * (healpix_order - CELL_ORDER)),
        "row": np.arange(len(frame), dtype=np.int64),
        "order": np.full(len(frame), pixel.order, dtype=np.int64),
        "pixel": np.full(len(frame), pixel.pixel, dtype=np.int64),
    }
    if "Z" in frame.columns:
        columns["redshift"] = frame["Z"].to_numpy(dtype=np.float64, na_value=np.nan)
    return pd.DataFrame(columns)


def _kept(
    positions: pd.DataFrame, instrument: str, config: DataConfig, drops: Counter[str]
) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """Return the numbers and ids of the usable rows, every id once; the others are counted in ``drops``."""
    on_sphere = np.isfinite(positions["ra_deg"].to_numpy()) & (np.abs(positions["dec_deg"].to_numpy()) <= 90)
    reasons = [(~on_sphere, "position is not finite or off the sphere")]
    if "redshift" in positions:
        redshift = positions["redshift"].to_numpy()
        outside = (redshift < config.redshift_min) | (redshift > config.redshift_max)
        limits = f"data.redshift_min {config.redshift_min} to data.redshift_max {config.redshift_max}"
        reasons += [(~np.isfinite(redshift), "redshift is not finite"), (outside, f"redshift is outside {limits}")]
    kept = np.ones(len(positions), dtype=bool)
    if config.cells:
        kept = np.isin(positions["healpix"].to_numpy(), config.cells)
    for rows, reason in reasons:
        if count := int((kept & rows).sum()):
            drops[f"{instrument}: {reason}"] += count
            kept &= ~rows
    numbers = np.flatnonzero(kept)
    object_id = positions["object_id"].to_numpy()[numbers].astype(np.str_)
    first = np.sort(np.unique(object_id, return_index=True)[1])
    if repeated := len(numbers) - len(first):
        drops[f"{instrument}: object_id seen before"] += repeated
    return numbers[first], object_id[first]


def _catalog(catalog: Any, instrument: str, config: DataConfig, drops: Counter[str]) -> Catalog:
    files = _partition_files(catalog)
    order = catalog.hc_structure.catalog_info.healpix_order
    mapped = catalog.map_partitions(_positions, include_pixel=True, healpix_order=order)
    positions = mapped.compute(progress_bar=False)
    lost: Counter[str] = Counter()
    numbers, object_id = _kept(positions, instrument, config, lost)
    drops.update(lost)
    if not len(numbers):
        told = "; ".join(f"{reason} ({count})" for reason, count in lost.items()) or "it is empty"
        raise ValueError(f"no {instrument} object of {catalog.hc_structure.catalog_base_dir} can be used: {told}")
    kept = positions.iloc[numbers]
    # HEALPix pixels of all orders under one number, as in the NUNIQ scheme.
    file_key = np.array([(4 << (2 * order)) + pixel for order, pixel in files], dtype=np.int64)
    row_key = (np.int64(4) << (2 * kept["order"].to_numpy())) + kept["pixel"].to_numpy()
    by_key = np.argsort(file_key)
    return Catalog(
        object_id=object_id,
        ra_deg=kept["ra_deg"].to_numpy(),
        dec_deg=kept["dec_deg"].to_numpy(),
        healpix=kept["healpix"].to_numpy(),
        file_index=by_key[np.searchsorted(file_key[by_key], row_key)].astype(np.int32),
        row=kept["row"].to_numpy(),
        files=tuple(files.values()),
    )


@dataclass(frozen=True, slots=True)
class _Columns:
    """What is read of a partition: survey name, column names and how many rows at once."""

    instrument: str
    names: tuple[str, ...]
    rows_at_once: int


def _records(
    path: str,
    rows: NDArray[np.int64],
    columns: _Columns,
    from_row: Callable[[pa.RecordBatch, int], Record],
    drops: Counter[str],
) -> Iterator[tuple[int, Record]]:
    """Yield (row, record) of the wanted rows of a partition; rows and files that cannot be used are counted."""
    wanted = np.unique(np.asarray(rows, dtype=np.int64))
    done = 0
    try:
        for row, batch, place in _wanted_rows(path, wanted, columns):
            done += 1
            try:
                record = from_row(batch, place)
            except ValueError as error:
                drops[f"{columns.instrument}: {error}"] += 1
                _LOGGER.info("%s row %d dropped: %s", path, row, error)
                continue
            yield row, record
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = f"{columns.instrument}: file {'/'.join(path.split('/')[-4:])} is left out, {error}"
        _LOGGER.warning(reason)
        drops[reason] += len(wanted) - done


def _wanted_rows(path: str, wanted: NDArray[np.int64], columns: _Columns) -> Iterator[tuple[int, pa.RecordBatch, int]]:
    """Yield (row, batch, place in the batch); row groups without a wanted row are not read."""
    start = 0
    for part in _parquet_files(path):
        with part.open("rb") as opened:
            file = pq.ParquetFile(opened, buffer_size=STREAM_BYTES, pre_buffer=False)
            present = [name for name in columns.names if name in file.schema_arrow.names]
            for group in range(file.num_row_groups):
                end = start + file.metadata.row_group(group).num_rows
                if np.searchsorted(wanted, start) < np.searchsorted(wanted, end):
                    batches = file.iter_batches(columns.rows_at_once, row_groups=[group], columns=present)
                    for batch in batches:
                        low, high = np.searchsorted(wanted, [start, start + batch.num_rows])
                        for row in wanted[low:high].tolist():
                            yield row, batch, row - start
                        start += batch.num_rows
                start = end


def _parquet_files(path: str) -> list[Any]:
    """Return the file of a partition, or the files where a partition is a folder, in the order LSDB reads them."""
    upath = optional_module("upath").UPath(path)
    return sorted(upath.glob("*.parquet")) if path.endswith("/") or upath.is_dir() else [upath]


@dataclass(frozen=True, slots=True)
class _PartitionTask:
    """Applies a function to the spectra of one partition, on the worker that Dask chose."""

    reader: HatsReader
    function: Callable[[list[Spectrum]], Any]
    batch_spectra: int
    files: Mapping[tuple[int, int], str]
    healpix_order: int

    def __call__(self, frame: Any, pixel: Any) -> pd.DataFrame:
        """Return a frame of one row that holds the results and what was lost."""
        drops: Counter[str] = Counter()
        kept, _ = _kept(_positions(frame, pixel, self.healpix_order), "sdss", self.reader.data, drops)
        path = self.files[pixel.order, pixel.pixel]
        results = []
        batch: list[Spectrum] = []
        for _, spectrum in self.reader.read_spectra(path, kept, drops):
            batch.append(spectrum)
            if len(batch) == self.batch_spectra:
                results.append(self.function(batch))
                batch = []
        if batch:
            results.append(self.function(batch))
        return pd.DataFrame({"outcome": pd.Series([(results, drops)], dtype=object)})


def _computed(tasks: Sequence[Any]) -> Iterator[Any]:
    """Yield the results of Dask tasks in order, a bounded number of them under way."""
    distributed = optional_module("distributed")
    try:
        client = distributed.default_client()
    except ValueError:  # no cluster: one after the other, here
        yield from (task.compute(scheduler="synchronous") for task in tasks)
        return
    at_once = TASKS_PER_WORKER * max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
    under_way: deque[Any] = deque()
    for task in tasks:
        under_way.append(client.compute(task))
        if len(under_way) >= at_once:
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()

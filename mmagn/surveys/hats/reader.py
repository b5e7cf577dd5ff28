"""HATS catalogues through LSDB on Dask: who is in which partition, and the pixels of chosen rows of one.

A partition is one HEALPix pixel and one Parquet file. Coordinates come through LSDB, partition by partition on Dask;
pixels come straight from the row groups of the partition's file that hold wanted rows, a few rows at a time. Every
catalogue is opened with the columns that are needed and no others.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmagn.records import CELL_NSIDE, Catalog, Cutout, Spectrum
from mmagn.surveys.config import DataConfig
from mmagn.surveys.hats import rows as hats_rows
from mmagn.surveys.hats.dask_client import computed, optional_module
from mmagn.surveys.hats.partitions import PartitionColumns, arrays_as_lists, partition_records
from mmagn.surveys.reader import SourceFile, reading_settings, usable
from mmagn.surveys.text import plain_text

Result = TypeVar("Result")

CELL_ORDER = CELL_NSIDE.bit_length() - 1
CUTOUTS_AT_ONCE = 16
SPECTRA_AT_ONCE = 256
HUB_BLOCK_BYTES = 1 << 18
BATCH_SPECTRA = 512
"""Spectra that a function of ``mapped_spectra`` is given at once."""


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
        for path, needed in ((self.sdss_path, hats_rows.NEEDED_SDSS_COLUMNS), (self.hsc_path, ())):
            base = _described(hats, path, needed).catalog_base_dir
            content = (base / "hats.properties").read_bytes()
            version = sha256(content).hexdigest()
            found.append(SourceFile(name=f"{base.name}/hats.properties", size_bytes=len(content), version=version))
        return tuple(found)

    @property
    def sdss_path(self) -> str:
        """Where the SDSS catalogue is, as any process finds it."""
        return _anywhere(self.data.hats.sdss)

    @property
    def hsc_path(self) -> str:
        """Where the HSC catalogue is, as any process finds it."""
        return _anywhere(self.data.hats.hsc)

    def open_sdss(self) -> Any:
        """Return the LSDB catalogue of SDSS ids, positions and redshifts."""
        return self._opened(self.sdss_path, (*hats_rows.POSITION_COLUMNS, "Z"), hats_rows.NEEDED_SDSS_COLUMNS)

    def open_hsc(self, *, margin: bool = False) -> Any:
        """Return the LSDB catalogue of HSC ids and positions, with ``margin`` of all cells and with its margin."""
        columns, needed = hats_rows.POSITION_COLUMNS, hats_rows.NEEDED_HSC_COLUMNS
        return self._opened(self.hsc_path, columns, needed, margin=margin)

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

    def read_spectra(self, path: str, rows: NDArray[np.int64]) -> Iterator[tuple[int, Spectrum | str]]:
        """Yield (row, spectrum or reason) of the wanted rows of one partition, a few rows at a time in memory."""
        from_row = partial(hats_rows.spectrum_from_hats, survey=self.data.hats.sdss_survey)
        columns = PartitionColumns("sdss", hats_rows.SDSS_COLUMNS, SPECTRA_AT_ONCE)
        return partition_records(path, rows, columns, from_row)

    def read_cutouts(self, path: str, rows: NDArray[np.int64]) -> Iterator[tuple[int, Cutout | str]]:
        """Yield (row, cutout or reason) of the wanted rows of one partition, a few rows at a time in memory."""
        columns = PartitionColumns("hsc", hats_rows.HSC_COLUMNS, CUTOUTS_AT_ONCE)
        return partition_records(path, rows, columns, hats_rows.cutout_from_hats)

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
        for frame in computed(tasks):
            results, lost = frame["outcome"].iloc[0]
            drops.update(lost)
            yield from results

    def _opened(self, path: str, columns: Sequence[str], needed: Sequence[str], *, margin: bool = False) -> Any:
        """Return an LSDB catalogue with some columns; of the wanted cells, or whole where its margin is asked for."""
        lsdb = optional_module("lsdb")
        described = _described(optional_module("hats"), path, needed)
        cells = [] if margin else [(CELL_ORDER, cell) for cell in self.data.cells]
        try:
            with arrays_as_lists():
                return lsdb.open_catalog(
                    path if margin else str(described.catalog_base_dir),
                    columns=list(columns),
                    margin_cache=_margin_place(self.data.hats.margin) if margin else None,
                    search_filter=lsdb.PixelSearch(cells) if cells else None,
                    storage_options=_storage_options(path),
                )
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{path} cannot be opened as a HATS catalogue with its margin: {error}") from error
        except ValueError as error:
            if "no coverage" not in str(error):
                raise
            named = ", ".join(map(str, self.data.cells))
            raise FileNotFoundError(f"none of data.cells {named} is in the HATS catalogue {path}") from error


def _anywhere(path: str) -> str:
    """Return a path that does not depend on the folder a process works in; a URL stays as it is."""
    return path if "://" in path else str(Path(path).expanduser().resolve())


def _storage_options(path: str) -> dict[str, int] | None:
    """Return how a hub is read: its files come in blocks of 5 MB otherwise, and coordinates take far less."""
    return {"block_size": HUB_BLOCK_BYTES} if path.startswith("hf://") else None


def _margin_place(margin: str) -> str | None:
    """Return what LSDB takes for a margin: a name in the collection, a path, or None for the collection's default."""
    return (_anywhere(margin) if "/" in margin else margin) or None


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
        found = hats.read_hats(path, storage_options=_storage_options(path))
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
        for _, spectrum in usable(self.reader.read_spectra(path, kept), drops):
            batch.append(spectrum)
            if len(batch) == self.batch_spectra:
                results.append(self.function(batch))
                batch = []
        if batch:
            results.append(self.function(batch))
        return pd.DataFrame({"outcome": pd.Series([(results, drops)], dtype=object)})

"""The surveys as HATS catalogues: positions through LSDB on Dask, pixels from the row groups of the partitions.

A partition is one HEALPix pixel and one Parquet file.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmagn.records import Catalog, Cutout, Spectrum
from mmagn.surveys.config import DESI, DataConfig
from mmagn.surveys.hats.catalogs import CELL_ORDER, absolute, described_hats, open_hats, partition_paths, readable
from mmagn.surveys.hats.dask_client import computed
from mmagn.surveys.hub.files import HubParquet
from mmagn.surveys.parquet.row_groups import LocalParquet, ParquetFile, Payload, parquet_records
from mmagn.surveys.parquet.rows import HSC_NEEDED, POSITION_COLUMNS, SPECTRA_NEEDED, cutouts_payload, spectra_payload
from mmagn.surveys.reader import Record, SourceFile, check_surveys, reading_settings, usable
from mmagn.surveys.screen import id_texts, joined_catalogs, screened_catalog, usable_objects

Result = TypeVar("Result")

BATCH_SPECTRA = 512
"""Spectra that a function of ``mapped_spectra`` is given at once."""


@dataclass(frozen=True, kw_only=True)
class HatsReader:
    """Spectra and images as HATS catalogues, with ``data.source`` hats; see ``reader.SurveyReader``."""

    data: DataConfig

    def __post_init__(self) -> None:
        present, hint = (self.data.hats.sdss_survey, DESI), "; data.hats.sdss_survey names the first"
        check_surveys(self.data, present, "data.source hats", hint)

    def settings(self) -> dict[str, Any]:
        """Return the settings that shape what is read, by dotted name; ``sources`` describes the catalogues."""
        return reading_settings(self.data) | {"data.spectra": list(self.spectra_paths)}

    def sources(self) -> tuple[SourceFile, ...]:
        """Return the description of each catalogue, which changes whenever it is written anew."""
        files = []
        spectra = [(path, SPECTRA_NEEDED) for path in self.spectra_paths.values()]
        for path, needed in (*spectra, (self.hsc_path, {})):
            base = described_hats(path, needed).catalog_base_dir
            with readable(path):
                content = (base / "hats.properties").read_bytes()
            version = sha256(content).hexdigest()
            files.append(SourceFile(name=f"{base.name}/hats.properties", size_bytes=len(content), version=version))
        return tuple(files)

    @property
    def spectra_paths(self) -> dict[str, str]:
        """Path of the catalogue of each survey of spectra that is read, the same in any process."""
        paths = {self.data.hats.sdss_survey: self.data.hats.sdss, DESI: self.data.hats.desi}
        return {survey: absolute(path) for survey, path in paths.items() if survey in self.data.spectra}

    @property
    def hsc_path(self) -> str:
        """Path of the HSC catalogue, the same in any process."""
        return absolute(self.data.hats.hsc)

    def open_spectra(self, survey: str) -> Any:
        """Return the LSDB catalogue of ids, positions and redshifts of a survey of spectra."""
        return open_hats(self.spectra_paths[survey], (*POSITION_COLUMNS, "Z"), SPECTRA_NEEDED, self.data)

    def open_hsc(self, *, margin: bool = False) -> Any:
        """Return the LSDB catalogue of HSC ids and positions, with ``margin`` of all cells and with its margin."""
        return open_hats(self.hsc_path, POSITION_COLUMNS, HSC_NEEDED, self.data, margin=margin)

    def read_sdss_catalog(self, drops: Counter[str]) -> Catalog:
        """Return ids and positions of all spectra, every id once, gathered partition by partition."""
        parts = [
            _catalog(self.open_spectra(survey), _kind(survey), path, self.data, drops)
            for survey, path in self.spectra_paths.items()
        ]
        return joined_catalogs(parts, drops)

    def read_hsc_catalog(self, drops: Counter[str]) -> Catalog:
        """Return ids and positions of HSC, every id once, gathered partition by partition."""
        return _catalog(self.open_hsc(), "hsc", self.hsc_path, self.data, drops)

    def read_spectra(self, path: str, rows: NDArray[np.int64]) -> Iterator[tuple[int, Spectrum | str]]:
        """Yield (row, spectrum or reason) of the wanted rows of one partition, a few rows at a time in memory."""
        paths = self.spectra_paths
        survey = next((name for name in paths if path.startswith(f"{paths[name].rstrip('/')}/")), next(iter(paths)))
        return self._records(path, rows, spectra_payload(survey))

    def read_cutouts(self, path: str, rows: NDArray[np.int64]) -> Iterator[tuple[int, Cutout | str]]:
        """Yield (row, cutout or reason) of the wanted rows of one partition, a few rows at a time in memory."""
        return self._records(path, rows, cutouts_payload(noise=self.data.image_noise))

    def _records(
        self, path: str, rows: NDArray[np.int64], payload: Payload[Record]
    ) -> Iterator[tuple[int, Record | str]]:
        if path.startswith("hf://"):
            file: ParquetFile = HubParquet(path.removeprefix("hf://"), None, self.data.hub)
        else:
            file = LocalParquet(path)
        return parquet_records(file, rows, payload)

    def mapped_spectra(
        self, function: Callable[[list[Spectrum]], Result], drops: Counter[str], batch_spectra: int = BATCH_SPECTRA
    ) -> Iterator[Result]:
        """Yield what a function returns for the spectra of each partition, computed on Dask where the partition is.

        The function is called with at most ``batch_spectra`` spectra of one partition; it and its result are sent
        between processes. Results come in the order of ``iter_spectra``; a few partitions are in progress at a time, so
        a slow reader of the results holds the cluster back instead of filling the memory. Objects dropped are counted
        in ``drops``.
        """
        for survey, path in self.spectra_paths.items():
            catalog = self.open_spectra(survey)
            order = catalog.hc_structure.catalog_info.healpix_order
            task = _PartitionTask(self, _kind(survey), function, batch_spectra, partition_paths(catalog), order)
            meta = pd.DataFrame({"outcome": pd.Series(dtype=object)})
            tasks = catalog.map_partitions(task, include_pixel=True, meta=meta).to_delayed()
            with readable(path):
                for frame in computed(tasks):
                    results, lost = frame["outcome"].iloc[0]
                    drops.update(lost)
                    yield from results


def _kind(survey: str) -> str:
    """Return ``sdss`` or ``desi``, as reasons name a survey of spectra."""
    return DESI if survey == DESI else "sdss"


def _positions(frame: Any, pixel: Any, healpix_order: int) -> pd.DataFrame:
    """Return id, position, cell and place of the rows of one partition; runs on Dask."""
    columns: dict[str, Any] = {
        "object_id": pd.array(id_texts(frame["object_id"].to_numpy()), dtype="string[pyarrow]"),
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


def _stored_catalog(positions: pd.DataFrame, files: Mapping[tuple[int, int], str]) -> Catalog:
    """Return positions as a catalogue; ``files`` are paths by HEALPix order and pixel."""
    # HEALPix pixels of all orders under one number, as in the NUNIQ scheme.
    file_key = np.array([(4 << (2 * order)) + pixel for order, pixel in files], dtype=np.int64)
    row_key = (np.int64(4) << (2 * positions["order"].to_numpy())) + positions["pixel"].to_numpy()
    by_key = np.argsort(file_key)
    return Catalog(
        object_id=positions["object_id"].to_numpy().astype(np.str_),
        ra_deg=positions["ra_deg"].to_numpy(),
        dec_deg=positions["dec_deg"].to_numpy(),
        healpix=positions["healpix"].to_numpy(),
        file_index=by_key[np.searchsorted(file_key[by_key], row_key)].astype(np.int32),
        row=positions["row"].to_numpy(),
        redshift=positions["redshift"].to_numpy() if "redshift" in positions else None,
        files=tuple(files.values()),
    )


def _catalog(catalog: Any, survey: str, path: str, data: DataConfig, drops: Counter[str]) -> Catalog:
    files = partition_paths(catalog)
    order = catalog.hc_structure.catalog_info.healpix_order
    mapped = catalog.map_partitions(_positions, include_pixel=True, healpix_order=order)
    with readable(path):
        positions = mapped.compute(progress_bar=False)
    return screened_catalog(survey, path, _stored_catalog(positions, files), data, drops)


@dataclass(frozen=True, slots=True)
class _PartitionTask:
    """Applies a function to the spectra of one partition, on the worker that Dask chose."""

    reader: HatsReader
    kind: str
    function: Callable[[list[Spectrum]], Any]
    batch_spectra: int
    files: Mapping[tuple[int, int], str]
    healpix_order: int

    def __call__(self, frame: Any, pixel: Any) -> pd.DataFrame:
        """Return a frame of one row that holds the results and what was lost."""
        drops: Counter[str] = Counter()
        key = (pixel.order, pixel.pixel)
        path = self.files[key]
        stored = _stored_catalog(_positions(frame, pixel, self.healpix_order), {key: path})
        kept = usable_objects(self.kind, stored, self.reader.data, drops).row
        spectra = (spectrum for _, spectrum in usable(self.reader.read_spectra(path, kept), drops))
        results = []
        while batch := list(islice(spectra, self.batch_spectra)):
            results.append(self.function(batch))
        return pd.DataFrame({"outcome": pd.Series([(results, drops)], dtype=object)})

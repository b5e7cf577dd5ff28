"""Files of a Multimodal Universe v1 tree: their columns checked, their index, and the records of chosen rows."""

import importlib.util
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import h5py
import numpy as np
from numpy.typing import NDArray

from mmagn.records import Catalog, Cutout, Spectrum
from mmagn.surveys import desi, hsc, sdss
from mmagn.surveys.config import DataConfig
from mmagn.surveys.damage import DAMAGE, UnavailableError, damage_text
from mmagn.surveys.hdf5.chunks import BLOCK_BYTES, wanted_rows
from mmagn.surveys.hdf5.tree import SurveyFile
from mmagn.surveys.reader import Record, row_records
from mmagn.surveys.screen import (
    PIXEL_COLUMNS,
    Column,
    Stored,
    check_columns,
    check_mask,
    file_name,
    id_texts,
    joined,
    nothing_usable,
    screened_catalog,
)
from mmagn.workers import available_cores

MAX_THREADS = 8
PLAIN_BYTES = 2**29
"""Most bytes that the columns without pixels of one file may take in memory."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey(Generic[Record]):
    """How the files of one survey are read.

    Attributes
    ----------
    name
        ``sdss``, ``desi`` or ``hsc``.
    columns, pixel_columns
        What a record is made from, and which of that is read row by row.
    from_row
        Record of a row of the survey that its folder names.
    plain_columns
        The other columns of a file as ``from_row`` takes them.
    """

    name: str
    columns: Mapping[str, Column]
    pixel_columns: tuple[str, ...]
    from_row: Callable[[Mapping[str, Any], str], Record]
    plain_columns: Callable[[dict[str, NDArray[Any]], str], dict[str, NDArray[Any]]] = lambda columns, _: columns


SDSS: Survey[Spectrum] = Survey(
    name="sdss",
    columns=sdss.COLUMNS,
    pixel_columns=PIXEL_COLUMNS,
    from_row=lambda row, folder: sdss.spectrum_from_row(row, survey=folder),
)
DESI: Survey[Spectrum] = Survey(
    name="desi",
    columns=desi.COLUMNS,
    pixel_columns=PIXEL_COLUMNS,
    from_row=lambda row, _: desi.spectrum_from_row(row),
    plain_columns=desi.with_warnings,
)
SPECTRA = (SDSS, DESI)
HSC: Survey[Cutout] = Survey(
    name="hsc",
    columns=hsc.COLUMNS,
    pixel_columns=hsc.PIXEL_COLUMNS,
    from_row=lambda row, _: hsc.cutout_from_row(row),
)


def read_catalog(survey: Survey[Record], files: Sequence[SurveyFile], data: DataConfig, drops: Counter[str]) -> Catalog:
    """Return ids and positions of some files of a survey, every id once, without reading any pixel.

    Objects dropped and files left out are added to ``drops`` by reason. Raises ``ValueError`` where no object is left;
    the sentence gives the reasons. Raises ``OSError`` where a file cannot be read now.
    """
    parts: list[Catalog] = []
    lost: Counter[str] = Counter()
    for file in files:
        try:
            with _opened(file.path, survey) as opened:
                parts.append(_stored_catalog(survey, opened, file, lost))
        except DAMAGE as error:
            reason = f"{survey.name}: file {file_name(str(file.path))} is left out, {damage_text(error)}"
            _log.warning(reason)
            lost[reason] += 1
    place = str(files[0].path.parents[1])
    try:
        if not parts:
            raise ValueError(nothing_usable(survey.name, place, lost))
        return screened_catalog(survey.name, place, joined(parts), data, lost)
    finally:
        drops.update(lost)


def read_records(survey: Survey[Record], path: str, rows: NDArray[np.int64]) -> Iterator[tuple[int, Record | str]]:
    """Yield (row, record, or the reason why there is none) of each wanted row, ascending, each chunk inflated once."""
    wanted = np.unique(np.asarray(rows, dtype=np.int64))
    folder = Path(path).parent.parent.name
    return row_records(
        survey.name, path, wanted, _raw_rows(survey, path, wanted), lambda row: survey.from_row(row, folder)
    )


def _raw_rows(survey: Survey[Record], path: str, wanted: NDArray[np.int64]) -> Iterator[dict[str, Any]]:
    """Yield the values of the wanted rows by column, all columns with pixels side by side."""
    with _opened(Path(path), survey) as file, ThreadPoolExecutor(min(MAX_THREADS, available_cores())) as pool:
        names = [name for name in survey.columns if name in file and name not in survey.pixel_columns]
        plain = survey.plain_columns({name: file[name][:] for name in names}, path)
        streams = [wanted_rows(file[name], wanted, pool) for name in survey.pixel_columns]
        for row, pixels in zip(wanted.tolist(), zip(*streams, strict=True), strict=True):
            yield {name: values[row] for name, values in plain.items()} | dict(
                zip(survey.pixel_columns, pixels, strict=True)
            )


def _stored_catalog(survey: Survey[Record], file: h5py.File, place: SurveyFile, lost: Counter[str]) -> Catalog:
    """Return the catalogue of one file, for HSC without the rows of another order of bands, which are counted."""
    rows = np.arange(len(file["object_id"]))
    if "image_band" in survey.columns:
        orders, order_of_row = np.unique(file["image_band"].asstr()[:].astype(np.str_), axis=0, return_inverse=True)
        for order, names in enumerate(orders):
            try:
                hsc.check_bands(names)
            except ValueError as error:
                wrong = np.flatnonzero(order_of_row.reshape(-1) == order)
                rows = np.setdiff1d(rows, wrong)
                lost[f"{survey.name}: {error}"] += len(wrong)
    return Catalog(
        object_id=id_texts(file["object_id"][:])[rows],
        ra_deg=file["ra"][:][rows].astype(np.float64),
        dec_deg=file["dec"][:][rows].astype(np.float64),
        healpix=np.full(len(rows), place.cell, dtype=np.int64),
        file_index=np.zeros(len(rows), dtype=np.int32),
        row=rows.astype(np.int64),
        redshift=file["Z"][:][rows].astype(np.float64) if "Z" in survey.columns else None,
        files=(str(place.path),),
    )


@contextmanager
def _opened(path: Path, survey: Survey[Record]) -> Iterator[h5py.File]:
    """Open a file of the tree and check its columns."""
    with h5py.File(path, "r") as file:
        present = {name: file[name] for name in survey.columns if name in file}
        for name, column in present.items():
            if not isinstance(column, h5py.Dataset):
                raise ValueError(f"its column {name} is no dataset")
        check_columns({name: Stored(column.dtype, column.shape) for name, column in present.items()}, survey.columns)
        for name, column in present.items():
            _check_filters(name, column)
            if name not in survey.pixel_columns and (size := _plain_bytes(column)) > PLAIN_BYTES:
                raise ValueError(f"its column {name} takes {size / 1e9:.2g} GB; allowed: {PLAIN_BYTES / 1e9:.2g} GB")
            if survey.columns[name].kind == "mask" and column.dtype.kind != "b":
                _check_integer_mask(name, column)
        yield file


def _plain_bytes(column: h5py.Dataset) -> int:
    """Return the bytes of a column in memory, of values of variable length as far as within ``PLAIN_BYTES``."""
    size = int(column.nbytes)
    if column.dtype.kind != "O" or size > PLAIN_BYTES or not column.shape:
        return size
    # Any number of rows may refer to one long value in the file, so that they are read a few at a time.
    longest = max(1, Path(column.file.filename).stat().st_size) * math.prod(column.shape[1:])
    rows = max(1, PLAIN_BYTES // max(1, longest))
    for start in range(0, len(column), rows):
        for value in column[start : start + rows].flat:
            size += value.nbytes if isinstance(value, np.ndarray) else len(value) if isinstance(value, bytes) else 0
        if size > PLAIN_BYTES:
            break
    return size


def _check_filters(name: str, column: h5py.Dataset) -> None:
    """Raise UnavailableError where a column is compressed with a filter that HDF5 lacks here."""
    settings = column.id.get_create_plist()
    for number in range(settings.get_nfilters()):
        code, _, _, label = settings.get_filter(number)
        if h5py.h5z.filter_avail(code):
            continue
        if importlib.util.find_spec("hdf5plugin") is not None:
            importlib.import_module("hdf5plugin")  # registers its filters
            if h5py.h5z.filter_avail(code):
                continue
        raise UnavailableError(
            f"{column.file.filename}: its column {name} is compressed with the HDF5 filter {code} "
            f"({label.decode(errors='replace') or 'without a name'}), which is not installed; pip install hdf5plugin"
        )


def _check_integer_mask(name: str, column: h5py.Dataset) -> None:
    """Raise ValueError where a mask of integers holds anything but 0 and 1; rows in bounded memory."""
    rows = max(1, BLOCK_BYTES // max(1, column.dtype.itemsize * math.prod(column.shape[1:])))
    for start in range(0, len(column), rows):
        check_mask(f"its column {name}", column[start : start + rows])

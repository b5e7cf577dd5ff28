"""The Multimodal Universe v1 tree: who is in which file, and the pixels of chosen rows."""

import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from mmagn.records import Catalog, Cutout, Spectrum
from mmagn.surveys import hsc, sdss
from mmagn.surveys.config import DataConfig
from mmagn.surveys.hdf5.chunks import wanted_rows
from mmagn.surveys.hdf5.tree import SurveyFile, hsc_files, sdss_files
from mmagn.surveys.text import plain_text

Record = TypeVar("Record", Cutout, Spectrum)
Reasons = tuple[NDArray[np.bool_], str]
"""Rows to drop, and why."""

_LOGGER = logging.getLogger(__name__)
MOST_THREADS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class _Instrument:
    """The columns of a survey's files: required ones with their purpose, optional ones, and those with pixels."""

    name: str
    required: Mapping[str, str]
    optional: tuple[str, ...]
    pixel: tuple[str, ...]


_SDSS = _Instrument(
    name="sdss", required=sdss.REQUIRED_COLUMNS, optional=sdss.OPTIONAL_COLUMNS, pixel=sdss.PIXEL_COLUMNS
)
_HSC = _Instrument(name="hsc", required=hsc.REQUIRED_COLUMNS, optional=hsc.OPTIONAL_COLUMNS, pixel=hsc.PIXEL_COLUMNS)


def survey_files(config: DataConfig) -> list[str]:
    """Return the path of every file of a tree that its catalogues read, SDSS first.

    Raises
    ------
    FileNotFoundError
        If the tree, a survey, or all of the cells wanted are missing.
    """
    return [str(file.path) for file in (*sdss_files(config), *hsc_files(config))]


def read_sdss_catalog(config: DataConfig, drops: Counter[str]) -> Catalog:
    """Return who is where in the SDSS surveys of a tree, without reading any spectrum.

    Parameters
    ----------
    config
        Which tree, surveys, cells and redshifts.
    drops
        Added to: objects dropped by reason (no redshift, redshift out of range, no position, id seen before), and
        files left out.

    Raises
    ------
    FileNotFoundError
        If there is no file to read.
    ValueError
        If no object is left; the sentence gives the reasons.
    """

    def unusable(file: h5py.File) -> list[Reasons]:
        redshift = file["Z"][:].astype(np.float64)
        outside = (redshift < config.redshift_min) | (redshift > config.redshift_max)
        limits = f"data.redshift_min {config.redshift_min} to data.redshift_max {config.redshift_max}"
        return [(~np.isfinite(redshift), "redshift is not finite"), (outside, f"redshift is outside {limits}")]

    return _catalog(_SDSS, sdss_files(config), unusable, drops)


def read_hsc_catalog(config: DataConfig, drops: Counter[str]) -> Catalog:
    """Return who is where in the HSC survey of a tree, without reading any image.

    Parameters
    ----------
    config
        Which tree, survey and cells.
    drops
        Added to: objects dropped by reason (wrong band order, no position, id seen before), and files left out.

    Raises
    ------
    FileNotFoundError
        If there is no file to read.
    ValueError
        If no object is left; the sentence gives the reasons.
    """

    def unusable(file: h5py.File) -> list[Reasons]:
        orders, which = np.unique(file["image_band"].asstr()[:].astype(np.str_), axis=0, return_inverse=True)
        reasons: list[Reasons] = []
        for number, names in enumerate(orders):
            try:
                hsc.checked_bands(names)
            except ValueError as error:
                reasons.append((which.reshape(-1) == number, str(error)))
        return reasons

    return _catalog(_HSC, hsc_files(config), unusable, drops)


def iter_spectra(config: DataConfig, drops: Counter[str]) -> Iterator[Spectrum]:
    """Yield every usable spectrum of a tree, file by file, each object once.

    Parameters
    ----------
    config
        Which tree, surveys, cells and redshifts.
    drops
        Added to: objects dropped by reason, and files left out.

    Raises
    ------
    FileNotFoundError, ValueError
        As ``read_sdss_catalog``.
    """
    catalog = read_sdss_catalog(config, drops)
    for index, path in enumerate(catalog.files):
        for _, spectrum in read_spectra(path, catalog.row[catalog.file_index == index], drops):
            yield spectrum


def read_spectra(path: str, rows: NDArray[np.int64], drops: Counter[str]) -> Iterator[tuple[int, Spectrum]]:
    """Yield (row, spectrum) of the wanted rows of one SDSS file, in ascending order.

    Parameters
    ----------
    path
        A file of the tree; the survey is the folder above its cell.
    rows
        (wanted,) rows in any order.
    drops
        Added to: rows that are no usable spectrum, by reason, and all rows left where the file ends early.
    """
    survey = Path(path).parent.parent.name
    return _records(_SDSS, path, rows, lambda row: sdss.spectrum_from_row(row, survey=survey), drops)


def read_cutouts(path: str, rows: NDArray[np.int64], drops: Counter[str]) -> Iterator[tuple[int, Cutout]]:
    """Yield (row, cutout) of the wanted rows of one HSC file, in ascending order, each chunk inflated once.

    Parameters
    ----------
    path
        A file of the tree.
    rows
        (wanted,) rows in any order.
    drops
        Added to: rows that are no usable image, by reason, and all rows left where the file is damaged.
    """
    return _records(_HSC, path, rows, hsc.cutout_from_row, drops)


def _catalog(
    instrument: _Instrument,
    files: Sequence[SurveyFile],
    unusable: Callable[[h5py.File], list[Reasons]],
    drops: Counter[str],
) -> Catalog:
    """Return the catalogue of some files: every id once, the first kept, without the rows that are unusable."""
    parts: list[dict[str, NDArray[Any]]] = []
    paths: list[str] = []
    lost: Counter[str] = Counter()
    for file in files:
        try:
            with _opened(file.path, instrument) as opened:
                part, reasons = _catalog_part(opened, unusable)
        except (OSError, ValueError) as error:
            lost[_file_loss(instrument, file.path, error)] += 1
            continue
        lost.update({f"{instrument.name}: {reason}": count for reason, count in reasons.items()})
        part["file_index"] = np.full(len(part["row"]), len(paths), dtype=np.int32)
        part["healpix"] = np.full(len(part["row"]), file.cell, dtype=np.int64)
        parts.append(part)
        paths.append(str(file.path))
    drops.update(lost)
    if not any(len(part["row"]) for part in parts):
        told = "; ".join(f"{reason} ({count})" for reason, count in lost.items()) or "the files are empty"
        raise ValueError(f"no {instrument.name} object of {files[0].path.parents[1]} can be used: {told}")
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    first = np.sort(np.unique(joined["object_id"], return_index=True)[1])
    if repeated := len(joined["object_id"]) - len(first):
        drops[f"{instrument.name}: object_id seen before"] += repeated
    unique = {name: values[first] for name, values in joined.items()}
    return Catalog(files=tuple(paths), **unique)


def _catalog_part(
    file: h5py.File, unusable: Callable[[h5py.File], list[Reasons]]
) -> tuple[dict[str, NDArray[Any]], Counter[str]]:
    """Return the columns of one file without its unusable rows, and how many those are by reason."""
    ra_deg, dec_deg = (file[name][:].astype(np.float64) for name in ("ra", "dec"))
    kept = np.ones(len(ra_deg), dtype=bool)
    lost: Counter[str] = Counter()
    on_sphere = np.isfinite(ra_deg) & (np.abs(dec_deg) <= 90)
    for rows, reason in [(~on_sphere, "position is not finite or off the sphere"), *unusable(file)]:
        if count := int((kept & rows).sum()):
            lost[reason] += count
            kept &= ~rows
    object_id = [plain_text(value) for value in file["object_id"][:][kept].tolist()]
    return {
        "object_id": np.array(object_id, dtype=np.str_),
        "ra_deg": ra_deg[kept],
        "dec_deg": dec_deg[kept],
        "row": np.flatnonzero(kept).astype(np.int64),
    }, lost


def _records(
    instrument: _Instrument,
    path: str,
    rows: NDArray[np.int64],
    from_row: Callable[[Mapping[str, Any]], Record],
    drops: Counter[str],
) -> Iterator[tuple[int, Record]]:
    """Yield (row, record) of the wanted rows in ascending order, all columns with pixels side by side."""
    wanted = np.unique(np.asarray(rows, dtype=np.int64))
    done = 0
    try:
        with _opened(Path(path), instrument) as file, ThreadPoolExecutor(_threads()) as pool:
            plain = {
                name: file[name][:]
                for name in (*instrument.required, *instrument.optional)
                if name in file and name not in instrument.pixel
            }
            streams = [wanted_rows(file[name], wanted, pool) for name in instrument.pixel]
            for row, pixels in zip(wanted.tolist(), zip(*streams, strict=True), strict=True):
                done += 1
                raw = {name: values[row] for name, values in plain.items()}
                try:
                    record = from_row({**raw, **dict(zip(instrument.pixel, pixels, strict=True))})
                except ValueError as error:
                    drops[f"{instrument.name}: {error}"] += 1
                    _LOGGER.info("%s row %d dropped: %s", path, row, error)
                    continue
                yield row, record
    except (OSError, ValueError) as error:
        drops[_file_loss(instrument, Path(path), error)] += len(wanted) - done


@contextmanager
def _opened(path: Path, instrument: _Instrument) -> Iterator[h5py.File]:
    """Open a file of the tree that has the required columns, all of one length.

    Raises
    ------
    ValueError
        If the file is truncated, lacks a column, or its columns differ in length.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        reason = re.search(r"\((.*)\)", str(error))
        raise ValueError(f"it cannot be opened ({reason.group(1) if reason else error})") from error
    with file:
        for column, purpose in instrument.required.items():
            if column not in file:
                raise ValueError(f"it has no column {column}, which is needed for the {purpose}")
            if len(file[column]) != len(file["object_id"]):
                raise ValueError(
                    f"it has {len(file[column])} rows of {column} but {len(file['object_id'])} of object_id"
                )
        yield file


def _file_loss(instrument: _Instrument, path: Path, error: Exception) -> str:
    """Return the reason under which a file, or what was left of it, is counted, and say it aloud."""
    reason = f"{instrument.name}: file {'/'.join(path.parts[-4:])} is left out, {error}"
    _LOGGER.warning(reason)
    return reason


def _threads() -> int:
    """Return how many threads inflate: one for every core this process may use, up to ``MOST_THREADS``."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_THREADS, cores)

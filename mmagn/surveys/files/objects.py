"""Which files belong to which galaxy: the rows of a table, or what a folder holds."""

import logging
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u

from mmagn.records import BANDS
from mmagn.storage.table_reading import column_numbers, read_table
from mmagn.surveys.files.fits_file import file_id
from mmagn.surveys.files.spectra import coadd_targets, companion, path_and_member
from mmagn.surveys.text import plain_text

IMAGE_COLUMNS = {"image": "", **{f"image_{band}": band for band in BANDS}}
"""Columns of image files, and the band that each has to hold; "" takes it from the file."""
COLUMNS = ("object_id", "ra", "dec", "redshift", "spectrum", *IMAGE_COLUMNS)
_UNITS = {"ra": u.deg, "dec": u.deg, "redshift": u.one}
_SPECTRUM_NAME = re.compile(r"spec-.*\.fits?(\.gz)?", re.IGNORECASE)
_COADD_NAME = re.compile(r"coadd-.*\.fits(\.gz)?", re.IGNORECASE)
_REDROCK_NAME = re.compile(r"redrock-.*\.fits(\.gz)?", re.IGNORECASE)
_IMAGE_NAME = re.compile(r"(.*cutout-HSC-)([grizy])2?(?![a-z0-9])(.*)\.fits?(\.gz)?", re.IGNORECASE)
_FITS_NAME = re.compile(r".*\.fits?(\.gz)?", re.IGNORECASE)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ObjectFiles:
    """The files of one galaxy, and what is stated of it beside them.

    Attributes
    ----------
    object_id
        "" where the files have to name it.
    name
        Takes the place of the name of the file where neither the table nor a file states an id; "" leaves that.
    ra_deg, dec_deg, redshift
        NaN where the files have to state them.
    spectrum
        Path, with ``#`` and a member where the file holds several; "" without a spectrum.
    images
        (band, path) of each image; the band is "" where the file has to state it.
    """

    object_id: str = ""
    name: str = ""
    ra_deg: float = float("nan")
    dec_deg: float = float("nan")
    redshift: float = float("nan")
    spectrum: str = ""
    images: tuple[tuple[str, str], ...] = ()

    @property
    def companions(self) -> tuple[str, ...]:
        """Paths of the files of redshifts that are read with the spectrum."""
        beside = companion(Path(path_and_member(self.spectrum)[0])) if self.spectrum else None
        return () if beside is None else (str(beside),)

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths of all files."""
        return (*([path_and_member(self.spectrum)[0]] if self.spectrum else []), *(path for _, path in self.images))


def object_files(place: Path) -> list[ObjectFiles]:
    """Return the galaxies of a table, a row each and in its order, or of a folder, each view by itself.

    Raises
    ------
    FileNotFoundError
        Where there is neither, or a file that the table names is missing.
    ValueError
        Where the table or a row of it names no file, a position or redshift is no number, or the folder holds no file
        of a known name.
    """
    if place.is_dir():
        return _in_folder(place)
    if not place.is_file():
        raise FileNotFoundError(f"data.table {place} is missing; allowed: a table or a folder")
    table = read_table(place)
    names = {name.lower(): name for name in table.colnames}
    if not {"spectrum", *IMAGE_COLUMNS} & names.keys():
        allowed = ", ".join(("spectrum", *IMAGE_COLUMNS))
        raise ValueError(f"{place} names no file: its columns are {', '.join(table.colnames)}; allowed: {allowed}")
    if unused := [name for name in names if name not in COLUMNS]:
        _log.info("%s: columns that are not used: %s", place, ", ".join(unused))
    try:
        numbers = {name: column_numbers(table[names[name]], unit) for name, unit in _UNITS.items() if name in names}
    except ValueError as error:
        raise ValueError(f"{place} {error}") from None
    rows = [
        _of_row(row, names, place, {name: float(values[number]) for name, values in numbers.items()})
        for number, row in enumerate(table)
    ]
    for number, row in enumerate(rows, start=1):
        if not row.paths:
            raise ValueError(f"{place} row {number} names no file; allowed: a spectrum, an image, or both")
        for path in row.paths:
            if not Path(path).is_file():
                raise FileNotFoundError(f"{place} row {number}: {path} is missing")
    return _told_apart(rows, place.parent)


def matching_files(pattern: Path | str) -> list[str]:
    """Return the files that a path or a pattern names, sorted.

    Raises
    ------
    FileNotFoundError
        Where there is none.
    """
    path = Path(pattern).expanduser()
    if path.is_file():
        return [str(path)]
    files = sorted(str(file) for file in path.parent.glob(path.name))
    if not files:
        raise FileNotFoundError(f"{pattern} is missing")
    return files


def _of_row(row: Any, names: dict[str, str], place: Path, numbers: dict[str, float]) -> ObjectFiles:
    def text(name: str) -> str:
        value = row[names[name]] if name in names else ""
        return "" if np.ma.is_masked(value) else plain_text(value)

    def path(name: str) -> str:
        stated = text(name)
        return str(place.parent / Path(stated).expanduser()) if stated else ""

    images = ((band, path(name)) for name, band in IMAGE_COLUMNS.items())
    return ObjectFiles(
        object_id=text("object_id"),
        ra_deg=numbers.get("ra", np.nan),
        dec_deg=numbers.get("dec", np.nan),
        redshift=numbers.get("redshift", np.nan),
        spectrum=path("spectrum"),
        images=tuple((band, image) for band, image in images if image),
    )


def _in_folder(folder: Path) -> list[ObjectFiles]:
    """Return the spectra and images of a folder by their names; images of the same name but for the band are one."""
    spectra: list[str] = []
    images: dict[str, list[tuple[str, str]]] = {}
    unknown: list[str] = []
    for path in sorted(path for path in folder.rglob("*") if _FITS_NAME.fullmatch(path.name)):
        image = _IMAGE_NAME.fullmatch(path.name)
        if image is not None:
            images.setdefault(str(path.parent / f"{image[1]}{image[3]}"), []).append((image[2].lower(), str(path)))
        elif _SPECTRUM_NAME.fullmatch(path.name):
            spectra.append(str(path))
        elif _COADD_NAME.fullmatch(path.name):
            spectra += [f"{path}#{target}" for target in coadd_targets(str(path))]
        elif not _REDROCK_NAME.fullmatch(path.name):
            unknown.append(path.name)
    if unknown:
        _log.warning("%s: %d files of unknown kind are left out: %s", folder, len(unknown), ", ".join(unknown[:10]))
    if not spectra and not images:
        raise ValueError(
            f"{folder} holds no file of a known name; allowed: spec-*.fits, coadd-*.fits, *cutout-HSC-*.fits"
        )
    rows = [
        *(ObjectFiles(spectrum=path) for path in spectra),
        *(ObjectFiles(images=tuple(of_object)) for of_object in images.values()),
    ]
    return _told_apart(rows, folder)


def _told_apart(rows: list[ObjectFiles], root: Path) -> list[ObjectFiles]:
    """Return rows with the path of their file below a folder as name where files of other rows are called alike."""
    alike = Counter(file_id(path) for path in {row.paths[0] for row in rows})

    def name(path: Path) -> str:
        below = path.relative_to(root) if path.is_relative_to(root) else path
        return below.with_name(file_id(path)).as_posix() if alike[file_id(path)] > 1 else ""

    return [replace(row, name=name(Path(row.paths[0]))) for row in rows]

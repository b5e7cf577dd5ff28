"""Which files belong to which galaxy: the rows of a table, or what a folder holds."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmagn.records import BANDS
from mmagn.storage.table_reading import read_table
from mmagn.surveys.files.spectra import coadd_targets
from mmagn.surveys.text import optional_number, plain_text

IMAGE_COLUMNS = {"image": "", **{f"image_{band}": band for band in BANDS}}
"""Columns of image files, and the band that each has to hold; "" takes it from the file."""
COLUMNS = ("object_id", "ra", "dec", "redshift", "spectrum", *IMAGE_COLUMNS)
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
    ra_deg, dec_deg, redshift
        NaN where the files have to state them.
    spectrum
        Path, with ``#`` and a member where the file holds several; "" without a spectrum.
    images
        (band, path) of each image; the band is "" where the file has to state it.
    """

    object_id: str = ""
    ra_deg: float = float("nan")
    dec_deg: float = float("nan")
    redshift: float = float("nan")
    spectrum: str = ""
    images: tuple[tuple[str, str], ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths of all files."""
        return (*([self.spectrum.partition("#")[0]] if self.spectrum else []), *(path for _, path in self.images))


def object_files(place: Path) -> list[ObjectFiles]:
    """Return the galaxies of a table, a row each and in its order, or of a folder, each view by itself.

    Raises
    ------
    FileNotFoundError
        Where there is neither, or a file that the table names is missing.
    ValueError
        Where the table names no file, or the folder holds none of a known name.
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
    rows = [_of_row(row, names, place) for row in table]
    for number, row in enumerate(rows, start=1):
        for path in row.paths:
            if not Path(path).is_file():
                raise FileNotFoundError(f"{place} row {number}: {path} is missing")
    return rows


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


def _of_row(row: Any, names: dict[str, str], place: Path) -> ObjectFiles:
    def text(name: str) -> str:
        value = row[names[name]] if name in names else ""
        return "" if np.ma.is_masked(value) else plain_text(value)

    def number(name: str) -> float:
        value = row[names[name]] if name in names else np.nan
        return float("nan") if np.ma.is_masked(value) else optional_number(value, float("nan"))

    def path(name: str) -> str:
        stated = text(name)
        return str(place.parent / Path(stated).expanduser()) if stated else ""

    images = ((band, path(name)) for name, band in IMAGE_COLUMNS.items())
    return ObjectFiles(
        object_id=text("object_id"),
        ra_deg=number("ra"),
        dec_deg=number("dec"),
        redshift=number("redshift"),
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
    return [
        *(ObjectFiles(spectrum=path) for path in spectra),
        *(ObjectFiles(images=tuple(of_object)) for of_object in images.values()),
    ]

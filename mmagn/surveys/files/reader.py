"""Reader of galaxies that lie in files of their own; see ``reader.SurveyReader``."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from mmagn.records import Catalog, Cutout, Floats, Spectrum
from mmagn.surveys.config import DataConfig
from mmagn.surveys.files.fits_file import file_id
from mmagn.surveys.files.images import Plane, cutout_of, read_planes
from mmagn.surveys.files.objects import ObjectFiles, object_files
from mmagn.surveys.files.spectra import path_and_member, read_spectrum
from mmagn.surveys.files.wavelengths import Wavelengths
from mmagn.surveys.reader import Record, SourceFile, reading_settings, row_records
from mmagn.surveys.screen import cells_of, nothing_usable, usable_objects

_log = logging.getLogger(__name__)

SAME_CENTRE_ARCSEC = 1.0
NO_REDSHIFT = "no redshift, without which no line can be measured; state it (--redshift, or a column redshift)"


@dataclass(frozen=True, kw_only=True)
class FilesReader:
    """Both surveys from the files that a table names, or from those of a folder, with ``data.source`` files."""

    data: DataConfig

    def settings(self) -> dict[str, Any]:
        """Return the settings that shape what is read, by dotted name."""
        return reading_settings(self.data)

    def sources(self) -> tuple[SourceFile, ...]:
        """Return the table and all files that it names, or those of the folder, with their files of redshifts."""
        paths = {path for row in self._rows() for path in (*row.paths, *row.companions)}
        named = sorted({Path(path) for path in paths} | ({self._place} if self._place.is_file() else set()))
        root = self._place if self._place.is_dir() else self._place.parent
        names = [path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name for path in named]
        alike = Counter(names)
        files = []
        for path, name in zip(named, names, strict=True):
            status, unique = path.stat(), name if alike[name] == 1 else path.as_posix()
            files.append(SourceFile(name=unique, size_bytes=status.st_size, version=str(status.st_mtime_ns)))
        return tuple(files)

    def read_sdss_catalog(self, drops: Counter[str]) -> Catalog:
        """Return ids and positions of the spectra; empty where none can be used but there are images."""
        return self._catalog("sdss", drops)

    def read_hsc_catalog(self, drops: Counter[str]) -> Catalog:
        """Return ids and positions of the images; empty where none can be used but there are spectra."""
        return self._catalog("hsc", drops)

    def read_spectra(self, path: str, rows: NDArray[np.int64]) -> Iterator[tuple[int, Spectrum | str]]:
        """Yield (row, spectrum or reason); ``path`` is the table or the folder."""
        return self._records("sdss", path, rows, row_spectrum)

    def read_cutouts(self, path: str, rows: NDArray[np.int64]) -> Iterator[tuple[int, Cutout | str]]:
        """Yield (row, cutout or reason); ``path`` is the table or the folder."""
        return self._records("hsc", path, rows, row_cutout)

    @property
    def _place(self) -> Path:
        return Path(str(self.data.table)).expanduser()

    def _rows(self) -> list[ObjectFiles]:
        return object_files(self._place)

    def _records(
        self, survey: str, path: str, rows: NDArray[np.int64], from_row: Callable[[ObjectFiles, Wavelengths], Record]
    ) -> Iterator[tuple[int, Record | str]]:
        known = object_files(Path(path))
        wanted = np.unique(np.asarray(rows, dtype=np.int64))
        raw_rows = (known[row] for row in wanted.tolist())
        return row_records(survey, path, wanted, raw_rows, lambda row: from_row(row, self.data.wavelengths))

    def _catalog(self, survey: str, drops: Counter[str]) -> Catalog:
        named = list(enumerate(self._rows()))
        views = [(number, row) for number, row in named if (row.spectrum if survey == "sdss" else row.images)]
        numbers, known = [], []
        lost: Counter[str] = Counter()
        for number, row in views:
            try:
                known.append(_index(row, survey, self.data.wavelengths))
                numbers.append(number)
            except ValueError as error:
                lost[f"{survey}: {error}"] += 1
                _log.warning("%s: left out, %s", self._place.name, error)
        ra_deg, dec_deg, redshift = (np.array([each[axis] for each in known], dtype=np.float64) for axis in (1, 2, 3))
        if survey == "hsc":
            _warn_of_scattered_bands([named[number][1] for number in numbers], ra_deg, dec_deg)
        stored = Catalog(
            object_id=np.array([each[0] for each in known], dtype=np.str_),
            ra_deg=ra_deg,
            dec_deg=dec_deg,
            healpix=cells_of(ra_deg, dec_deg),
            file_index=np.zeros(len(known), dtype=np.int32),
            row=np.array(numbers, dtype=np.int64),
            redshift=redshift if survey == "sdss" else None,
            files=(str(self._place),),
        )
        usable = usable_objects(survey, stored, self.data, lost)
        drops.update(lost)
        if not len(usable) and len(views) == len(named):
            raise ValueError(nothing_usable(survey, str(self._place), lost))
        return usable


def _index(row: ObjectFiles, survey: str, wavelengths: Wavelengths) -> tuple[str, float, float, float]:
    """Return id, RA, Dec and redshift of a row, without reading images where the position is known."""
    if survey == "sdss":
        spectrum = row_spectrum(row, wavelengths)
        return spectrum.object_id, spectrum.ra_deg, spectrum.dec_deg, spectrum.redshift
    return (*_image_identity(row, wavelengths), float("nan"))


def row_spectrum(row: ObjectFiles, wavelengths: Wavelengths) -> Spectrum:
    """Return the spectrum of a galaxy under the id, position and redshift that are stated of it beside its file.

    Raises ``ValueError`` where the file holds no usable spectrum, or no redshift is known.
    """
    spectrum = read_spectrum(row.spectrum, wavelengths)
    if np.isfinite(row.redshift):
        spectrum = replace(spectrum, redshift=row.redshift, redshift_err=float("nan"), zwarning=0)
    if not np.isfinite(spectrum.redshift):
        raise ValueError(f"{Path(row.spectrum).name} has {NO_REDSHIFT}")
    if row.object_id or (row.name and spectrum.object_id == file_id(path_and_member(row.spectrum)[0])):
        spectrum = replace(spectrum, object_id=row.object_id or row.name)
    ra_deg, dec_deg = row.ra_deg, row.dec_deg
    if not np.isfinite(ra_deg + dec_deg):
        ra_deg, dec_deg = spectrum.ra_deg, spectrum.dec_deg
        if not np.isfinite(ra_deg + dec_deg) and row.images:
            ra_deg, dec_deg = _planes(row)[0].centre
    return replace(spectrum, ra_deg=ra_deg, dec_deg=dec_deg)


def row_cutout(row: ObjectFiles, wavelengths: Wavelengths) -> Cutout:
    """Return the cutout of a galaxy around its position: the stated one, that of its spectrum, or the image's middle.

    Raises ``ValueError`` where an image cannot be used, a band comes twice, or the position lies outside of an image.
    """
    object_id, ra_deg, dec_deg = _image_identity(row, wavelengths)
    return cutout_of(_planes(row), ra_deg, dec_deg, object_id)


def _image_identity(row: ObjectFiles, wavelengths: Wavelengths) -> tuple[str, float, float]:
    object_id, ra_deg, dec_deg = row.object_id, row.ra_deg, row.dec_deg
    if row.spectrum and not (object_id and np.isfinite(ra_deg + dec_deg)):
        try:
            spectrum = read_spectrum(row.spectrum, wavelengths)
            object_id = object_id or spectrum.object_id
            if not np.isfinite(ra_deg + dec_deg):
                ra_deg, dec_deg = spectrum.ra_deg, spectrum.dec_deg
        except ValueError as error:
            _log.info("the image is identified without its spectrum: %s", error)
    if not np.isfinite(ra_deg + dec_deg):
        ra_deg, dec_deg = _planes(row)[0].centre
    return object_id or row.name or file_id(row.images[0][1]), ra_deg, dec_deg


def _warn_of_scattered_bands(rows: Sequence[ObjectFiles], ra_deg: Floats, dec_deg: Floats) -> None:
    """Warn where images of one band each have the same centre: the bands of one galaxy under names that differ."""
    single = np.array([len(row.images) == 1 for row in rows], dtype=np.bool_) & np.isfinite(ra_deg + dec_deg)
    bands, paths = (np.array([row.images[0][part] for row in rows])[single] for part in (0, 1))
    ra, dec = np.radians(ra_deg[single]), np.radians(dec_deg[single])
    vectors = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)
    close = cKDTree(vectors).query_pairs(np.radians(SAME_CENTRE_ARCSEC / 3600), output_type="ndarray")
    close = close[bands[close[:, 0]] != bands[close[:, 1]]]
    if len(close):
        _log.warning(
            "%d images of one band each have the centre of one in another band, such as %s and %s: they are taken as "
            "galaxies of their own; give the bands of a galaxy names that differ in the band alone, or write a table",
            len(np.unique(close)),
            *(Path(path).name for path in paths[close[0]].tolist()),
        )


def _planes(row: ObjectFiles) -> list[Plane]:
    return [plane for band, path in row.images for plane in read_planes(path, band)]

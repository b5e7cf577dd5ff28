"""The spectrum of a file, whatever its format."""

from functools import lru_cache
from pathlib import Path

from astropy.io import fits

from mmagn.records import Spectrum
from mmagn.surveys.desi_files import DesiCoadd
from mmagn.surveys.files.fits_file import column, is_fits, opened_fits
from mmagn.surveys.files.other_spectra import other_spectrum
from mmagn.surveys.files.sdss_files import is_plate, is_spec, plate_spectrum, spec_spectrum
from mmagn.surveys.files.wavelengths import Wavelengths, agreed_medium
from mmagn.surveys.text import plain_text


def read_spectrum(place: str, wavelengths: Wavelengths = "header") -> Spectrum:
    """Return the spectrum of a file; position and redshift are NaN where it states none.

    Parameters
    ----------
    place
        Path of the file; with ``#`` and the fibre of an spPlate file or the TARGETID of a DESI coadd.
    wavelengths
        Whether wavelengths are those of air or vacuum, where the file does not state it.

    Raises
    ------
    FileNotFoundError
        Where there is no such file.
    ValueError
        Where it holds no usable spectrum; the sentence names file and HDU or column.
    """
    path, member = path_and_member(place)
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is missing")
    if is_fits(path):
        if member and (coadd := _coadd(path)):
            agreed_medium("vacuum", wavelengths, Path(path).name)
            return coadd.spectrum(member)
        with opened_fits(path) as hdus:
            if is_spec(hdus) or is_plate(hdus) or is_coadd(hdus):
                agreed_medium("vacuum", wavelengths, Path(path).name)
            if is_plate(hdus) and not is_spec(hdus):
                return plate_spectrum(hdus, path, member, companion(Path(path)))
            if is_coadd(hdus):
                return DesiCoadd.read(Path(path), companion(Path(path))).spectrum()
            if is_spec(hdus) and not member:
                return spec_spectrum(hdus, path)
    if member:
        raise ValueError(f"{Path(path).name} holds one spectrum, none of which is #{member}")
    return other_spectrum(path, wavelengths)


def path_and_member(place: str) -> tuple[str, str]:
    """Return the path of a file, and what follows ``#`` behind its name, "" without it."""
    path, mark, member = place.rpartition("#")
    return (path, member) if mark and "/" not in member and not Path(place).is_file() else (place, "")


def companion(path: Path) -> Path | None:
    """Return the file of redshifts beside a DESI coadd (redrock) or a spPlate file (spZbest); None without one."""
    for kind, redshifts in (("coadd", "redrock"), ("spPlate", "spZbest")):
        beside = path.with_name(path.name.replace(kind, redshifts, 1))
        if beside != path and beside.is_file():
            return beside
    return None


def is_coadd(hdus: fits.HDUList) -> bool:
    """Whether a file is a DESI coadd."""
    return "FIBERMAP" in hdus


def coadd_targets(path: str) -> tuple[str, ...]:
    """Return the TARGETIDs of a DESI coadd."""
    with opened_fits(path) as hdus:
        if not is_coadd(hdus):
            return ()
        return tuple(map(plain_text, column(hdus["FIBERMAP"].data, "TARGETID", f"FIBERMAP of {Path(path).name}")))


def _coadd(path: str) -> DesiCoadd | None:
    """Return the DESI coadd in a file, opened once for all of its targets; None where the file holds something else."""
    files = [Path(path), companion(Path(path))]
    return _opened_coadd(path, tuple(file.stat().st_mtime_ns for file in files if file is not None))


@lru_cache(maxsize=2)
def _opened_coadd(path: str, versions: tuple[int, ...]) -> DesiCoadd | None:  # noqa: ARG001 a changed file is another
    with opened_fits(path) as hdus:
        return DesiCoadd.read(Path(path), companion(Path(path))) if is_coadd(hdus) else None

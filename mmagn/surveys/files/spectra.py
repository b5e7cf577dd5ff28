"""The spectrum of a file, whatever its format."""

from pathlib import Path

from astropy.io import fits

from mmagn.records import Spectrum
from mmagn.surveys.desi_files import desi_spectra
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
    path, _, member = place.partition("#")
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is missing")
    if is_fits(path):
        with opened_fits(path) as hdus:
            if is_spec(hdus) or is_plate(hdus) or is_coadd(hdus):
                agreed_medium("vacuum", wavelengths, Path(path).name)
            if is_spec(hdus):
                return spec_spectrum(hdus, path)
            if is_plate(hdus):
                return plate_spectrum(hdus, path, member)
            if is_coadd(hdus):
                return _coadd_spectrum(hdus, Path(path), member)
    return other_spectrum(path, wavelengths)


def is_coadd(hdus: fits.HDUList) -> bool:
    """Whether a file is a DESI coadd."""
    return "FIBERMAP" in hdus


def coadd_targets(path: str) -> tuple[str, ...]:
    """Return the TARGETIDs of a DESI coadd."""
    with opened_fits(path) as hdus:
        return _targets(hdus, Path(path)) if is_coadd(hdus) else ()


def _coadd_spectrum(hdus: fits.HDUList, path: Path, target: str) -> Spectrum:
    """Return the spectrum of one target of a DESI coadd, with the redshift of the redrock file beside it."""
    targets = _targets(hdus, path)
    if target not in targets and (target or len(targets) > 1):
        known = ", ".join(targets[:5])
        raise ValueError(f"{path.name} has no target {target or 'named'}; write {path.name}#TARGETID, such as {known}")
    redrock = path.with_name(path.name.replace("coadd", "redrock", 1))
    spectra = desi_spectra(path, redrock if redrock != path and redrock.is_file() else None)
    row = targets.index(target) if target else 0
    result = next(spectrum for number, spectrum in spectra if number == row)
    if isinstance(result, str):
        raise ValueError(f"{path.name}, {result.removeprefix('desi: ')}")
    return result


def _targets(hdus: fits.HDUList, path: Path) -> tuple[str, ...]:
    return tuple(map(plain_text, column(hdus["FIBERMAP"].data, "TARGETID", f"FIBERMAP of {path.name}")))

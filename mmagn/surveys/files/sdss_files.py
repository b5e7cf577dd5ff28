"""Spectra of SDSS, BOSS and eBOSS as the survey publishes them: spec and spec-lite files, rows of spPlate files."""

from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from mmagn.records import Spectrum
from mmagn.surveys.files.fits_file import column, file_id, header_number, opened_fits
from mmagn.surveys.sdss import spectrum_from_row
from mmagn.surveys.text import optional_text, plain_text

FIBRE_BITS = 0xFFFF
"""Bits 0 to 15 of ``and_mask`` (SPPIXMASK) are flags of a whole fibre, such as BADTRACE; the others are of a pixel."""
IVAR_LEAST = 1e-6
"""The survey's own samples call a pixel of an inverse variance up to this bad."""
ABOUT = {
    "Z": "Z",
    "Z_ERR": "Z_ERR",
    "ZWARNING": "ZWARNING",
    "CLASS": "CLASS",
    "SUBCLASS": "SUBCLASS",
    "ra": "PLUG_RA",
    "dec": "PLUG_DEC",
    "object_id": "SPECOBJID",
}
"""Names of a raw row, and the columns of SPECOBJ or SPALL that hold them."""


def is_spec(hdus: fits.HDUList) -> bool:
    """Whether a file is one of the survey's spec files."""
    return "COADD" in hdus and "loglam" in map(str.lower, getattr(hdus["COADD"].columns, "names", ()))


def is_plate(hdus: fits.HDUList) -> bool:
    """Whether a file is one of the survey's spPlate files."""
    return "COEFF0" in hdus[0].header and len(hdus) > 5 and hdus[0].header.get("NAXIS") == 2


def spec_spectrum(hdus: fits.HDUList, path: str) -> Spectrum:
    """Return the spectrum of a spec or spec-lite file; redshift and position are NaN where it states none.

    Raises ``ValueError`` where a column is missing or no pixel is valid.
    """
    name = Path(path).name
    coadd = hdus["COADD"].data
    about: dict[str, Any] = {}
    described = next((hdus[part].data for part in ("SPECOBJ", "SPALL") if part in hdus), None)
    if described is not None and len(described):
        present = {known.upper(): known for known in described.dtype.names}
        about = {key: described[present[known]][0] for key, known in ABOUT.items() if known in present}
        about["survey"] = described[present["SURVEY"]][0] if "SURVEY" in present else ""
    header = hdus[0].header
    about.setdefault("ra", header_number(header, "PLUG_RA"))
    about.setdefault("dec", header_number(header, "PLUG_DEC"))
    flux, loglam, ivar, and_mask, wdisp = (
        np.asarray(column(coadd, wanted, f"HDU COADD of {name}"))
        for wanted in ("flux", "loglam", "ivar", "and_mask", "wdisp")
    )
    wavelength = 10 ** loglam.astype(np.float64)
    return _spectrum(about, header, path, (wavelength, flux, ivar, and_mask, wdisp))


def plate_spectrum(hdus: fits.HDUList, path: str, fibre: str, best: Path | None) -> Spectrum:
    """Return the spectrum of one fibre of a spPlate file, with the redshift of a spZbest file.

    Raises ``ValueError`` where the fibre is not there.
    """
    name = Path(path).name
    plugged = hdus[5].data
    fibres = np.asarray(column(plugged, "FIBERID", f"HDU 5 of {name}"))
    (rows,) = np.nonzero(fibres == (int(fibre) if fibre.isdecimal() else -1))
    if not len(rows):
        raise ValueError(f"{name} has no fibre {fibre or 'named'}; write {name}#FIBRE")
    row, header = int(rows[0]), hdus[0].header
    about: dict[str, Any] = {"ra": column(plugged, "RA", name)[row], "dec": column(plugged, "DEC", name)[row]}
    about["object_id"] = f"{header.get('PLATEID')}-{header.get('MJD')}-{fibre}"
    if best is not None:
        with opened_fits(str(best)) as redshifts:
            table = redshifts[1].data
            (same,) = np.nonzero(np.asarray(column(table, "FIBERID", best.name)) == int(fibre))
            names = ("Z", "Z_ERR", "ZWARNING", "CLASS", "SUBCLASS")
            about |= {known: column(table, known, best.name)[same[0]] for known in names if len(same)}
    pixels = hdus[0].data.shape[1]
    wavelength = 10 ** (header["COEFF0"] + header["COEFF1"] * np.arange(pixels))
    planes = (hdus[number].data[row] for number in (0, 1, 2, 4))
    flux, ivar, and_mask, wdisp = (np.asarray(plane) for plane in planes)
    return _spectrum(about, header, path, (wavelength, flux, ivar, and_mask, wdisp))


def _spectrum(about: dict[str, Any], header: fits.Header, path: str, pixels: tuple[NDArray[Any], ...]) -> Spectrum:
    """Return the record of raw values; flags of the whole fibre are passed over, those of pixels obeyed."""
    wavelength, flux, ivar, and_mask, wdisp = pixels
    if header.get("VACUUM", True) is False:
        raise ValueError(f"{Path(path).name} has wavelengths of air; SDSS publishes those of vacuum")
    bad = (and_mask.astype(np.int64) & ~FIBRE_BITS != 0) | ~(ivar > IVAR_LEAST)
    survey = optional_text(about.get("survey")).lower()
    instrument = str(header.get("INSTRUME", "")).upper()
    row: dict[str, Any] = {
        "object_id": plain_text(about.get("object_id", "")) or file_id(path),
        "ra": about.get("ra", np.nan),
        "dec": about.get("dec", np.nan),
        "Z": about.get("Z", np.nan),
        **{name: about[name] for name in ("Z_ERR", "ZWARNING", "CLASS", "SUBCLASS") if name in about},
        "spectrum_flux": flux,
        "spectrum_lambda": wavelength,
        "spectrum_lsf_sigma": wdisp,
        # The reader of the published sample guesses at flags of a fibre, for want of the bits; here nothing is left.
        "spectrum_ivar": np.where(bad, 0, ivar),
        "spectrum_mask": np.zeros(len(flux), dtype=bool),
    }
    return spectrum_from_row(row, survey=survey or ("boss" if "BOSS" in instrument else "sdss"))

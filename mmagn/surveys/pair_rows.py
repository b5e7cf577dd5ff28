"""The row of a stored pair back as a cutout and a spectrum, wherever it is stored: in a store or on a hub.

Images are fixed-size lists and spectra variable-length lists, so that a row is read as views of Arrow buffers and
never as Python lists.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmagn.records import BANDS, CUTOUT_PIXELS, Cutout, Spectrum

IMAGE_SHAPE = (len(BANDS), CUTOUT_PIXELS, CUTOUT_PIXELS)
IMAGE_COLUMNS = ("image_flux", "image_ivar")
BAND_COLUMNS = ("psf_fwhm_arcsec", "magnitude")
SPECTRUM_COLUMNS = ("spectrum_wavelength_angstrom", "spectrum_flux", "spectrum_ivar", "spectrum_lsf_sigma")
CLASS_COLUMNS = ("survey", "redshift_err", "zwarning", "spectral_class", "spectral_subclass")
_SIGN_EXPONENT_MANTISSA = np.uint32(0x8FFFE000).view(np.int32)
_EXPONENT_BIAS = np.float32(2.0**112)


def cutout_from_row(row: Mapping[str, Any]) -> Cutout:
    """Return the cutout of a row; float32 images stay views of the row's buffers, float16 ones are widened."""
    return Cutout(
        object_id=str(row["hsc_object_id"]),
        ra_deg=float(row["hsc_ra_deg"]),
        dec_deg=float(row["hsc_dec_deg"]),
        flux=_image(row["image_flux"]),
        ivar=_image(row["image_ivar"]),
        psf_fwhm_arcsec=np.asarray(row["psf_fwhm_arcsec"], dtype=np.float32),
        magnitude=np.asarray(row["magnitude"], dtype=np.float32),
    )


def spectrum_from_row(row: Mapping[str, Any]) -> Spectrum:
    """Return the spectrum of a row; arrays are views of the row's buffers."""
    wavelength, flux, ivar, lsf_sigma = (np.asarray(row[name], dtype=np.float32) for name in SPECTRUM_COLUMNS)
    return Spectrum(
        object_id=str(row["sdss_object_id"]),
        survey=str(row["survey"]),
        ra_deg=float(row["sdss_ra_deg"]),
        dec_deg=float(row["sdss_dec_deg"]),
        redshift=float(row["redshift"]),
        redshift_err=float(row["redshift_err"]),
        zwarning=int(row["zwarning"]),
        spectral_class=str(row["spectral_class"]),
        spectral_subclass=str(row["spectral_subclass"]),
        wavelength_angstrom=wavelength,
        flux=flux,
        ivar=ivar,
        lsf_sigma=lsf_sigma,
    )


def widened(halves: NDArray[np.float16]) -> NDArray[np.float32]:
    """Return finite float16 values as float32, exactly.

    NumPy's own cast takes eight times as long: without hardware support it goes value by value. Here the bits of
    sign, exponent and mantissa move to their places in a float32, all at once, and a power of 2 corrects the bias
    of the exponent.
    """
    bits = halves.view(np.int16).astype(np.int32)
    bits <<= 13
    bits &= _SIGN_EXPONENT_MANTISSA
    values = bits.view(np.float32)
    values *= _EXPONENT_BIAS
    return values


def _image(flat: Any) -> NDArray[np.float32]:
    values = np.asarray(flat)
    if values.dtype == np.float16:
        values = widened(values)
    return values.astype(np.float32, copy=False).reshape(IMAGE_SHAPE)

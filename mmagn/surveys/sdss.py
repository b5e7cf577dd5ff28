"""SDSS rows as spectra: the one place that knows the quirks of the SDSS sample.

Its mask is True where a pixel is *bad* (the opposite of HSC), its spectra are padded at the end to the longest of
the file with flux and dispersion repeated, and errors below zero are failure codes.
"""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmagn.records import IVAR_LIMIT, Spectrum
from mmagn.surveys.grid import check_log_grid
from mmagn.surveys.screen import SPECTRUM_COLUMNS, Column, check_mask, pixel_arrays
from mmagn.surveys.text import optional_number, optional_text, plain_text

PIXEL_FLAG_RUN = 100
"""Longest run of pixels that flags of single pixels make: at most 27 in real spectra, of whole fibres 150 and more."""
COLUMNS: Mapping[str, Column] = {
    **SPECTRUM_COLUMNS,
    "Z_ERR": Column(purpose="redshift error", kind="number", required=False),
    "ZWARNING": Column(purpose="redshift warning", kind="number", required=False),
    "CLASS": Column(purpose="class", kind="text", required=False),
    "SUBCLASS": Column(purpose="class", kind="text", required=False),
}
"""Columns that a spectrum is made from."""

logger = logging.getLogger(__name__)


def spectrum_from_row(row: Mapping[str, Any], *, survey: str) -> Spectrum:
    """Return the spectrum of one raw SDSS row that passed the screen, padding removed.

    Parameters
    ----------
    row
        Values under the names of ``COLUMNS``; spectra (pixel,), dispersion in pixels. An optional value that cannot
        be read is missing.
    survey
        Name of the survey directory, such as ``boss``.

    Raises
    ------
    ValueError
        If the row is no usable spectrum: columns of different length, a mask that is not bool or 0 and 1, another
        wavelength grid than steps of 1e-4 dex, no valid pixel.
    """
    flux, ivar, wavelength, mask, lsf_sigma = pixel_arrays(row)
    inside = np.flatnonzero(wavelength > 0)
    if len(inside) == 0:
        raise ValueError("spectrum has no wavelength above zero")
    used = slice(inside[0], inside[-1] + 1)
    wavelength, flux, ivar, lsf_sigma = (
        values[used].astype(np.float32) for values in (wavelength, flux, ivar, lsf_sigma)
    )
    check_log_grid("spectrum_lambda", wavelength)
    finite = np.isfinite(flux)
    bad = check_mask("spectrum_mask", mask[used])
    usable = finite & (ivar > 0) & (ivar <= IVAR_LIMIT) & np.isfinite(lsf_sigma)
    fibre_wide = fibre_wide_flags(bad, usable)
    valid = usable & (~bad | fibre_wide)
    if not valid.any():
        raise ValueError("spectrum has no valid pixel")
    if fibre_wide.any():
        pixels = np.count_nonzero(fibre_wide & usable)
        logger.info("spectrum %s: %d pixels under a fibre-wide flag are used", plain_text(row["object_id"]), pixels)
    redshift_err = optional_number(row.get("Z_ERR"), float("nan"))
    return Spectrum(
        object_id=plain_text(row["object_id"]),
        survey=survey,
        ra_deg=float(row["ra"]),
        dec_deg=float(row["dec"]),
        redshift=float(row["Z"]),
        redshift_err=redshift_err if redshift_err >= 0 else float("nan"),
        zwarning=int(optional_number(row.get("ZWARNING"), 0.0)),
        spectral_class=optional_text(row.get("CLASS")),
        spectral_subclass=optional_text(row.get("SUBCLASS")),
        wavelength_angstrom=wavelength,
        flux=np.where(finite, flux, np.float32(0)),
        ivar=np.where(valid, ivar, np.float32(0)),
        lsf_sigma=np.where(np.isfinite(lsf_sigma), lsf_sigma, np.float32(0)),
    )


def fibre_wide_flags(bad: NDArray[np.bool_], usable: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return (pixel,) True under flags of a whole fibre or camera (BADTRACE, BADFLAT, MANYBADCOLUMNS).

    The published mask ``bad`` is True where any bit of ``and_mask`` is set. Bits of single pixels (sky lines, cosmic
    rays) make short runs; a long run whose pixels are ``usable``, with a variance of their own, warns of the fibre and
    says nothing about them.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], bad, [False]]).astype(np.int8)))
    wide = np.zeros(len(bad), np.bool_)
    for start, stop in edges.reshape(-1, 2):
        if stop - start > PIXEL_FLAG_RUN and usable[start:stop].mean() > 0.5:
            wide[start:stop] = True
    return wide

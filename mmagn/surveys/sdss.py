"""SDSS rows as spectra: the one place that knows the quirks of the SDSS sample.

Its mask is True where a pixel is *bad* (the opposite of HSC), its spectra are padded at the end to the longest of
the file with flux and dispersion repeated, and errors below zero are failure codes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mmagn.records import Spectrum
from mmagn.surveys.screen import Column
from mmagn.surveys.text import plain_text

IVAR_LIMIT = 1e30
"""An inverse variance above this stands for a variance of zero and is not valid."""
PIXEL_COLUMNS = ("spectrum_flux", "spectrum_ivar", "spectrum_lambda", "spectrum_mask", "spectrum_lsf_sigma")
COLUMNS: Mapping[str, Column] = {
    "object_id": Column(purpose="identity", kind="id"),
    "ra": Column(purpose="position", kind="number"),
    "dec": Column(purpose="position", kind="number"),
    "Z": Column(purpose="redshift", kind="number"),
    "spectrum_flux": Column(purpose="flux", kind="number", axes=("pixel",)),
    "spectrum_ivar": Column(purpose="noise", kind="number", axes=("pixel",)),
    "spectrum_lambda": Column(purpose="wavelength", kind="number", axes=("pixel",)),
    "spectrum_mask": Column(purpose="bad pixels", kind="mask", axes=("pixel",)),
    "spectrum_lsf_sigma": Column(purpose="instrumental width", kind="number", axes=("pixel",)),
    "Z_ERR": Column(purpose="redshift error", kind="number", required=False),
    "ZWARNING": Column(purpose="redshift warning", kind="number", required=False),
    "CLASS": Column(purpose="class", kind="text", required=False),
    "SUBCLASS": Column(purpose="class", kind="text", required=False),
}
"""Columns that a spectrum is made from."""


def spectrum_from_row(row: Mapping[str, Any], *, survey: str) -> Spectrum:
    """Return the spectrum of one raw SDSS row, padding removed.

    Parameters
    ----------
    row
        Values under the names of ``COLUMNS``; spectra (pixel,), dispersion in pixels.
    survey
        Name of the survey directory, such as ``boss``.

    Raises
    ------
    ValueError
        If the row is no usable spectrum: no position or redshift, no valid pixel, wavelengths that do not rise.
    """
    ra_deg, dec_deg, redshift = float(row["ra"]), float(row["dec"]), float(row["Z"])
    if not np.isfinite([ra_deg, dec_deg]).all():
        raise ValueError("position is not finite")
    if not np.isfinite(redshift):
        raise ValueError("redshift is not finite")
    wavelength = np.asarray(row["spectrum_lambda"])
    inside = np.flatnonzero(wavelength > 0)
    if len(inside) == 0:
        raise ValueError("spectrum has no wavelength above zero")
    used = slice(inside[0], inside[-1] + 1)
    wavelength = wavelength[used].astype(np.float32)
    if not (np.diff(wavelength) > 0).all():
        raise ValueError("wavelength does not rise from pixel to pixel")
    flux, ivar, lsf_sigma = (
        np.asarray(row[name])[used].astype(np.float32)
        for name in ("spectrum_flux", "spectrum_ivar", "spectrum_lsf_sigma")
    )
    bad = np.asarray(row["spectrum_mask"])[used].astype(bool)
    finite = np.isfinite(flux)
    valid = ~bad & finite & (ivar > 0) & (ivar <= IVAR_LIMIT) & np.isfinite(lsf_sigma)
    if not valid.any():
        raise ValueError("spectrum has no valid pixel")
    redshift_err = float(row.get("Z_ERR", np.nan))
    return Spectrum(
        object_id=plain_text(row["object_id"]),
        survey=survey,
        ra_deg=ra_deg,
        dec_deg=dec_deg,
        redshift=redshift,
        redshift_err=redshift_err if redshift_err >= 0 else float("nan"),
        zwarning=int(row.get("ZWARNING", 0)),
        spectral_class=plain_text(row.get("CLASS", "")),
        spectral_subclass=plain_text(row.get("SUBCLASS", "")),
        wavelength_angstrom=wavelength,
        flux=np.where(finite, flux, np.float32(0)),
        ivar=np.where(valid, ivar, np.float32(0)),
        lsf_sigma=np.where(np.isfinite(lsf_sigma), lsf_sigma, np.float32(0)),
    )

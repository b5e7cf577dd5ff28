"""Any spectrum that specutils reads, in vacuum wavelengths and SDSS units, on the grid of 1e-4 dex."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u

from mmagn.records import IVAR_LIMIT, Floats, Spectrum
from mmagn.surveys.files.fits_file import file_id, header_number, is_fits, opened_fits
from mmagn.surveys.files.wavelengths import Wavelengths, agreed_medium, header_medium, vacuum_angstrom
from mmagn.surveys.grid import is_log_grid, log_grid
from mmagn.surveys.reader import warn_once
from mmagn.surveys.text import optional_text

OWN_SURVEY = "own"
"""Survey of a spectrum that belongs to none."""
FLUX_UNIT = u.Unit("1e-17 erg / (s cm2 Angstrom)")
SIGMA_PER_FWHM = 1 / np.sqrt(8 * np.log(2))
NYQUIST_PIXELS = 2.0
"""FWHM of an unresolved line in pixels, where the header has no resolving power (SPEC_RES)."""
NEEDED = "; it is needed for spectra of other surveys than SDSS and DESI: pip install 'mmagn[specutils]'"


def other_spectrum(path: str, wavelengths: Wavelengths) -> Spectrum:
    """Return the one spectrum of a file in any format of specutils.

    Position, redshift and id are NaN or empty where the header does not hold them (RA, DEC, REDSHIFT, OBJECT);
    ``wavelengths`` are those of air or vacuum where it does not state it.

    Raises ``ValueError`` where the file is none, or holds several spectra, units that are no flux density, no
    uncertainties, or wavelengths of an unknown medium, ``ImportError`` where specutils is not installed.
    """
    name = Path(path).name
    spectrum = _read(path)
    if np.ndim(spectrum.flux) != 1:
        raise ValueError(f"{name} holds spectra of shape {np.shape(spectrum.flux)}; allowed: one spectrum")
    header = _header(path, spectrum.meta)
    axis, flux, ivar = _physical(spectrum, name)
    if agreed_medium(header_medium(header), wavelengths, name) == "air":
        axis = vacuum_angstrom(axis)
    order = np.argsort(axis)
    axis, flux, ivar = axis[order], flux[order], ivar[order]
    power = header_number(header, "SPEC_RES")
    if not power > 0:
        warn_once("spectra without a resolving power (SPEC_RES) are taken as sampled with two pixels per FWHM")
    steps = np.gradient(axis)
    sigma = SIGMA_PER_FWHM * (axis / power if power > 0 else NYQUIST_PIXELS * steps)
    if is_log_grid(axis):
        wave, lsf = axis.astype(np.float32), (sigma / steps).astype(np.float32)
        values = np.where(ivar > 0, flux, 0).astype(np.float32), ivar.astype(np.float32), lsf
    else:
        grid = log_grid(axis)
        wave, values = grid.wavelength_angstrom, grid.resampled(flux, ivar, sigma)
    if not (values[1] > 0).any():
        raise ValueError(f"{name} has no valid pixel")
    return Spectrum(
        object_id=optional_text(header.get("OBJECT")) or file_id(path),
        survey=OWN_SURVEY,
        ra_deg=header_number(header, "RA"),
        dec_deg=header_number(header, "DEC"),
        redshift=header_number(header, "REDSHIFT"),
        redshift_err=float("nan"),
        zwarning=0,
        spectral_class="",
        spectral_subclass="",
        wavelength_angstrom=wave,
        flux=values[0],
        ivar=values[1],
        lsf_sigma=values[2],
    )


def _read(path: str) -> Any:
    name = Path(path).name
    try:
        from specutils import Spectrum as AnySpectrum  # only here: it is an optional extra and takes seconds to load
    except ImportError as error:
        raise ImportError(f"{name} is read with specutils, which is not installed{NEEDED}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return AnySpectrum.read(path)
    except Exception as error:  # of whatever kind the loaders of specutils raise
        text = " ".join(str(error).split())[:200]
        raise ValueError(f"{name} is no spectrum that SDSS, DESI or specutils knows: {text}") from error


def _header(path: str, meta: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the keywords of a file, upper case: those of all HDUs, of which specutils passes on the first alone."""
    known = dict(meta) | dict(meta.get("header") or {})
    if is_fits(path):
        with opened_fits(path) as hdus:
            for hdu in hdus[::-1]:
                known |= dict(hdu.header)
    return {str(key).upper(): value for key, value in known.items()}


def _physical(spectrum: Any, name: str) -> tuple[Floats, Floats, Floats]:
    """Return wavelength in Angstrom, flux in the unit of ``Spectrum`` and its inverse variance, 0 where not valid."""
    try:
        axis = spectrum.spectral_axis.to(u.AA, u.spectral())
    except u.UnitConversionError:
        unit = spectrum.spectral_axis.unit
        raise ValueError(f"{name} has a spectral axis in {unit or 'no unit'}; allowed: a unit of length") from None
    density = u.spectral_density(axis)
    try:
        flux = spectrum.flux.to_value(FLUX_UNIT, density)
    except u.UnitConversionError:
        unit = spectrum.flux.unit.to_string() or "no unit"
        raise ValueError(f"{name} has fluxes in {unit}; allowed: flux densities such as erg/s/cm2/A or Jy") from None
    if spectrum.uncertainty is None:
        raise ValueError(f"{name} has no uncertainties, without which no line has a signal-to-noise ratio")
    from astropy.nddata import StdDevUncertainty

    deviation = spectrum.uncertainty.represent_as(StdDevUncertainty).quantity
    deviation = (deviation if deviation.unit != u.one else deviation.value * spectrum.flux.unit).to_value(
        FLUX_UNIT, density
    )
    valid = np.isfinite(flux) & np.isfinite(deviation) & (deviation >= IVAR_LIMIT**-0.5)
    if spectrum.mask is not None:
        valid &= ~np.broadcast_to(np.asarray(spectrum.mask, dtype=bool), valid.shape)
    ivar = np.where(valid, 1 / np.square(np.where(valid, deviation, 1.0)), 0.0)
    return np.asarray(axis.value, dtype=np.float64), np.asarray(flux, dtype=np.float64), ivar

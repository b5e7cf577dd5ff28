"""DESI rows as spectra: the one place that knows the quirks of the DESI sample.

All its spectra share one linear grid, its mask is True where a pixel is *bad*, and its dispersion is in pixels of
0.8 A.
"""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmagn.records import IVAR_LIMIT, Spectrum
from mmagn.surveys.config import DESI
from mmagn.surveys.grid import grid_text, log_grid
from mmagn.surveys.screen import SPECTRUM_COLUMNS, Column, check_mask, pixel_arrays
from mmagn.surveys.text import optional_number, optional_text, plain_text

FIRST_ANGSTROM, STEP_ANGSTROM, PIXELS = 3600.0, 0.8, 7781
GRID_ANGSTROM = FIRST_ANGSTROM + STEP_ANGSTROM * np.arange(PIXELS)
"""(pixel,) the grid of every spectrum, vacuum (Guy et al. 2023, AJ 165, 144)."""
GRID_TOLERANCE_ANGSTROM = 0.05
MAJORITY = 0.6
"""Share of one value among the redshift warnings of a file from which that value means good."""
LEAD = 2
"""Rows by which that value must lead: with 5 % of bad redshifts the odds against it are then 1 to 361."""
COLUMNS: Mapping[str, Column] = {
    **SPECTRUM_COLUMNS,
    "ZERR": Column(purpose="redshift error", kind="number", required=False),
    "ZWARN": Column(purpose="redshift warning", kind="number", required=False),
    "SPECTYPE": Column(purpose="class", kind="text", required=False),
}
"""Columns that a spectrum is made from."""

logger = logging.getLogger(__name__)


def spectrum_from_row(row: Mapping[str, Any]) -> Spectrum:
    """Return the spectrum of one raw DESI row that passed the screen, resampled to pixels of 1e-4 dex.

    Parameters
    ----------
    row
        Values under the names of ``COLUMNS``; spectra (pixel,), dispersion in pixels of 0.8 A. It is the width of a
        Gaussian through the samples of the resolution matrix, so the pixel is part of it, as in SDSS. ``ZWARN`` is a
        bit mask with 0 for good, see ``with_warnings``. An optional value that cannot be read is missing.

    Raises
    ------
    ValueError
        If the row is no usable spectrum: columns of different length, another wavelength grid than DESI's, a mask that
        is not bool or 0 and 1, no valid pixel. Pixels whose dispersion is not finite and positive are not valid.
    """
    flux, ivar, wavelength, mask, lsf_sigma = pixel_arrays(row)
    _check_grid(wavelength)
    with np.errstate(invalid="ignore"):
        usable_width = np.isfinite(lsf_sigma) & (lsf_sigma > 0)
        valid = np.isfinite(flux) & (ivar > 0) & (ivar <= IVAR_LIMIT) & ~check_mask("spectrum_mask", mask)
    if not (valid & usable_width).any():
        raise ValueError("spectrum has no valid pixel")
    return grid_spectrum(
        flux=flux,
        ivar=np.where(valid & usable_width, ivar, 0),
        lsf_sigma_angstrom=np.where(usable_width, lsf_sigma, 0) * STEP_ANGSTROM,
        object_id=plain_text(row["object_id"]),
        ra_deg=float(row["ra"]),
        dec_deg=float(row["dec"]),
        redshift=float(row["Z"]),
        redshift_err=optional_number(row.get("ZERR"), float("nan")),
        zwarning=int(optional_number(row.get("ZWARN"), 0.0)),
        spectral_class=optional_text(row.get("SPECTYPE")),
    )


def grid_spectrum(
    *, flux: NDArray[Any], ivar: NDArray[Any], lsf_sigma_angstrom: NDArray[Any], redshift_err: float, **described: Any
) -> Spectrum:
    """Return the record of a spectrum on DESI's grid.

    Parameters
    ----------
    flux, ivar
        (pixel,) on ``GRID_ANGSTROM``; ivar 0 where not valid.
    lsf_sigma_angstrom
        (pixel,) width of an unresolved line as sampled.
    redshift_err
        Not a number where not positive.
    described
        Id, position, redshift, warning and class, as in ``records.Spectrum``.

    Raises
    ------
    ValueError
        If no pixel of 1e-4 dex is valid.
    """
    grid = log_grid(GRID_ANGSTROM)
    flux, ivar, lsf_sigma = grid.resampled(flux, ivar, lsf_sigma_angstrom)
    if not (ivar > 0).any():
        raise ValueError("spectrum has no valid pixel")
    return Spectrum(
        survey=DESI,
        spectral_subclass="",
        redshift_err=redshift_err if redshift_err > 0 else float("nan"),
        wavelength_angstrom=grid.wavelength_angstrom,
        flux=flux,
        ivar=ivar,
        lsf_sigma=lsf_sigma,
        **described,
    )


def true_means_good(warnings: NDArray[np.bool_], file: str) -> bool:
    """Return whether True stands for a good redshift in the bool ``ZWARN`` (row,) of a file: most redshifts are good.

    The published files are written by code that negates the flag, and their cards show the opposite. Raises
    ``ValueError`` if neither value has a clear majority; the message continues "file NAME is left out, ".
    """
    true = int(np.count_nonzero(warnings))
    most = max(true, len(warnings) - true)
    if most < MAJORITY * len(warnings) or 2 * most - len(warnings) < LEAD:
        raise ValueError(
            f"its ZWARN is True in {true} of {len(warnings)} rows, which does not tell whether True or False is good"
        )
    good = 2 * true > len(warnings)
    logger.info("%s: ZWARN is True in %d of %d rows; %s is taken as good", file, true, len(warnings), good)
    return good


def with_warnings(columns: dict[str, NDArray[Any]], file: str) -> dict[str, NDArray[Any]]:
    """Return the columns of a file with ``ZWARN`` as a number, 0 for good, where it is a bool; see ``true_means_good``.

    Raises ``ValueError`` if a bool ``ZWARN`` does not tell which value is good.
    """
    warnings = columns.get("ZWARN")
    if warnings is None or warnings.dtype.kind != "b":
        return columns
    return columns | {"ZWARN": (warnings != true_means_good(warnings, file)).astype(np.int64)}


def _check_grid(wavelength: NDArray[Any]) -> None:
    """Raise ValueError where the wavelengths (pixel,) are not those of DESI."""
    if wavelength.shape == GRID_ANGSTROM.shape:
        with np.errstate(invalid="ignore"):
            same = np.abs(wavelength - GRID_ANGSTROM) < GRID_TOLERANCE_ANGSTROM
        if same.all():
            return
    raise ValueError(
        f"spectrum_lambda has {wavelength.size} pixels with {grid_text(wavelength)}; DESI has {PIXELS} pixels with "
        f"steps of {STEP_ANGSTROM:g} A from {FIRST_ANGSTROM:g} A"
    )

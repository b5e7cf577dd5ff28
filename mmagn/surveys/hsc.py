"""HSC rows as cutouts: the one place that knows the quirks of the HSC sample.

Its mask is True where a pixel is *clean* (the opposite of SDSS), its fluxes are coadd counts, and an inverse variance
of a pixel without variance is 3.4e38 instead of zero.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmagn.records import BANDS, CUTOUT_PIXELS, IVAR_LIMIT, PIXEL_SCALE_ARCSEC, Cutout
from mmagn.surveys.screen import Column, check_mask
from mmagn.surveys.text import optional_number, plain_text

COUNT_NJY = 57.54399
"""Flux density of one coadd count: AB zero point 27.0 (Aihara et al. 2022, PASJ 74, 247), 10**(0.4 * (31.4 - 27))."""
IMAGE_BANDS = tuple(f"hsc-{band}" for band in BANDS)
"""What ``image_band`` must hold, in this order."""
CUTOUT_SHAPE = (len(BANDS), CUTOUT_PIXELS, CUTOUT_PIXELS)
PIXEL_COLUMNS = ("image_array", "image_ivar", "image_mask")
COLUMNS: Mapping[str, Column] = {
    "object_id": Column(purpose="identity", kind="id"),
    "ra": Column(purpose="position", kind="number"),
    "dec": Column(purpose="position", kind="number"),
    "image_band": Column(purpose="order of the bands", kind="text", axes=(len(BANDS),)),
    "image_array": Column(purpose="flux", kind="number", axes=CUTOUT_SHAPE),
    "image_ivar": Column(purpose="noise", kind="number", axes=CUTOUT_SHAPE),
    "image_mask": Column(purpose="clean pixels", kind="mask", axes=CUTOUT_SHAPE),
    "image_psf_fwhm": Column(purpose="seeing", kind="number", axes=(len(BANDS),)),
    "image_scale": Column(purpose="pixel scale", kind="number", axes=(len(BANDS),), required=False),
    **{f"{band}_cmodel_mag": Column(purpose="magnitude", kind="number", required=False) for band in BANDS},
}
"""Columns that a cutout is made from."""


def check_bands(names: Sequence[Any] | NDArray[Any]) -> None:
    """Raise ValueError where the bands (band,) of a row, text or bytes, are not g, r, i, z, y in that order."""
    bands = tuple(plain_text(name) for name in names)
    if bands != IMAGE_BANDS:
        raise ValueError(f"image_band is {', '.join(bands)}; expected {', '.join(IMAGE_BANDS)} in this order")


def all_usable(least: float, most: float) -> bool:
    """Return whether inverse variances between two values in counts^-2 are usable; published ones are never NaN."""
    return least > 0 and most <= IVAR_LIMIT


def cutout_from_row(row: Mapping[str, Any]) -> Cutout:
    """Return the cutout of one raw HSC row that passed the screen.

    Parameters
    ----------
    row
        Values under the names of ``COLUMNS``; images (band, height, width) in counts and counts^-2. An optional value
        that cannot be read is missing.

    Raises
    ------
    ValueError
        If the row is no usable image: wrong band order, shape or pixel scale, a mask that is not bool or 0 and 1, no
        valid pixel.
    """
    check_bands(row["image_band"])
    scales = [optional_number(scale, PIXEL_SCALE_ARCSEC) for scale in np.ravel(row.get("image_scale", ())).tolist()]
    if not np.allclose(scales, PIXEL_SCALE_ARCSEC, rtol=0.01):
        raise ValueError(f"image_scale is not {PIXEL_SCALE_ARCSEC} arcsec per pixel")
    counts, ivar, clean = (np.asarray(row[name]) for name in PIXEL_COLUMNS)
    for name, values in zip(PIXEL_COLUMNS, (counts, ivar, clean), strict=True):
        if values.shape != CUTOUT_SHAPE:
            raise ValueError(f"{name} has shape {values.shape}; expected {CUTOUT_SHAPE}")
    flux_njy, ivar_njy = _calibrated(counts, ivar, check_mask("image_mask", clean))
    if not (ivar_njy > 0).any():
        raise ValueError("image has no valid pixel")
    fwhm = np.asarray(row["image_psf_fwhm"], dtype=np.float32)
    magnitudes = [optional_number(row.get(f"{band}_cmodel_mag"), np.nan) for band in BANDS]
    return Cutout(
        object_id=plain_text(row["object_id"]),
        ra_deg=float(row["ra"]),
        dec_deg=float(row["dec"]),
        flux=flux_njy,
        ivar=ivar_njy,
        psf_fwhm_arcsec=np.where(np.isfinite(fwhm) & (fwhm > 0), fwhm, np.float32(np.nan)),
        magnitude=np.array(magnitudes, dtype=np.float32),
    )


def _calibrated(
    counts: NDArray[Any], ivar: NDArray[Any], clean: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return flux in nJy, finite everywhere, and its inverse variance, 0 where not valid."""
    with np.errstate(over="ignore", invalid="ignore"):
        flux_njy = np.multiply(counts, np.float32(COUNT_NJY), dtype=np.float32)
        ivar_njy = np.multiply(ivar, np.float32(COUNT_NJY**-2), dtype=np.float32)
        finite = np.isfinite(flux_njy)
        valid = clean & finite & (ivar > 0) & (ivar <= IVAR_LIMIT)
    flux_njy[~finite] = 0
    ivar_njy[~valid] = 0
    return flux_njy, ivar_njy

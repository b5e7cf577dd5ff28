"""Calibrated FITS images, as the HSC cutout service gives them, one band or several in a file, as one cutout."""

import re
from collections import ChainMap
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.stats import sigma_clipped_stats
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales
from numpy.typing import NDArray

from mmagn.records import BANDS, CUTOUT_PIXELS, IVAR_LIMIT, PIXEL_SCALE_ARCSEC, SOURCE_PIXEL, Cutout
from mmagn.surveys.files.fits_file import header_number, opened_fits
from mmagn.surveys.reader import warn_once

BAD_PLANES = ("BAD", "SAT", "NO_DATA")
"""Planes of an LSST-style mask whose pixels are not valid, as in the published sample."""
AB_NJY = 31.4
"""AB magnitude of 1 nJy."""
SCALE_TOLERANCE = 0.01
_FILTER = re.compile(r"(?:hsc-|lsst-|lsst_)?([grizy])2?(?:_\d+)?", re.IGNORECASE)
_NAME = re.compile(r"HSC-([GRIZY])2?(?![A-Za-z0-9])", re.IGNORECASE)

Header = MutableMapping[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Plane:
    """One band of an image: its file, and its pixels with their celestial coordinates.

    ``flux`` and ``ivar`` are (height, width) float64 in nJy and 1/nJy^2, ``ivar`` 0 where not valid.
    """

    band: str
    name: str
    flux: NDArray[np.float64]
    ivar: NDArray[np.float64]
    wcs: WCS

    @property
    def centre(self) -> tuple[float, float]:
        """RA and Dec of the middle of the image in degrees."""
        height, width = self.flux.shape
        ra_deg, dec_deg = self.wcs.pixel_to_world_values((width - 1) / 2, (height - 1) / 2)
        return float(ra_deg), float(dec_deg)


def read_planes(path: str, band: str = "") -> list[Plane]:
    """Return the bands of an image file: one, or all five of a cube.

    Parameters
    ----------
    path
        FITS file with image, mask and variance, in HDUs of these names (EXTNAME, EXTTYPE) or in this order; mask
        and variance may be missing or empty.
    band
        Band that the file has to hold, where its column says so.

    Raises
    ------
    ValueError
        Where there is no image, zero point, celestial WCS or band, or the pixels are not of 0.168 arcsec.
    """
    name = Path(path).name
    with opened_fits(path) as hdus:
        image, mask, variance = _parts(hdus, name)
        header: Header = ChainMap(image.header, hdus[0].header)
        pixels, scale = np.asarray(image.data, dtype=np.float64), _njy_per_unit(header, name)
        wcs = _celestial(image.header, name)
        flux = pixels * scale
        valid = np.isfinite(flux) & _clean(mask, pixels.shape, name)
        stack = flux.reshape(-1, *flux.shape[-2:])
        bands = _bands(header, name, band, len(stack))
        valid = _like(valid, stack)
        if variance is None:
            ivar = np.stack([_background_ivar(*each) for each in zip(stack, valid, strict=True)])
        else:
            ivar = _like(_inverse(np.asarray(variance.data, dtype=np.float64) * scale**2), stack)
        usable = valid & (ivar > 0) & (ivar <= IVAR_LIMIT)
    return [
        Plane(band=each, name=name, flux=np.where(good, values, 0), ivar=np.where(good, noise, 0), wcs=wcs)
        for each, values, noise, good in zip(bands, stack, ivar, usable, strict=True)
    ]


def cutout_of(planes: Sequence[Plane], ra_deg: float, dec_deg: float, object_id: str) -> Cutout:
    """Return the cutout around a position; bands without an image and pixels outside of it are not valid.

    The position comes to lie where sources lie in the published cutouts. Raises ``ValueError`` where a band comes
    twice, the position lies outside of an image, or no pixel is valid.
    """
    flux = np.zeros((len(BANDS), CUTOUT_PIXELS, CUTOUT_PIXELS), dtype=np.float32)
    ivar = np.zeros_like(flux)
    names: dict[str, str] = {}
    for plane in planes:
        if plane.band in names:
            raise ValueError(f"band {plane.band} comes twice, from {names[plane.band]} and {plane.name}")
        names[plane.band] = plane.name
        x, y = (float(value) for value in plane.wcs.world_to_pixel_values(ra_deg, dec_deg))
        height, width = plane.flux.shape
        if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
            raise ValueError(f"the position {ra_deg:.6f} {dec_deg:.6f} lies outside of the image {plane.name}")
        top, left = (int(np.floor(place - (SOURCE_PIXEL - 0.5))) for place in (y, x))
        rows, columns = (slice(max(first, 0), first + CUTOUT_PIXELS) for first in (top, left))
        part = plane.flux[rows, columns]
        into = (
            BANDS.index(plane.band),
            slice(max(-top, 0), max(-top, 0) + part.shape[0]),
            slice(max(-left, 0), max(-left, 0) + part.shape[1]),
        )
        flux[into], ivar[into] = part, plane.ivar[rows, columns]
    if not (ivar > 0).any():
        raise ValueError(f"no pixel is valid in {', '.join(names.values())}")
    unmeasured = np.full(len(BANDS), np.nan, dtype=np.float32)
    return Cutout(
        object_id=object_id,
        ra_deg=ra_deg,
        dec_deg=dec_deg,
        flux=flux,
        ivar=ivar,
        psf_fwhm_arcsec=unmeasured,
        magnitude=unmeasured.copy(),
    )


def _parts(hdus: fits.HDUList, name: str) -> tuple[Any, Any, Any]:
    """Return the HDUs of image, mask and variance; the last two are None where missing or empty."""
    images = [hdu for hdu in hdus if getattr(hdu, "is_image", False)]
    full = [hdu for hdu in images if hdu.data is not None and np.ndim(hdu.data) >= 2]
    if not full:
        raise ValueError(f"{name} has no HDU with an image")

    def named(kind: str) -> Any:
        for hdu in full[1:]:
            stated = (hdu.name.upper(), str(hdu.header.get("EXTTYPE", "")).upper())
            if kind in stated or (kind == "MASK" and any(key.startswith("MP_") for key in hdu.header)):
                return hdu
        return None

    mask, variance = named("MASK"), named("VARIANCE")
    if mask is None and variance is None and len(full) == 3:
        mask, variance = full[1:]
    for what, hdu in (("mask", mask), ("variance", variance)):
        if hdu is not None and np.shape(hdu.data)[-2:] != np.shape(full[0].data)[-2:]:
            raise ValueError(f"the {what} of {name} has shape {np.shape(hdu.data)}, its image {np.shape(full[0].data)}")
    return full[0], mask, variance


def _like(values: NDArray[Any], stack: NDArray[Any]) -> NDArray[Any]:
    """Return (height, width) or (band, height, width) values for each of the bands of a stack."""
    return np.broadcast_to(values.reshape(-1, *values.shape[-2:]), stack.shape)


def _njy_per_unit(header: Header, name: str) -> float:
    """Return the flux density of one unit of the pixels in nJy."""
    zero = header_number(header, "FLUXMAG0")
    if zero > 0:
        return float(10 ** (0.4 * AB_NJY) / zero)
    try:
        return float(u.Unit(str(header.get("BUNIT", ""))).to(u.nJy))
    except (ValueError, TypeError, u.UnitConversionError):
        pass
    magnitude = header_number(header, "MAGZERO", "MAGZPT", "ZEROPNT")
    if np.isfinite(magnitude):
        return float(10 ** (0.4 * (AB_NJY - magnitude)))
    raise ValueError(f"{name} has no zero point; one of FLUXMAG0, MAGZERO (AB), or BUNIT nJy is needed")


def _celestial(header: fits.Header, name: str) -> WCS:
    try:
        wcs = WCS(header, fix=False, naxis=2)
    except ValueError as error:
        raise ValueError(f"the WCS of {name} cannot be used: {' '.join(str(error).split())}") from error
    if not wcs.has_celestial or "RA" not in [str(kind)[:2] for kind in wcs.wcs.ctype]:
        raise ValueError(f"{name} has no WCS in right ascension and declination")
    celestial = wcs.celestial
    scales = 3600 * proj_plane_pixel_scales(celestial)
    if not np.allclose(scales, PIXEL_SCALE_ARCSEC, rtol=SCALE_TOLERANCE):
        text = " x ".join(f"{scale:.4g}" for scale in scales)
        raise ValueError(f"{name} has pixels of {text} arcsec; allowed: {PIXEL_SCALE_ARCSEC} (resample it first)")
    return celestial


def _bands(header: Header, name: str, band: str, count: int) -> tuple[str, ...]:
    """Return the bands of the planes of a file, by its column, its header or its name."""
    if count == len(BANDS) and not band:
        return BANDS
    if count != 1:
        raise ValueError(f"{name} has {count} planes; allowed: one band, or a cube of {', '.join(BANDS)} in this order")
    text = str(header.get("FILTER", "")).strip()
    match = _FILTER.fullmatch(text) or _NAME.search(name)
    stated = match[1].lower() if match else ""
    if band and stated and band != stated:
        raise ValueError(f"{name} is of band {stated}, not {band}")
    if not band and not stated:
        raise ValueError(
            f"the band of {name} is unknown: its FILTER is {text or 'missing'}; allowed: {', '.join(BANDS)}"
        )
    return (band or stated,)


def _clean(mask: Any, shape: tuple[int, ...], name: str) -> NDArray[np.bool_]:
    """Return where no plane of ``BAD_PLANES`` is set; everywhere without a mask."""
    if mask is None:
        return np.ones(shape[-2:], dtype=np.bool_)
    planes = [mask.header.get(f"MP_{plane}") for plane in BAD_PLANES]
    if all(plane is None for plane in planes):
        raise ValueError(f"the mask of {name} does not name its bits (MP_BAD, MP_SAT, MP_NO_DATA)")
    bits = sum(1 << int(plane) for plane in planes if plane is not None)
    return np.asarray(mask.data.astype(np.int64) & bits == 0)


def _inverse(variance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the inverse of variances, 0 where one is not finite and above 0."""
    good = np.isfinite(variance) & (variance > 0)
    return np.where(good, 1 / np.where(good, variance, 1.0), 0.0)


def _background_ivar(flux: NDArray[np.float64], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the inverse variance of the scatter of the background, the same for all pixels."""
    warn_once("images without variances get the scatter of their own background as noise")
    _, _, scatter = sigma_clipped_stats(flux[valid], sigma=3) if valid.any() else (0, 0, 0)
    return np.full(flux.shape, scatter**-2 if scatter > 0 else 0.0)

"""Images of the embedded survey: bulge, spiral disc and nucleus through a PSF, neighbours, noise and artefacts.

Fluxes are coadd counts at AB zero point 27.0, as in the Multimodal Universe files.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import scipy.fft
from astropy.table import Row
from numpy.typing import NDArray
from scipy.special import gamma

from mmagn.records import BANDS, CUTOUT_PIXELS, PIXEL_SCALE_ARCSEC, SOURCE_PIXEL

Singles = NDArray[np.float32]

ZERO_POINT_MAG = 27.0
NO_VARIANCE = np.float32(3.4028235e38)
"""Inverse variance that the files hold where the variance is 0."""
NOISE_EXCESS = 1.12
"""Background noise over what the inverse variance says: correlated coadd noise."""
FRAME = 192
"""Side of the rendered frame; the cutout is cut from its middle, away from the periodic edge."""
SKY_SIGMA_COUNTS = np.array([0.020, 0.024, 0.030, 0.044, 0.078], dtype=np.float32)
"""Noise per pixel and band that the inverse variance states, of the order of the HSC deep layer."""
SKY_COUNTS = np.array([2.8, 7.0, 19.5, 45.0, 100.0], dtype=np.float32)
"""Sky brightness per pixel; sets how much Poisson noise the sources add."""
FWHM_MEDIAN_ARCSEC = np.array([0.78, 0.74, 0.61, 0.67, 0.66])
_FWHM_GRID_ARCSEC = np.arange(0.45, 1.1001, 0.01)
_MOFFAT_BETA = 3.5
_MARGIN = (FRAME - CUTOUT_PIXELS) // 2
_STAMP = 24
_BULGE_COLOUR = np.array([0.72, 0.9, 1.0, 1.06, 1.1])
_NUCLEUS_COLOUR = np.array([0.85, 0.95, 1.0, 1.0, 1.0])


@dataclass(frozen=True, kw_only=True)
class ImagePixels:
    """Pixels of one cutout in the units and polarities of the files, (band, height, width).

    Attributes
    ----------
    flux
        Coadd counts.
    ivar
        1/counts^2, ``NO_VARIANCE`` where the variance is 0.
    clean
        True where no flag is set.
    psf_fwhm_arcsec
        (band,), 0 where unmeasured.
    """

    flux: Singles
    ivar: Singles
    clean: NDArray[np.bool_]
    psf_fwhm_arcsec: Singles


def sersic(
    centre_xy: tuple[float, float], radius: float, index: float, axis_ratio: float, angle_rad: float, side: int = FRAME
) -> Singles:
    """Return a Sersic profile of total flux 1 on a square frame, (height, width) (Graham & Driver 2005, PASA 22, 118).

    Position and half-light radius along the major axis are in pixels, 0 at the middle of the first pixel; the angle is
    that of the major axis from x.
    """
    b = 2 * index - 1 / 3 + 4 / (405 * index) + 46 / (25515 * index**2)
    total = 2 * np.pi * index * radius**2 * axis_ratio * np.exp(b) * b ** (-2 * index) * gamma(2 * index)

    def profile(x: Any, y: Any) -> Any:
        u = (x * np.cos(angle_rad) + y * np.sin(angle_rad)) / radius
        v = (y * np.cos(angle_rad) - x * np.sin(angle_rad)) / (radius * axis_ratio)
        return np.exp(-b * ((u * u + v * v) ** np.float32(0.5 / index) - 1)) / total

    axis = np.arange(side, dtype=np.float32)
    image = profile(axis - np.float32(centre_xy[0]), (axis - np.float32(centre_xy[1]))[:, None])
    low = [int(np.clip(round(c) - 6, 0, side - 13)) for c in centre_xy]
    fine = (np.arange(13 * 9, dtype=np.float32) - 4) / 9
    core = profile(fine + np.float32(low[0] - centre_xy[0]), (fine + np.float32(low[1] - centre_xy[1]))[:, None])
    image[low[1] : low[1] + 13, low[0] : low[0] + 13] = core.reshape(13, 9, 13, 9).mean(axis=(1, 3))
    return np.asarray(image, dtype=np.float32)


@cache
def _psf_transforms() -> NDArray[np.complex64]:
    """Return the Fourier transform of a Moffat PSF for each width of the grid, (width, frame, frame // 2 + 1)."""
    steps = np.arange(FRAME)
    axis = np.minimum(steps, FRAME - steps) * PIXEL_SCALE_ARCSEC
    squared = axis**2 + axis[:, None] ** 2
    transforms = []
    for fwhm in _FWHM_GRID_ARCSEC:
        core = fwhm / (2 * np.sqrt(2 ** (1 / _MOFFAT_BETA) - 1))
        psf = (1 + squared / core**2) ** -_MOFFAT_BETA
        transforms.append(scipy.fft.rfft2((psf / psf.sum()).astype(np.float32)))
    return np.stack(transforms).astype(np.complex64)


@cache
def _wavenumbers() -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
    along_x = (-2j * np.pi * scipy.fft.rfftfreq(FRAME)).astype(np.complex64)
    along_y = (-2j * np.pi * scipy.fft.fftfreq(FRAME)).astype(np.complex64)
    return along_x, along_y


def _point_transform(x: float, y: float) -> NDArray[np.complex64]:
    along_x, along_y = _wavenumbers()
    return np.asarray(np.exp(along_y * np.float32(y))[:, None] * np.exp(along_x * np.float32(x)))


def counts(magnitude: Any) -> Any:
    """Return coadd counts of AB magnitudes."""
    return 10 ** (-0.4 * (np.asarray(magnitude) - ZERO_POINT_MAG))


def _add_galaxy(scene: Singles, points: NDArray[np.complex64], galaxy: Row, x: float, y: float) -> None:
    """Add host (to ``scene``) and nucleus (to ``points``) of one galaxy, both without PSF."""
    total = counts(galaxy["magnitude"])
    share = galaxy["bulge_fraction"] * _BULGE_COLOUR
    share = share / (share + 1 - galaxy["bulge_fraction"])
    angle = galaxy["angle_rad"]
    bulge_radius = galaxy["bulge_radius_arcsec"] / PIXEL_SCALE_ARCSEC
    bulge = sersic((x, y), bulge_radius, galaxy["bulge_index"], galaxy["bulge_axis_ratio"], angle)
    disc_radius = galaxy["disc_radius_arcsec"] / PIXEL_SCALE_ARCSEC
    disc = sersic((x, y), disc_radius, 1.0, galaxy["disc_axis_ratio"], angle)
    disc *= _spiral(galaxy, x, y, disc_radius)
    scene += (total * share)[:, None, None].astype(np.float32) * bulge
    scene += (total * (1 - share))[:, None, None].astype(np.float32) * disc
    nucleus = total[2] * galaxy["nucleus_fraction"] * _NUCLEUS_COLOUR
    points += nucleus.astype(np.float32)[:, None, None] * _point_transform(x, y)


def _spiral(galaxy: Row, x: float, y: float, radius: float) -> Singles:
    """Return the modulation of a disc by a two-armed logarithmic spiral, (height, width), mean 1 over an orbit."""
    axis = np.arange(FRAME, dtype=np.float32)
    dx, dy = axis - np.float32(x), (axis - np.float32(y))[:, None]
    cosine, sine = np.float32(np.cos(galaxy["angle_rad"])), np.float32(np.sin(galaxy["angle_rad"]))
    u = (dx * cosine + dy * sine) / np.float32(radius)
    v = (dy * cosine - dx * sine) / np.float32(radius * galaxy["disc_axis_ratio"])
    squared = u * u + v * v
    phase = 2 * np.arctan2(v, u) - np.float32(galaxy["winding"]) * np.log(squared + np.float32(0.02))
    arms = np.cos(phase) * np.minimum(squared * 2, 1)
    return np.asarray(1 + np.float32(galaxy["spiral"]) * arms, dtype=np.float32)


def _add_field(scene: Singles, points: NDArray[np.complex64], rng: np.random.Generator) -> None:
    """Add faint galaxies of the field, 21 < i < 26, and now and then a star."""
    for _ in range(rng.poisson(6)):
        magnitude = max(20.5, 26 - rng.exponential(1.45))
        colour = rng.normal(0.4, 0.3) * np.array([1.6, 0.7, 0.0, -0.35, -0.5])
        radius = 2.2 * 10 ** rng.normal(0, 0.2) * 10 ** (0.06 * (24 - magnitude))
        x, y = rng.uniform(0, FRAME - 1, 2)
        low_x, low_y = (int(np.clip(round(c) - _STAMP // 2, 0, FRAME - _STAMP)) for c in (x, y))
        centre = (x - low_x, y - low_y)
        stamp = sersic(centre, radius, 1.0, rng.uniform(0.3, 1.0), rng.uniform(0, np.pi), side=_STAMP)
        flux = counts(magnitude + colour)[:, None, None].astype(np.float32)
        scene[:, low_y : low_y + _STAMP, low_x : low_x + _STAMP] += flux * stamp
    for _ in range(rng.poisson(0.4)):
        x, y = rng.uniform(0, FRAME - 1, 2)
        colour = rng.uniform(0.0, 1.0) * np.array([1.3, 0.5, 0.0, -0.2, -0.3])
        flux = counts(rng.uniform(18.5, 24.0) + colour).astype(np.float32)
        points += flux[:, None, None] * _point_transform(x, y)


def image_pixels(
    galaxy: Row, neighbour: Row | None, neighbour_offset_arcsec: tuple[float, float], rng: np.random.Generator
) -> ImagePixels:
    """Return the cutout of one galaxy, with a catalogued neighbour (along x and y of the image) where it has one."""
    fwhm = np.clip(FWHM_MEDIAN_ARCSEC * np.exp(0.08 * rng.standard_normal(5)), 0.46, 1.09)
    nearest = np.rint((fwhm - _FWHM_GRID_ARCSEC[0]) / 0.01).astype(int)
    x, y = SOURCE_PIXEL + _MARGIN + rng.uniform(-0.5, 0.5, 2)
    scene = np.zeros((len(BANDS), FRAME, FRAME), dtype=np.float32)
    points = np.zeros((len(BANDS), FRAME, FRAME // 2 + 1), dtype=np.complex64)
    _add_galaxy(scene, points, galaxy, x, y)
    if neighbour is not None:
        dx, dy = (offset / PIXEL_SCALE_ARCSEC for offset in neighbour_offset_arcsec)
        _add_galaxy(scene, points, neighbour, x + dx, y + dy)
    _add_field(scene, points, rng)
    points += scipy.fft.rfft2(scene)
    points *= _psf_transforms()[nearest]
    inner = slice(_MARGIN, _MARGIN + CUTOUT_PIXELS)
    flux = np.ascontiguousarray(scipy.fft.irfft2(points, s=(FRAME, FRAME))[:, inner, inner])
    return _observed(flux, _FWHM_GRID_ARCSEC[nearest].astype(np.float32), rng)


def _observed(flux: Singles, fwhm_arcsec: Singles, rng: np.random.Generator) -> ImagePixels:
    """Return the cutout with noise and artefacts."""
    depth = np.exp(0.12 * rng.standard_normal(5)).astype(np.float32) * SKY_SIGMA_COUNTS
    background = np.broadcast_to((depth**2)[:, None, None], flux.shape).copy()
    if rng.random() < 0.3:  # a detector edge: fewer visits on one side
        background[:, :, : rng.integers(10, CUTOUT_PIXELS)] *= np.float32(rng.uniform(1.05, 1.4))
    variance = background * (1 + np.maximum(flux, 0) / SKY_COUNTS[:, None, None])
    white = rng.standard_normal((5, CUTOUT_PIXELS + 1, CUTOUT_PIXELS + 1), dtype=np.float32)
    along = white[:, :, 1:] + np.float32(0.3) * white[:, :, :-1]
    noise = (along[:, 1:] + np.float32(0.3) * along[:, :-1]) * np.float32(NOISE_EXCESS / 1.09)
    flux = flux + np.sqrt(variance) * noise
    flux = _quantised(flux, depth)
    ivar = _rounded((1 / variance).astype(np.float32))
    clean = np.ones(flux.shape, dtype=np.bool_)
    _add_artefacts(flux, ivar, clean, rng)
    psf = fwhm_arcsec.copy()
    if rng.random() < 0.01:
        psf[rng.integers(0, 5)] = 0
    return ImagePixels(flux=flux, ivar=ivar, clean=clean, psf_fwhm_arcsec=psf)


def _quantised(flux: Singles, sigma: Singles) -> Singles:
    """Return flux in steps of a power of 2 below 1/16 of the noise, which halves the files and adds no noise."""
    step = np.exp2(np.floor(np.log2(sigma / 16)))[:, None, None].astype(np.float32)
    return np.asarray(np.rint(flux / step) * step, dtype=np.float32)


def _rounded(values: Singles) -> Singles:
    """Return values to 8 bits of mantissa: an inverse variance needs no more, and such files are small."""
    bits = values.view(np.uint32)
    return np.asarray(((bits + np.uint32(1 << 14)) & np.uint32(0xFFFF8000)).view(np.float32))


def _add_artefacts(flux: Singles, ivar: Singles, clean: NDArray[np.bool_], rng: np.random.Generator) -> None:
    """Add, each to some cutouts: a saturated star's bleed, a satellite trail, an edge without data, single pixels."""
    side = CUTOUT_PIXELS
    if rng.random() < 0.06:  # bleed down one column of a star that lies off the galaxy
        column, width = int(rng.choice(np.r_[5:55, 105:155])), int(rng.integers(2, 6))
        start, stop = np.sort(rng.integers(0, side, 2))
        clean[:, start:stop, column : column + width] = False
        flux[:, start:stop, column : column + width] += np.float32(rng.uniform(50, 400))
    if rng.random() < 0.05:  # trail through one band
        angle, offset, band = rng.uniform(0, np.pi), rng.uniform(-70, 70), int(rng.integers(0, 5))
        axis = np.arange(side) - side / 2
        hit = np.abs(axis * np.cos(angle) + axis[:, None] * np.sin(angle) - offset) < 2.5
        clean[band, hit] = False
        flux[band, hit] += np.float32(rng.uniform(0.3, 3))
    if rng.random() < 0.03:  # edge of the coadd
        band, rows = int(rng.integers(0, 5)), int(rng.integers(2, 25))
        clean[band, -rows:] = False
        flux[band, -rows:] = 0
        ivar[band, -rows:] = NO_VARIANCE
    if rng.random() < 0.3:  # pixels without variance that no flag names
        number = int(rng.integers(1, 6))
        where = tuple(rng.integers(0, size, number) for size in flux.shape)
        ivar[where] = NO_VARIANCE

"""The spectrographs of the embedded survey: wavelength grid, instrumental width, sky noise."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from mmagn.records import LOG10_STEP, Floats

Singles = NDArray[np.float32]

FIBRES = 8
"""Fibres with an instrumental width of their own."""
_SKY_SEED = 5577


@dataclass(frozen=True, kw_only=True)
class Spectrograph:
    """A wavelength grid and its throughput.

    Attributes
    ----------
    start_log10
        log10 of the first wavelength in Angstrom.
    pixels
        Length of the grid in steps of ``LOG10_STEP`` dex.
    noise
        Sky noise per pixel at 6000 A in 1e-17 erg/s/cm2/A.
    lsf_sigma
        Instrumental dispersion in pixels at the ends of the blue and of the red arm.
    """

    start_log10: float
    pixels: int
    noise: float
    lsf_sigma: tuple[float, float, float, float]

    @property
    def log10_angstrom(self) -> Floats:
        """(pixel,) log10 of the vacuum wavelength, observed frame."""
        return np.asarray(self.start_log10 + LOG10_STEP * np.arange(self.pixels), dtype=np.float64)


SPECTROGRAPHS = {  # DESI's own grid is linear; this one covers it
    "sdss": Spectrograph(start_log10=3.5788, pixels=3860, noise=1.15, lsf_sigma=(1.14, 0.77, 0.93, 0.73)),
    "boss": Spectrograph(start_log10=3.5515, pixels=4650, noise=0.95, lsf_sigma=(1.45, 0.95, 1.00, 0.72)),
    "desi": Spectrograph(start_log10=3.5560, pixels=4366, noise=0.8, lsf_sigma=(0.84, 0.50, 0.50, 0.31)),
}


@cache
def fibre_lsf(survey: str) -> Singles:
    """Return the instrumental dispersion of each fibre, (fibre, pixel), in pixels; the arms meet at 6000 A."""
    grid = SPECTROGRAPHS[survey]
    log10 = grid.log10_angstrom
    seam = np.log10(6000.0)
    low, blue_end, red_start, high = grid.lsf_sigma
    blue = low + (blue_end - low) * (log10 - log10[0]) / (seam - log10[0])
    red = red_start + (high - red_start) * (log10 - seam) / (log10[-1] - seam)
    share = 1 / (1 + np.exp(-(log10 - seam) / 0.004))
    return np.asarray(np.linspace(0.93, 1.12, FIBRES)[:, None] * (blue * (1 - share) + red * share), dtype=np.float32)


@cache
def sky_noise(survey: str) -> Floats:
    """Return the noise of an empty fibre, (pixel,), 1e-17 erg/s/cm2/A: rising to both ends, spikes at sky lines."""
    grid = SPECTROGRAPHS[survey]
    angstrom = 10**grid.log10_angstrom
    level = 1 + 1.8 * np.exp(-(angstrom - 3600.0) / 420.0) + 0.35 * np.clip((angstrom - 7000.0) / 2000.0, 0, None) ** 2
    rng = np.random.default_rng(_SKY_SEED)
    forest = np.sort(rng.uniform(6850.0, 10400.0, 150))
    heights = rng.exponential(0.8, 150) * np.clip((forest - 6600.0) / 1600.0, 0.2, 1.6)
    lines = [(5578.9, 5.0), (5891.6, 0.9), (6302.0, 1.6), (6365.5, 0.6), *zip(forest, heights, strict=True)]
    for centre, height in lines:
        level += height * np.exp(-0.5 * ((grid.log10_angstrom - np.log10(centre)) / (1.3 * LOG10_STEP)) ** 2)
    return np.asarray(grid.noise * level)

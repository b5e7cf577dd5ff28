"""Starlight of the embedded survey: four ages of stars with breaks, Balmer and metal absorption.

The shapes are stylised, not synthesised: black bodies with a 4000 A break (Balmer break for the A stars) and
Gaussian absorption features at their vacuum wavelengths with the equivalent widths of nearby galaxies.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from mmagn.lines import LINE_BY_NAME
from mmagn.records import Floats

POPULATIONS = ("young", "intermediate", "mature", "old")
SIGMA_LEVELS_KMS = np.array([60.0, 75.0, 90.0, 110.0, 130.0, 150.0, 175.0, 200.0, 230.0, 260.0, 300.0, 350.0])
"""Stellar velocity dispersions that exist in the survey."""
GRID_STEP = 5e-5
GRID_LOG10 = np.log10(2550.0) + GRID_STEP * np.arange(12600)
"""Rest-frame grid of the templates, log10 Angstrom, half an SDSS pixel per step; ends at 10,880 A."""
HBETA_ABSORPTION_ANGSTROM = np.array([3.2, 6.6, 3.6, 1.3])
"""Equivalent width of H-beta absorption of each population."""
HALPHA_OVER_HBETA_ABSORPTION = 0.65
_MEAN_LSF_KMS = 65.0
_KMS_PER_STEP = 299792.458 * np.log(10) * GRID_STEP
_TEMPERATURE_K = (15000.0, 9500.0, 6200.0, 4350.0)
_BREAK_4000 = (0.03, 0.10, 0.22, 0.40)
_BREAK_3700 = (0.10, 0.38, 0.12, 0.0)
_METAL_STRENGTH = np.array([0.08, 0.2, 0.6, 1.0])
_BALMER = (  # wavelength, equivalent width over that of H-beta
    (LINE_BY_NAME["halpha"].wavelength_angstrom, HALPHA_OVER_HBETA_ABSORPTION),
    (LINE_BY_NAME["hbeta"].wavelength_angstrom, 1.0),
    (4341.684, 1.05),
    (4102.892, 1.1),
    (3971.195, 1.0),
    (3890.151, 0.85),
    (3836.472, 0.7),
    (3798.976, 0.5),
    (3771.701, 0.35),
)
_METALS = (  # wavelength, sigma, equivalent width in old stars, all Angstrom
    (3934.78, 5.5, 5.5),  # Ca K
    (3969.59, 5.5, 5.0),  # Ca H
    (4227.9, 2.5, 1.0),  # Ca I
    (4305.6, 8.0, 5.0),  # G band
    (4384.8, 4.0, 2.0),  # Fe
    (4532.0, 5.0, 1.8),  # Fe
    (4670.0, 10.0, 2.5),  # C2
    (5100.0, 45.0, 5.0),  # MgH
    (5168.7, 2.5, 0.8),  # Mg b
    (5174.1, 2.5, 1.1),
    (5185.0, 2.5, 1.2),
    (5271.0, 4.0, 2.0),  # Fe
    (5333.0, 4.0, 1.7),  # Fe
    (5407.0, 4.0, 1.0),  # Fe
    (5891.6, 2.2, 1.4),  # Na D
    (5897.6, 2.2, 1.1),
    (6192.0, 30.0, 2.5),  # TiO
    (7100.0, 45.0, 6.0),  # TiO
    (7700.0, 60.0, 4.0),  # TiO
    (8500.4, 3.0, 1.3),  # Ca triplet
    (8544.4, 3.5, 3.2),
    (8664.5, 3.5, 2.7),
)
_FOREST_SEED = 4000


def smooth_continuum(rest_angstrom: Floats) -> Floats:
    """Return the continuum (population, pixel) without absorption features, per Angstrom, 1 at 5500 A."""
    return _unscaled_continuum(rest_angstrom) / _unscaled_continuum(np.array([5500.0]))


def _unscaled_continuum(rest_angstrom: Floats) -> Floats:
    rows = []
    for kelvin, deep, deeper in zip(_TEMPERATURE_K, _BREAK_4000, _BREAK_3700, strict=True):
        planck = (5500.0 / rest_angstrom) ** 5 / np.expm1(1.43877e8 / (rest_angstrom * kelvin))
        at_4000 = 1 - deep / (1 + np.exp((rest_angstrom - 3995.0) / 25.0))
        at_3700 = 1 - deeper / (1 + np.exp((rest_angstrom - 3720.0) / 30.0))
        rows.append(planck * at_4000 * at_3700)
    return np.stack(rows)


def _absorption(centre: float, sigma: float, width_angstrom: float, rest: Floats) -> Floats:
    depth = width_angstrom / (sigma * np.sqrt(2 * np.pi))
    return np.asarray(depth * np.exp(-0.5 * ((rest - centre) / sigma) ** 2))


def _balmer_depth(rest: Floats) -> Floats:
    shape = np.zeros_like(rest)
    for centre, ratio in _BALMER:
        shape += _absorption(centre, 4.0, 0.6 * ratio, rest) + _absorption(centre, 11.0, 0.4 * ratio, rest)
    return HBETA_ABSORPTION_ANGSTROM[:, None] * shape


def _metal_depth(rest: Floats) -> Floats:
    rng = np.random.default_rng(_FOREST_SEED)
    centres = np.arange(2600.0, 10800.0, 6.0) + rng.uniform(-3, 3, 1367)
    widths = rng.exponential(0.5, centres.size) * np.minimum((4300.0 / centres) ** 3.5, 1.6)
    shape = np.zeros_like(rest)
    sigmas = 2.0 + 1.5 * (np.arange(centres.size) % 3)
    for centre, sigma, width in [*_METALS, *zip(centres, sigmas, widths, strict=True)]:
        low, high = np.searchsorted(rest, (centre - 6 * sigma, centre + 6 * sigma))
        shape[low:high] += _absorption(centre, sigma, width, rest[low:high])
    return np.asarray(_METAL_STRENGTH[:, None] * np.minimum(shape, 0.65))


@cache
def stellar_basis() -> NDArray[np.float32]:
    """Return the templates, broadened by every dispersion of ``SIGMA_LEVELS_KMS`` and the mean instrument.

    Returns
    -------
    (level, 2 x population, pixel) on ``GRID_LOG10``. A galaxy with light fractions w (at 5500 A) and metal strength m
    is ``concatenate([w, -m w]) @ basis[level]``.
    """
    rest = 10**GRID_LOG10
    plain = smooth_continuum(rest) * (1 - _balmer_depth(rest))
    both = np.concatenate([plain, plain * _metal_depth(rest)])
    steps = np.hypot(SIGMA_LEVELS_KMS, _MEAN_LSF_KMS) / _KMS_PER_STEP
    return np.stack([gaussian_filter1d(both, step, axis=1, mode="nearest") for step in steps]).astype(np.float32)


def continuum_at(fractions: Floats, dust_tau: Floats, rest_angstrom: Floats) -> Floats:
    """Return the featureless reddened continuum of each galaxy at one rest-frame wavelength of its own (object,).

    ``fractions`` (object, population) and ``dust_tau`` (object,) are light fractions and optical depth at 5500 A.
    """
    stars = np.einsum("op,po->o", fractions, smooth_continuum(rest_angstrom))
    return np.asarray(stars * np.exp(-dust_tau * dust_shape(rest_angstrom)))


def dust_shape(rest_angstrom: float | Floats) -> Floats:
    """Return the optical depth over that at 5500 A (power law -0.7; Charlot & Fall 2000, ApJ 539, 718)."""
    return (np.asarray(rest_angstrom) / 5500.0) ** -0.7


def balmer_absorption_angstrom(fractions: Floats) -> tuple[Floats, Floats]:
    """Return the equivalent widths of H-beta and H-alpha absorption, (object,) each, positive."""
    widths = []
    for name, ratio in (("hbeta", 1.0), ("halpha", HALPHA_OVER_HBETA_ABSORPTION)):
        light = fractions * smooth_continuum(np.array([LINE_BY_NAME[name].wavelength_angstrom]))[:, 0]
        widths.append(light @ (ratio * HBETA_ABSORPTION_ANGSTROM) / light.sum(axis=1))
    return widths[0], widths[1]

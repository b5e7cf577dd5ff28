"""What stars absorb around the lines that are measured: Balmer profiles and a forest of metal lines."""

import numpy as np
from scipy.special import voigt_profile

from mmagn.lines import LINE_BY_NAME
from mmagn.records import Floats
from mmagn.spectroscopy.batch import PIXEL_ANGSTROM, REST_ANGSTROM, SLOTS, slots_between

MEAN_WIDTHS_ANGSTROM = (4.5, 3.5)
"""Gaussian sigma and Lorentzian half-width of a Balmer absorption between the narrow lines of old stars and the wide
wings of A stars."""
EXTREME_WIDTHS_ANGSTROM = ((3.0, 3.0), (7.0, 3.5))
"""The same of a narrow and of a wide absorption."""
METAL_SIGMA_ANGSTROM = 4.0
METALS: tuple[tuple[int, float], ...] = (
    (4733, 0.64), (4758, 0.31), (4767, 0.92), (4776, 0.17), (4788, 0.73), (4802, 0.11), (4810, 0.38), (4829, 0.43),
    (4836, 0.21), (4843, 0.48), (4862, 0.26), (4875, 0.94), (4889, 1.25), (4911, 0.33), (4922, 1.27), (4939, 0.54),
    (4961, 0.51), (4970, 0.20), (4985, 1.11), (4997, 0.23), (5005, 0.97), (5011, 0.24), (5016, 1.16), (5025, 0.80),
    (5041, 1.01), (5051, 0.31), (5071, 0.39), (5082, 0.88), (5102, 0.40), (5109, 0.44), (5128, 0.70), (5135, 0.31),
    (6193, 0.32), (6219, 0.49), (6230, 0.36), (6235, 0.26), (6245, 0.49), (6254, 0.38), (6260, 0.54), (6268, 0.15),
    (6278, 0.10), (6302, 0.26), (6319, 0.30), (6341, 0.17), (6359, 0.20), (6364, 0.46), (6396, 0.19), (6402, 0.12),
    (6413, 0.13), (6420, 0.15), (6435, 0.10), (6454, 0.19), (6486, 0.21), (6498, 1.01), (6508, 0.12), (6519, 0.12),
    (6551, 0.15), (6578, 0.22), (6596, 0.33), (6609, 0.19), (6631, 0.15), (6638, 0.22), (6663, 0.21), (6668, 0.15),
    (6681, 0.26), (6699, 0.18), (6709, 0.14), (6719, 0.40), (6728, 0.17), (6744, 0.21), (6752, 0.23), (6790, 0.16),
    (6843, 0.23), (6853, 0.12), (6860, 0.30), (6869, 0.28), (6877, 0.28),
)  # fmt: skip
"""Vacuum wavelength and equivalent width (Angstrom) of Gaussians that together make the metal absorption of old stars,
below the envelope of a polynomial: measured on E-MILES populations (Vazdekis et al. 2016, MNRAS 463, 3409) older than
5 Gyr with [M/H] > -0.5, broadened to 200 km/s; the curve is met to 0.009 (blue) and 0.003 (red) of the continuum."""


def balmer_absorption(
    line: str, low_angstrom: float, high_angstrom: float, widths_angstrom: tuple[float, float] = MEAN_WIDTHS_ANGSTROM
) -> Floats:
    """Return (pixel,) a stellar Balmer absorption of equivalent width 1 A on a continuum of 1, negative.

    A Voigt profile, cut at the window; ``widths_angstrom`` are its Gaussian sigma and its Lorentzian half-width.
    """
    slots = slots_between(low_angstrom, high_angstrom)
    profile = np.zeros(SLOTS)
    offset = REST_ANGSTROM[slots] - LINE_BY_NAME[line].wavelength_angstrom
    profile[slots] = -voigt_profile(offset, *widths_angstrom)
    return np.asarray(profile / -(profile * PIXEL_ANGSTROM).sum())


def balmer_shape(line: str, low_angstrom: float, high_angstrom: float) -> Floats:
    """Return (pixel,) what makes a Balmer absorption narrower at the same equivalent width: a difference of 1 A."""
    narrow, wide = (balmer_absorption(line, low_angstrom, high_angstrom, widths) for widths in EXTREME_WIDTHS_ANGSTROM)
    return np.asarray(narrow - wide)


def metal_absorption(low_angstrom: float, high_angstrom: float) -> Floats:
    """Return (pixel,) the metal absorption of old stars on a continuum of 1 inside a window, negative."""
    slots = slots_between(low_angstrom, high_angstrom)
    profile = np.zeros(SLOTS)
    for centre, width in METALS:
        z = (REST_ANGSTROM[slots] - centre) / METAL_SIGMA_ANGSTROM
        profile[slots] -= width * np.exp(-0.5 * z * z) / (METAL_SIGMA_ANGSTROM * np.sqrt(2 * np.pi))
    return profile

"""What stars absorb around the lines that are measured: a young and an old population as sums of Gaussians."""

import numpy as np

from mmagn.lines import LINE_BY_NAME
from mmagn.records import LIGHT_SPEED_KMS, Floats
from mmagn.spectroscopy.batch import REST_ANGSTROM, SLOTS, slots_between

YOUNG, OLD, BOTH = (1.0, 0.0), (0.0, 1.0), (0.5, 0.5)
"""Shares of light of young and of old stars."""
TABLE_SIGMA_KMS = 130.0
TYPICAL_SIGMA_KMS, NARROW_SIGMA_KMS, WIDE_SIGMA_KMS = 160.0, 110.0, 220.0
"""Width of stellar features in galaxies, instrument included: typical, small and large."""
CORE_SIGMA_ANGSTROM = 2.8
MARGIN_ANGSTROM = 10.0
"""Features so far outside a window still count."""
FEATURES: tuple[tuple[int, float, float], ...] = (
    (4731, 0.08, 0.33), (4768, 0.15, 0.53), (4790, 0.07, 0.33), (4830, 0.05, 0.16), (4834, 0.03, 0.17),
    (4841, 0.08, 0.25), (4845, 0.08, 0.18), (4849, 0.15, 0.07), (4852, 0.17, 0.11), (4855, 0.30, 0.14),
    (4858, 0.59, 0.41), (4861, 0.83, 0.22), (4864, 0.83, 0.29), (4867, 0.56, 0.33), (4870, 0.29, 0.20),
    (4873, 0.27, 0.63), (4876, 0.15, 0.25), (4879, 0.10, 0.17), (4885, 0.13, 0.30), (4888, 0.05, 0.21),
    (4891, 0.15, 0.58), (4893, 0.00, 0.10), (4920, 0.04, 0.39), (4923, 0.36, 0.69), (4940, 0.08, 0.43),
    (4959, 0.09, 0.45), (4983, 0.12, 0.45), (4986, 0.12, 0.44), (5002, 0.15, 0.45), (5008, 0.20, 0.62),
    (5014, 0.08, 0.39), (5017, 0.29, 0.58), (5023, 0.22, 0.52), (5042, 0.27, 0.76), (5081, 0.14, 0.50),
    (5126, 0.10, 0.34), (6193, 0.14, 0.40), (6217, 0.11, 0.33), (6222, 0.11, 0.30), (6232, 0.19, 0.49),
    (6244, 0.23, 0.50), (6255, 0.16, 0.38), (6259, 0.11, 0.31), (6262, 0.09, 0.23), (6303, 0.09, 0.21),
    (6318, 0.08, 0.26), (6360, 0.13, 0.27), (6365, 0.15, 0.33), (6498, 0.49, 0.89), (6549, 0.23, 0.11),
    (6554, 0.23, 0.09), (6558, 0.25, 0.10), (6564, 0.50, 0.13), (6569, 0.20, 0.00), (6574, 0.25, 0.15),
    (6577, 0.20, 0.13), (6582, 0.11, 0.03), (6585, 0.03, 0.00), (6595, 0.12, 0.23), (6719, 0.12, 0.29),
    (6845, 0.12, 0.24), (6861, 0.19, 0.36), (6870, 0.15, 0.25), (6875, 0.11, 0.22), (6883, 0.23, 0.49),
)  # fmt: skip
"""Vacuum wavelength, equivalent width in young and in old stars (Angstrom) of Gaussians ``TABLE_SIGMA_KMS`` wide."""
BALMER: dict[str, tuple[tuple[float, float, float], ...]] = {
    "hbeta": ((2.2, 0.45, 0.85), (11.0, 2.20, 0.0), (25.0, 2.30, 0.0)),
    "halpha": ((2.2, 0.21, 0.43), (5.0, 2.12, 1.11), (25.0, 1.84, 0.0)),
}
"""Sigma, and equivalent width in young and in old stars (Angstrom), of Gaussians at the line itself.

Together with the features they are the absorption below a polynomial around the line, measured on E-MILES populations
(Vazdekis et al. 2016, MNRAS 463, 3409): younger than 0.4 Gyr with [M/H] > -0.8, older than 5 Gyr with [M/H] > -0.5."""

HOT: dict[str, tuple[tuple[float, float], ...]] = {
    "hbeta": ((4.5, 0.6), (11.0, 0.4)),
    "halpha": ((4.5, 0.39), (11.0, 0.26)),
}
"""Sigma and equivalent width (Angstrom) of the Balmer lines of stars too hot for metal lines, 1 A at H-beta."""


def stellar_absorption(
    line: str,
    window_angstrom: tuple[float, float],
    shares: tuple[float, float],
    sigma_kms: float = TYPICAL_SIGMA_KMS,
) -> Floats:
    """Return (pixel,) what stars absorb in the window of a Balmer line, on a continuum of 1, negative.

    Parameters
    ----------
    line
        ``hbeta`` or ``halpha``.
    window_angstrom
        First and last rest wavelength; 0 outside.
    shares
        Light of young and of old stars.
    sigma_kms
        Width of their features, instrument included.
    """
    centre = LINE_BY_NAME[line].wavelength_angstrom
    low, high = window_angstrom[0] - MARGIN_ANGSTROM, window_angstrom[1] + MARGIN_ANGSTROM
    sigma = centre * TABLE_SIGMA_KMS / LIGHT_SPEED_KMS
    rows = [(float(at), sigma, young, old) for at, young, old in FEATURES if low < at < high]
    rows += [(centre, *row) for row in BALMER[line]]
    broader = (centre / LIGHT_SPEED_KMS) ** 2 * (sigma_kms**2 - TABLE_SIGMA_KMS**2)
    profiles = [
        (shares[0] * young + shares[1] * old) * _gaussian(at, (sigma**2 + broader) ** 0.5, window_angstrom)
        for at, sigma, young, old in rows
    ]
    return np.asarray(-np.sum(profiles, axis=0))


def hot_absorption(line: str, window_angstrom: tuple[float, float]) -> Floats:
    """Return (pixel,) what stars without metal lines absorb, with 1 A at H-beta on a continuum of 1, negative."""
    centre = LINE_BY_NAME[line].wavelength_angstrom
    profiles = [width * _gaussian(centre, sigma, window_angstrom) for sigma, width in HOT[line]]
    return np.asarray(-np.sum(profiles, axis=0))


def balmer_core(line: str, window_angstrom: tuple[float, float]) -> Floats:
    """Return (pixel,) the core of Balmer absorption, of an equivalent width of 1 A on a continuum of 1, negative."""
    return -_gaussian(LINE_BY_NAME[line].wavelength_angstrom, CORE_SIGMA_ANGSTROM, window_angstrom)


def _gaussian(centre: float, sigma: float, window_angstrom: tuple[float, float]) -> Floats:
    """Return (pixel,) a Gaussian of unit integral, 0 outside the window."""
    slots = slots_between(*window_angstrom)
    profile = np.zeros(SLOTS)
    profile[slots] = np.exp(-0.5 * ((REST_ANGSTROM[slots] - centre) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    return profile

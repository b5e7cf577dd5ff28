"""Demarcation curves of the BPT planes and the classes they make, safe right of every curve's pole.

On each plane ``x`` is the decimal logarithm of the plane's line over H-alpha, ``y`` is log10([O III] 5007 / H-beta).
A hyperbola ``y = a / (x - pole) + offset`` bounds the star-forming side only left of its pole. Right of it the other
branch of the hyperbola comes down from +infinity and would flip the class, so every curve here is -infinity from its
pole on: whatever lies there is on the AGN side.
"""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

SeyfertLiner = Literal["schawinski2007", "cidfernandes2010"]

BPT_CLASSES = ("star-forming", "composite", "seyfert", "liner")
UNCLASSIFIED = "unclassified"

KEWLEY2001_POLE = 0.47
KAUFFMANN2003_POLE = 0.05
KEWLEY2006_SII_POLE = 0.32
KEWLEY2006_OI_POLE = -0.59

SEYFERT_LINER_LINES: dict[SeyfertLiner, tuple[float, float]] = {
    "schawinski2007": (1.05, 0.45),
    "cidfernandes2010": (1.01, 0.48),
}
"""Slope and intercept of the line between Seyfert and LINER on the [N II] plane.

Schawinski et al. 2007, MNRAS 382, 1415; Cid Fernandes et al. 2010, MNRAS 403, 1036. Kewley et al. 2006 gives none.
"""


def kewley2001_nii(log_nii_halpha: ArrayLike) -> NDArray[np.float64]:
    """Return log [O III]/Hb of the maximum-starburst curve; AGN lie on or above it.

    -infinity from x = 0.47 on, NaN where x is NaN. Kewley et al. 2001, ApJ 556, 121, equation 5.
    """
    return _hyperbola(log_nii_halpha, 0.61, KEWLEY2001_POLE, 1.19)


def kauffmann2003_nii(log_nii_halpha: ArrayLike) -> NDArray[np.float64]:
    """Return log [O III]/Hb of the empirical upper edge of star formation.

    -infinity from x = 0.05 on, NaN where x is NaN. Kauffmann et al. 2003, MNRAS 346, 1055, equation 1.
    """
    return _hyperbola(log_nii_halpha, 0.61, KAUFFMANN2003_POLE, 1.30)


def kewley2006_sii(log_sii_halpha: ArrayLike) -> NDArray[np.float64]:
    """Return log [O III]/Hb of the star-forming edge on the [S II] 6717+6731 plane.

    -infinity from x = 0.32 on, NaN where x is NaN. Kewley et al. 2006, MNRAS 372, 961, equation 2.
    """
    return _hyperbola(log_sii_halpha, 0.72, KEWLEY2006_SII_POLE, 1.30)


def kewley2006_oi(log_oi_halpha: ArrayLike) -> NDArray[np.float64]:
    """Return log [O III]/Hb of the star-forming edge on the [O I] 6300 plane.

    -infinity from x = -0.59 on, NaN where x is NaN. Kewley et al. 2006, MNRAS 372, 961, equation 3.
    """
    return _hyperbola(log_oi_halpha, 0.73, KEWLEY2006_OI_POLE, 1.33)


def kewley2006_sii_seyfert_liner(log_sii_halpha: ArrayLike) -> NDArray[np.float64]:
    """Return log [O III]/Hb between Seyfert (above) and LINER on the [S II] plane (Kewley et al. 2006, equation 7)."""
    return 1.89 * np.asarray(log_sii_halpha, dtype=np.float64) + 0.76


def kewley2006_oi_seyfert_liner(log_oi_halpha: ArrayLike) -> NDArray[np.float64]:
    """Return log [O III]/Hb between Seyfert (above) and LINER on the [O I] plane (Kewley et al. 2006, equation 10)."""
    return 1.18 * np.asarray(log_oi_halpha, dtype=np.float64) + 1.30


def seyfert_liner_nii(log_nii_halpha: ArrayLike, seyfert_liner: SeyfertLiner) -> NDArray[np.float64]:
    """Return log [O III]/Hb between Seyfert (above) and LINER on the [N II] plane, by the line of that name."""
    slope, intercept = SEYFERT_LINER_LINES[seyfert_liner]
    return slope * np.asarray(log_nii_halpha, dtype=np.float64) + intercept


def bpt_class(
    log_nii_halpha: ArrayLike, log_oiii_hbeta: ArrayLike, seyfert_liner: SeyfertLiner = "schawinski2007"
) -> NDArray[np.str_]:
    """Return the class of each object on the [N II] plane.

    Star-forming is below Kauffmann+2003, composite from there to below Kewley+2001, Seyfert and LINER the rest. Left of
    x = -1.28, where the two curves cross, Kauffmann+2003 decides alone: metal-poor starbursts live there.

    Parameters
    ----------
    log_nii_halpha, log_oiii_hbeta
        (object,) dex; infinities are limits and have a side, NaN has none.
    seyfert_liner
        Name of the line between Seyfert and LINER.

    Returns
    -------
    NDArray
        (object,) one of ``BPT_CLASSES``, ``unclassified`` where a ratio is NaN.
    """
    return _names(bpt_class_index(log_nii_halpha, log_oiii_hbeta, seyfert_liner))


def bpt_class_index(
    log_nii_halpha: ArrayLike, log_oiii_hbeta: ArrayLike, seyfert_liner: SeyfertLiner
) -> NDArray[np.int8]:
    """Return the position in ``BPT_CLASSES`` of each object's class on the [N II] plane, -1 where a ratio is NaN."""
    x = np.asarray(log_nii_halpha, dtype=np.float64)
    y = np.asarray(log_oiii_hbeta, dtype=np.float64)
    index = np.where(y >= seyfert_liner_nii(x, seyfert_liner), np.int8(2), np.int8(3))
    index[y < kewley2001_nii(x)] = 1
    index[y < kauffmann2003_nii(x)] = 0
    index[np.isnan(x) | np.isnan(y)] = -1
    return index


def sii_class(log_sii_halpha: ArrayLike, log_oiii_hbeta: ArrayLike) -> NDArray[np.str_]:
    """Return star-forming, Seyfert or LINER on the [S II] plane of Kewley+2006, ``unclassified`` where one is NaN."""
    x = np.asarray(log_sii_halpha, dtype=np.float64)
    return _three_classes(x, log_oiii_hbeta, kewley2006_sii(x), kewley2006_sii_seyfert_liner(x))


def oi_class(log_oi_halpha: ArrayLike, log_oiii_hbeta: ArrayLike) -> NDArray[np.str_]:
    """Return star-forming, Seyfert or LINER on the [O I] plane of Kewley+2006, ``unclassified`` where one is NaN."""
    x = np.asarray(log_oi_halpha, dtype=np.float64)
    return _three_classes(x, log_oiii_hbeta, kewley2006_oi(x), kewley2006_oi_seyfert_liner(x))


def log_ratio(numerator: ArrayLike, denominator: ArrayLike) -> NDArray[np.float64]:
    """Return log10 of a flux ratio with limits: -inf where only the numerator is <= 0, +inf where only the denominator.

    NaN where both are <= 0, which says nothing, or where one is NaN.
    """
    above = np.maximum(np.asarray(numerator, dtype=np.float64), 0.0)
    below = np.maximum(np.asarray(denominator, dtype=np.float64), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log10(above / below)


def _hyperbola(x: ArrayLike, scale: float, pole: float, offset: float) -> NDArray[np.float64]:
    x = np.asarray(x, dtype=np.float64)
    left = np.where(x < pole, x, np.nan)
    return np.where(x >= pole, -np.inf, scale / (left - pole) + offset)


def _three_classes(
    x: NDArray[np.float64], y: ArrayLike, star_forming_edge: NDArray[np.float64], seyfert_edge: NDArray[np.float64]
) -> NDArray[np.str_]:
    y = np.asarray(y, dtype=np.float64)
    index = np.where(y >= seyfert_edge, np.int8(2), np.int8(3))
    index[y < star_forming_edge] = 0
    index[np.isnan(x) | np.isnan(y)] = -1
    return _names(index)


def _names(index: NDArray[np.int8]) -> NDArray[np.str_]:
    return np.array([*BPT_CLASSES, UNCLASSIFIED])[index]

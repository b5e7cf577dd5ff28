"""The WHAN plane: equivalent width of H-alpha against [N II]/Ha, which keeps retired galaxies apart from weak AGN.

Cid Fernandes et al. 2011, MNRAS 413, 1687, table 1.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

WHAN_CLASSES = ("star-forming", "strong-agn", "weak-agn", "retired", "passive")
WHAN_LOG_NII_HALPHA = -0.4
RETIRED_EW_ANGSTROM = 3.0
STRONG_EW_ANGSTROM = 6.0
PASSIVE_EW_ANGSTROM = 0.5


def whan_class(
    log_nii_halpha: ArrayLike, ew_halpha_angstrom: ArrayLike, ew_nii_6584_angstrom: ArrayLike
) -> NDArray[np.str_]:
    """Return the class of each object on the WHAN plane.

    Passive and retired galaxies are identified by their equivalent widths alone, so they need no ratio.

    Parameters
    ----------
    log_nii_halpha
        (object,) dex.
    ew_halpha_angstrom, ew_nii_6584_angstrom
        (object,) rest-frame equivalent widths, emission positive.

    Returns
    -------
    NDArray
        (object,) one of ``WHAN_CLASSES``; ``unclassified`` where the width of H-alpha is NaN, or the ratio is NaN and
        H-alpha is too strong for a retired galaxy.
    """
    x = np.asarray(log_nii_halpha, dtype=np.float64)
    ew_halpha = np.asarray(ew_halpha_angstrom, dtype=np.float64)
    ew_nii = np.asarray(ew_nii_6584_angstrom, dtype=np.float64)
    conditions = [
        np.isnan(ew_halpha),
        (ew_halpha < PASSIVE_EW_ANGSTROM) & (ew_nii < PASSIVE_EW_ANGSTROM),
        ew_halpha < RETIRED_EW_ANGSTROM,
        np.isnan(x),
        x < WHAN_LOG_NII_HALPHA,
        ew_halpha < STRONG_EW_ANGSTROM,
    ]
    names = ["unclassified", "passive", "retired", "unclassified", "star-forming", "weak-agn"]
    return np.select(conditions, names, default="strong-agn")

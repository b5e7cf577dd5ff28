"""Parts of a sample by redshift, S/N, magnitude, survey, distance from a class border, and quality of the label."""

from itertools import pairwise

import numpy as np
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from mmagn.labels.bpt import BPT_CLASSES, SeyfertLiner, bpt_class_index, log_ratio
from mmagn.labels.scheme import BPT_LINES, CLEAN_PROBABILITY, POSITIVE_CLASSES
from mmagn.records import Floats

REDSHIFT_CUTS = (0.1, 0.2)
WEAKEST_LINE_SNR_CUTS = (5.0, 10.0, 20.0)
"""Where the noise ceiling changes most."""
I_MAGNITUDE_CUTS = (18.0, 19.0)
BORDER_DEX_CUTS = (0.05, 0.15)
"""The first is about the error of a ratio at S/N 10."""
Parts = dict[str, NDArray[np.bool_]]
"""Members (object,) of each part of a sample, by its name; every object is in one of them."""
_PLANE = ((-2.5, 1.5), (-2.0, 2.0))
_PLANE_STEP_DEX = 0.01


def strata(measured: Table, i_magnitude: ArrayLike, seyfert_liner: SeyfertLiner) -> dict[str, Parts]:
    """Return the parts of a sample by redshift, weakest line, magnitude, survey, class border and clean label.

    From the rows (object) of the table of measurements, AB magnitudes (object,), NaN where unmeasured, and the line
    between Seyfert and LINER that the labels used.
    """
    weakest = np.min([_column(measured, f"snr_{line}") for line in BPT_LINES], axis=0)
    border = border_distance_dex(*bpt_ratios(measured), seyfert_liner)
    survey = np.asarray(measured["survey"], dtype=np.str_)
    clean = np.asarray(measured["clean"], dtype=bool)
    return {
        "redshift": ranges(measured["redshift"], REDSHIFT_CUTS),
        "weakest line S/N": ranges(weakest, WEAKEST_LINE_SNR_CUTS),
        "i magnitude": ranges(i_magnitude, I_MAGNITUDE_CUTS),
        "survey": {name: survey == name for name in np.unique(survey).tolist()},
        "class border (dex)": ranges(border, BORDER_DEX_CUTS),
        "label": {f"clean, P > {CLEAN_PROBABILITY:g}": clean, "not clean": ~clean},
    }


def ranges(values: ArrayLike, cuts: tuple[float, ...]) -> Parts:
    """Return the members of each range by its name, such as ``0.1 to 0.2``, rising; last ``unknown``, the NaN."""
    numbers = np.asarray(values, dtype=np.float64)
    middle = [f"{low:g} to {high:g}" for low, high in pairwise(cuts)]
    names = [f"below {cuts[0]:g}", *middle, f"from {cuts[-1]:g}", "unknown"]
    place = np.where(np.isnan(numbers), len(names) - 1, np.searchsorted(cuts, numbers, side="right"))
    return {name: place == number for number, name in enumerate(names)}


def bpt_ratios(measured: Table) -> tuple[Floats, Floats]:
    """Return log10 [N II] 6584 / H-alpha and log10 [O III] 5007 / H-beta of each object (object,), as measured."""
    flux = {line: _column(measured, f"flux_{line}") for line in BPT_LINES}
    return log_ratio(flux["nii_6584"], flux["halpha"]), log_ratio(flux["oiii_5007"], flux["hbeta"])


def border_distance_dex(log_nii_halpha: ArrayLike, log_oiii_hbeta: ArrayLike, seyfert_liner: SeyfertLiner) -> Floats:
    """Return how far (object,) each object is from the border between positive and negative classes, NaN for limits.

    The plane is divided into squares of 0.01 dex, whose size is the error.
    """
    x, y = (np.arange(low, high, _PLANE_STEP_DEX) for low, high in _PLANE)
    grid_x, grid_y = np.meshgrid(x, y, indexing="ij")
    wanted = [BPT_CLASSES.index(name) for name in POSITIVE_CLASSES]
    positive = np.isin(bpt_class_index(grid_x, grid_y, seyfert_liner), wanted)
    changed = np.zeros_like(positive)
    changed[:-1] |= positive[1:] != positive[:-1]
    changed[:, :-1] |= positive[:, 1:] != positive[:, :-1]
    border = np.stack([grid_x[changed], grid_y[changed]], axis=1)
    points = np.stack([np.asarray(log_nii_halpha, dtype=float), np.asarray(log_oiii_hbeta, dtype=float)], axis=-1)
    known = np.isfinite(points).all(axis=-1)
    distance = np.full(len(points), np.nan)
    distance[known] = cKDTree(border).query(points[known])[0]
    return distance


def _column(table: Table, name: str) -> Floats:
    return np.asarray(table[name], dtype=np.float64)

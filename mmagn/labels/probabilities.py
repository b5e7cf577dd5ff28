"""Soft labels: the probability of each class from Monte-Carlo draws of the four line fluxes within their errors."""

import numpy as np
from numpy.typing import NDArray

from mmagn.labels.bpt import BPT_CLASSES, SeyfertLiner, bpt_class_index, log_ratio

CHUNK_OBJECTS = 128
"""Objects drawn at once: bounds memory and keeps the draws in the processor's cache."""


def class_probabilities(
    flux: NDArray[np.float64],
    flux_err: NDArray[np.float64],
    *,
    seyfert_liner: SeyfertLiner,
    draws: int,
    seed: int,
) -> NDArray[np.float64]:
    """Return the probability of each [N II] BPT class.

    All objects share one table of standard normal draws made from ``seed``, so the result of an object depends neither
    on the other objects nor on their order. A drawn flux of 0 or less counts as a limit: a numerator puts the ratio at
    -infinity, a denominator at +infinity, each on its side of every curve. A draw in which both lines of a ratio are 0
    or less says nothing and is left out of that object's draws.

    Parameters
    ----------
    flux, flux_err
        (object, line) in the order H-beta, [O III] 5007, H-alpha, [N II] 6584, any common unit.
    seyfert_liner
        Name of the line between Seyfert and LINER.
    draws
        Number of Monte-Carlo draws.
    seed
        Seed of the draws.

    Returns
    -------
    NDArray
        (object, class) in the order of ``BPT_CLASSES``, each row adding to 1; NaN where a flux or an error is not
        finite or an error is negative, or where no draw says anything.
    """
    flux = np.asarray(flux, dtype=np.float64)
    flux_err = np.asarray(flux_err, dtype=np.float64)
    normal = np.random.default_rng(seed).standard_normal((draws, flux.shape[1]))
    probabilities = np.full((len(flux), len(BPT_CLASSES)), np.nan)
    usable = np.flatnonzero(np.all(np.isfinite(flux) & np.isfinite(flux_err) & (flux_err >= 0), axis=1))
    for start in range(0, len(usable), CHUNK_OBJECTS):
        rows = usable[start : start + CHUNK_OBJECTS]
        hbeta, oiii, halpha, nii = (
            flux[rows, line, None] + flux_err[rows, line, None] * normal[:, line] for line in range(4)
        )
        index = bpt_class_index(log_ratio(nii, halpha), log_ratio(oiii, hbeta), seyfert_liner)
        counts = np.stack([(index == position).sum(axis=1) for position in range(len(BPT_CLASSES))], axis=1)
        total = counts.sum(axis=1, keepdims=True)
        probabilities[rows] = np.where(total > 0, counts / np.maximum(total, 1), np.nan)
    return probabilities

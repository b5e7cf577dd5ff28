"""Training, validation and test by groups of sky, never by object.

Objects near each other share seeing, depth and calibration, and may be the same galaxy twice; a HEALPix cell of
``splits.nside`` therefore goes into one split whole.
"""

import hashlib
import logging

import numpy as np
from numpy.typing import NDArray

from mmagn.matching.config import SplitsConfig
from mmagn.matching.sky import sky_group
from mmagn.records import SPLITS

PUBLISHED_NSIDE, PUBLISHED_SALT = 128, "mmagn-leaderboard-1"
"""Cells of the split of the leaderboard, and the text before the number of a cell in its hash; both are frozen."""
PUBLISHED_TENTHS = ("test", "test", "validation", "validation", *["train"] * 6)
"""Split of each remainder by 10."""

_log = logging.getLogger(__name__)


def sky_split(
    ra_deg: NDArray[np.float64], dec_deg: NDArray[np.float64], target: NDArray[np.float64], config: SplitsConfig
) -> NDArray[np.str_]:
    """Return the split of every object, stratified by target as far as whole groups of sky allow.

    Groups are dealt out from the weightiest to the lightest, an object weighing more the rarer its class; groups
    of similar weight (within a factor of 2) come in the order of ``sha256("seed:group")``, which is the same on
    every machine. Each goes where it keeps ``sum((share - wanted)**2 / wanted)`` smallest, over splits and classes,
    with the share of a class that a split has; no split stays empty.

    Parameters
    ----------
    ra_deg, dec_deg
        (object,) positions in degrees.
    target
        (object,) 1, 0, or NaN where an object has no target; the three are the strata.
    config
        Resolution, fractions and seed.

    Returns
    -------
    (object,) text, each one of ``SPLITS``. A class that is missing from a split is logged as a warning.

    Raises
    ------
    ValueError
        Where there are fewer groups than splits.
    """
    if config.scheme == "published":
        published = published_split(ra_deg, dec_deg)
        _warn_missing(published, target)
        return published
    group, member = np.unique(sky_group(ra_deg, dec_deg, config.nside), return_inverse=True)
    if len(group) < len(SPLITS):
        raise ValueError(
            f"the {len(ra_deg)} objects lie in {len(group)} sky groups of splits.nside {config.nside}; "
            f"allowed: at least {len(SPLITS)}, so raise splits.nside or add sky"
        )
    strata = np.stack([target == 1, target == 0, np.isnan(target)], axis=1)
    counts = np.zeros((len(group), strata.shape[1]))
    np.add.at(counts, member, strata)
    counts = counts[:, counts.sum(axis=0) > 0]
    test, validation = config.test_fraction, config.validation_fraction
    split_of_group = _dealt(counts, np.array([1 - validation - test, validation, test]), _order(group, counts, config))
    split = np.array(SPLITS)[split_of_group[member]]
    _warn_missing(split, target)
    return split


def published_split(ra_deg: NDArray[np.float64], dec_deg: NDArray[np.float64]) -> NDArray[np.str_]:
    """Return the split (object,) of the leaderboard, a function of the published position of a spectrum alone.

    The first 8 hexadecimal digits of ``sha256("mmagn-leaderboard-1:CELL")``, with the number of the HEALPix cell of
    NSIDE 128 (NESTED, ICRS), are a whole number; its remainder by 10 is 0 or 1: test, 2 or 3: validation, else train.
    """
    cell, member = np.unique(sky_group(ra_deg, dec_deg, PUBLISHED_NSIDE), return_inverse=True)
    digest = [hashlib.sha256(f"{PUBLISHED_SALT}:{number}".encode()).hexdigest() for number in cell.tolist()]
    return np.array([PUBLISHED_TENTHS[int(text[:8], 16) % 10] for text in digest], dtype=np.str_)[member]


def _order(group: NDArray[np.int64], counts: NDArray[np.float64], config: SplitsConfig) -> NDArray[np.int64]:
    """Return the rows of the groups in the order in which they are dealt out."""
    weight = (counts / counts.sum(axis=0)).sum(axis=1)
    # Rounded, so that the last bit of a sum cannot decide on another machine; the same holds for the cost below.
    octave = np.floor(np.round(np.log2(weight / weight.max()), 9))
    digest = [hashlib.sha256(f"{config.seed}:{number}".encode()).hexdigest() for number in group.tolist()]
    return np.array(sorted(range(len(group)), key=lambda row: (-octave[row], digest[row])), dtype=np.int64)


def _dealt(counts: NDArray[np.float64], fractions: NDArray[np.float64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the split number of every group; ``counts`` is (group, class), ``fractions`` (split,)."""
    total = counts.sum(axis=0)
    wanted = np.outer(fractions, total)
    have = np.zeros_like(wanted)
    split_of_group = np.empty(len(order), dtype=np.int64)
    for dealt, row in enumerate(order):
        cost = (counts[row] / total * (have + counts[row] / 2 - wanted) / wanted).sum(axis=1)
        empty = have.sum(axis=1) == 0
        if len(order) - dealt <= np.count_nonzero(empty):
            cost[~empty] = np.inf
        chosen = int(np.argmin(np.round(cost, 9)))
        split_of_group[row] = chosen
        have[chosen] += counts[row]
    return split_of_group


def _warn_missing(split: NDArray[np.str_], target: NDArray[np.float64]) -> None:
    for name in SPLITS:
        for value, word in ((1, "positive"), (0, "negative")):
            if not np.any((split == name) & (target == value)):
                _log.warning("the %s split has no %s object; scores that need one are undefined there", name, word)

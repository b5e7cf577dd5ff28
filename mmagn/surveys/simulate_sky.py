"""Where the embedded survey lies on the sky: cells, sky groups, positions, pairs across a cell border."""

import healpy
import numpy as np
from numpy.typing import NDArray

from mmagn.records import CELL_NSIDE

JUNCTION_DEG = (149.0625, 2.388015463268772)
"""Right ascension and declination where four cells meet, inside the HSC field E-COSMOS."""
GROUP_NSIDE = 128
GROUPS_PER_CELL = 16
_FINEST_ORDER = 29
_ARCSEC = 1 / 3600

Positions = tuple[NDArray[np.float64], NDArray[np.float64]]


def cell_of(ra_deg: NDArray[np.float64], dec_deg: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the Multimodal Universe cell (NSIDE 16, NESTED) of each position, (object,)."""
    return np.asarray(healpy.ang2pix(CELL_NSIDE, ra_deg, dec_deg, nest=True, lonlat=True), dtype=np.int64)


def footprint(cells: int) -> NDArray[np.int64]:
    """Return the sky groups (NSIDE 128, NESTED) that the survey covers.

    The ``cells`` cells nearest to the junction give their ``GROUPS_PER_CELL`` groups nearest to it, so the
    patch is contiguous and the cells touch.

    Parameters
    ----------
    cells
        Number of cells of NSIDE 16.
    """
    distance = _distance_rad(CELL_NSIDE, np.arange(healpy.nside2npix(CELL_NSIDE)))
    chosen = np.argsort(distance, kind="stable")[:cells]
    share = (GROUP_NSIDE // CELL_NSIDE) ** 2
    groups = chosen[:, None] * share + np.arange(share)
    nearest = np.argsort(_distance_rad(GROUP_NSIDE, groups), axis=1, kind="stable")[:, :GROUPS_PER_CELL]
    return np.asarray(np.take_along_axis(groups, nearest, axis=1).ravel(), dtype=np.int64)


def _distance_rad(nside: int, pixels: NDArray[np.int64]) -> NDArray[np.float64]:
    centre = np.asarray(healpy.ang2vec(*JUNCTION_DEG, lonlat=True))
    vectors = np.stack(healpy.pix2vec(nside, pixels, nest=True), axis=-1)
    return np.round(np.arccos(np.clip(vectors @ centre, -1, 1)), 9)


def uniform_positions(groups: NDArray[np.int64], count: int, rng: np.random.Generator) -> Positions:
    """Return ``count`` positions drawn uniformly over the area of the groups, right ascension and declination."""
    inside = 2 * (_FINEST_ORDER - int(np.log2(GROUP_NSIDE)))
    pixels = (rng.choice(groups, count) << inside) | rng.integers(0, 1 << inside, count)
    ra_deg, dec_deg = healpy.pix2ang(1 << _FINEST_ORDER, pixels, nest=True, lonlat=True)
    return np.asarray(ra_deg), np.asarray(dec_deg)


def shifted(
    ra_deg: NDArray[np.float64],
    dec_deg: NDArray[np.float64],
    east_arcsec: NDArray[np.float64],
    north_arcsec: NDArray[np.float64],
) -> Positions:
    """Return positions moved by a few arcseconds on the tangent plane."""
    return ra_deg + east_arcsec * _ARCSEC / np.cos(np.radians(dec_deg)), dec_deg + north_arcsec * _ARCSEC


def border_positions(
    groups: NDArray[np.int64], count: int, rng: np.random.Generator, half_separation_arcsec: float = 0.1
) -> tuple[Positions, Positions]:
    """Return pairs of positions on the two sides of a cell border.

    Parameters
    ----------
    groups
        Sky groups of the footprint; they must lie in more than one cell, else no pairs come back.
    count
        Number of pairs wanted.
    rng
        Source of the draws.
    half_separation_arcsec
        Distance of each position from the border along the line that joins them.
    """
    tries = 40 * count + 40
    first = np.stack(uniform_positions(groups, tries, rng), axis=1)
    second = np.stack(uniform_positions(groups, tries, rng), axis=1)
    start_cell = cell_of(*first.T)
    low, high = first, second
    for _ in range(60):
        middle = 0.5 * (low + high)
        inside = (cell_of(*middle.T) == start_cell)[:, None]
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    step = second - first
    step[:, 0] *= np.cos(np.radians(low[:, 1]))
    step *= half_separation_arcsec / np.linalg.norm(step, axis=1, keepdims=True)
    near = shifted(low[:, 0], low[:, 1], -step[:, 0], -step[:, 1])
    far = shifted(low[:, 0], low[:, 1], step[:, 0], step[:, 1])
    kept = np.flatnonzero((cell_of(*near) != cell_of(*far)) & (start_cell != cell_of(*second.T)))[:count]
    return (near[0][kept], near[1][kept]), (far[0][kept], far[1][kept])

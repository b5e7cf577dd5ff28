"""Cross-match of two catalogues on the sphere: each object with its reciprocal nearest neighbour.

Positions are compared as unit vectors in three dimensions, where a small angle is a short chord. A chord knows
nothing of HEALPix cells, of RA 0/360 or of the poles, so neighbours across all three are found by construction and
no cell has to be widened. Chords only preselect; ``astropy`` gives the separation that decides.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import healpy
import numpy as np
from astropy.coordinates import angular_separation
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from mmagn.records import Catalog, Floats

ARCSEC_PER_RADIAN = 180 * 3600 / np.pi
CANDIDATE_BLOCK = 200_000
"""Positions compared at once; bounds the memory of dense matches."""
OUTLINE_POINTS_PER_SIDE = 8
TIE_DECIMALS = 6
"""Separations equal to a millionth of an arcsec are ties, so that rounding of the arithmetic decides nothing."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Matches:
    """One-to-one matches: rows (pair,) of the two position lists, ascending in ``left_index``, and their separations.

    ``left_lost`` and ``right_lost`` count objects that have a neighbour within the radius but no match, because that
    neighbour has a nearer one.
    """

    left_index: NDArray[np.int64]
    right_index: NDArray[np.int64]
    separation_arcsec: Floats
    left_lost: int
    right_lost: int

    def __len__(self) -> int:
        return len(self.left_index)

    def of_rows(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> "Matches":
        """Return the matches by the rows (object,) of longer lists that the matched positions are, ascending."""
        left_index = left[self.left_index]
        order = np.argsort(left_index)
        return replace(
            self,
            left_index=left_index[order],
            right_index=right[self.right_index[order]],
            separation_arcsec=self.separation_arcsec[order],
        )


def sky_group(ra_deg: Floats, dec_deg: Floats, nside: int) -> NDArray[np.int64]:
    """Return the HEALPix cell (NESTED) of every position, (object,) int64."""
    groups = healpy.ang2pix(nside, np.mod(ra_deg, 360.0), dec_deg, nest=True, lonlat=True)
    return np.asarray(groups, dtype=np.int64)


def cell_outlines(cells: NDArray[np.int64], nside: int) -> NDArray[np.float64]:
    """Return closed outlines of HEALPix cells (NESTED), (cell, point, 2) RA and Dec in degrees.

    RA runs without a jump along an outline, so it may leave 0 to 360 where a cell lies across RA 0.
    """
    outlines = np.empty((len(cells), 4 * OUTLINE_POINTS_PER_SIDE + 1, 2))
    for row, cell in enumerate(np.asarray(cells)):
        corners = healpy.boundaries(nside, int(cell), step=OUTLINE_POINTS_PER_SIDE, nest=True)
        ra_deg, dec_deg = healpy.vec2ang(corners.T, lonlat=True)
        closed = np.append(np.arange(len(ra_deg)), 0)
        outlines[row, :, 0] = np.unwrap(ra_deg[closed], period=360.0)
        outlines[row, :, 1] = dec_deg[closed]
    return outlines


def sky_matches(
    left_ra_deg: Floats,
    left_dec_deg: Floats,
    right_ra_deg: Floats,
    right_dec_deg: Floats,
    radius_arcsec: float,
) -> Matches:
    """Return the reciprocal nearest neighbours within a radius (closed), one-to-one.

    Two objects match where each is the nearest of the other side. Separations equal to a millionth of an arcsec
    are ties, decided by the lower index on the other side. Positions are (object,) float64 in degrees.

    Raises ``ValueError`` where the radius is not above 0 or a position is not finite.
    """
    if not radius_arcsec > 0:
        raise ValueError(f"the match radius is {radius_arcsec} arcsec; allowed: above 0")
    left = Positions.checked(left_ra_deg, left_dec_deg, "left")
    right = Positions.checked(right_ra_deg, right_dec_deg, "right")
    if len(left.ra_deg) >= len(right.ra_deg):
        left_index, right_index, separation, left_lost, right_lost = _reciprocal(left, right, radius_arcsec)
    else:
        right_index, left_index, separation, right_lost, left_lost = _reciprocal(right, left, radius_arcsec)
    order = np.argsort(left_index)
    return Matches(
        left_index=left_index[order],
        right_index=right_index[order],
        separation_arcsec=separation[order],
        left_lost=left_lost,
        right_lost=right_lost,
    )


def catalog_matches(left: Catalog, right: Catalog, radius_arcsec: float) -> Matches:
    """Return the one-to-one matches of two catalogues; a tie goes to the lower id wherever it is stored."""
    left_order, right_order = (np.argsort(catalog.object_id, kind="stable") for catalog in (left, right))
    matches = sky_matches(
        left.ra_deg[left_order],
        left.dec_deg[left_order],
        right.ra_deg[right_order],
        right.dec_deg[right_order],
        radius_arcsec,
    )
    return matches.of_rows(left_order, right_order)


@dataclass(frozen=True, eq=False, slots=True)
class Positions:
    """Positions (object,) in degrees."""

    ra_deg: Floats
    dec_deg: Floats

    @classmethod
    def checked(cls, ra_deg: Floats, dec_deg: Floats, side: str) -> "Positions":
        """Return positions that lie on the sphere; raise ValueError where one does not."""
        ra, dec = np.asarray(ra_deg, dtype=np.float64), np.asarray(dec_deg, dtype=np.float64)
        bad = int(np.count_nonzero(~(np.isfinite(ra) & (np.abs(dec) <= 90))))
        if bad:
            raise ValueError(
                f"{bad} {side} positions are not on the sphere; allowed: finite RA, Dec from -90 to 90 deg"
            )
        return cls(ra, dec)


def unit_vectors(ra_deg: Floats, dec_deg: Floats) -> Floats:
    """Return positions (object,) as vectors (object, 3)."""
    return np.asarray(healpy.ang2vec(ra_deg, dec_deg, lonlat=True))


def chord_length(radius_arcsec: float) -> float:
    """Return the distance of two unit vectors that are ``radius_arcsec`` apart."""
    return float(2 * np.sin(min(radius_arcsec / ARCSEC_PER_RADIAN, np.pi) / 2))


def separation_arcsec(
    left: Positions | Catalog, left_rows: NDArray[np.int64], right: Positions | Catalog, right_rows: NDArray[np.int64]
) -> Floats:
    """Return the separations (pair,) of chosen rows of two lists of positions."""
    radians = angular_separation(
        np.radians(left.ra_deg[left_rows]),
        np.radians(left.dec_deg[left_rows]),
        np.radians(right.ra_deg[right_rows]),
        np.radians(right.dec_deg[right_rows]),
    )
    return np.asarray(radians * ARCSEC_PER_RADIAN, dtype=np.float64)


def neighbours(
    large: Positions | Catalog, small: Positions | Catalog, radius_arcsec: float
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], Floats]]:
    """Yield all neighbours within the radius (large row, small row, arcsec), blocks of whole large rows, ascending."""
    # The chord is widened by one part in a million (rounding is below 1e-9 of it); astropy's separation decides.
    chord = chord_length(radius_arcsec) * (1 + 1e-6)
    tree = cKDTree(unit_vectors(small.ra_deg, small.dec_deg))
    near = [np.empty(0, dtype=np.int64)]
    for start in range(0, len(large.ra_deg), CANDIDATE_BLOCK):
        block = slice(start, start + CANDIDATE_BLOCK)
        vectors = unit_vectors(large.ra_deg[block], large.dec_deg[block])
        distance, _ = tree.query(vectors, k=1, distance_upper_bound=chord, workers=-1)
        near.append(start + np.flatnonzero(np.isfinite(distance)))
    with_neighbour = np.concatenate(near)
    for start in range(0, len(with_neighbour), CANDIDATE_BLOCK // 10):
        rows = with_neighbour[start : start + CANDIDATE_BLOCK // 10]
        vectors = unit_vectors(large.ra_deg[rows], large.dec_deg[rows])
        close = cKDTree(vectors).sparse_distance_matrix(tree, chord, output_type="ndarray")
        large_rows, small_rows = rows[close["i"]], close["j"].astype(np.int64)
        separation = separation_arcsec(large, large_rows, small, small_rows)
        within = separation <= radius_arcsec
        yield large_rows[within], small_rows[within], separation[within]


def _reciprocal(
    large: Positions, small: Positions, radius_arcsec: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats, int, int]:
    """Return matched rows of the large and the small side, arcsec, and how many of each side lost."""
    nearest_large = np.full(len(small.ra_deg), -1, dtype=np.int64)
    nearest_arcsec = np.full(len(small.ra_deg), np.inf)
    chosen: list[tuple[NDArray[np.int64], NDArray[np.int64], Floats]] = []
    for large_rows, small_rows, separation in neighbours(large, small, radius_arcsec):
        distance = np.round(separation, TIE_DECIMALS)
        order = np.lexsort((small_rows, distance, large_rows))
        first = order[np.unique(large_rows[order], return_index=True)[1]]
        chosen.append((large_rows[first], small_rows[first], separation[first]))
        order = np.lexsort((large_rows, distance, small_rows))
        first = order[np.unique(small_rows[order], return_index=True)[1]]
        # Blocks ascend in the large row, so an equal separation never replaces an earlier, lower row.
        first = first[distance[first] < nearest_arcsec[small_rows[first]]]
        nearest_large[small_rows[first]] = large_rows[first]
        nearest_arcsec[small_rows[first]] = distance[first]
    if not chosen:
        nothing = np.empty(0, dtype=np.int64)
        return nothing, nothing, np.empty(0), 0, 0
    large_rows, small_rows, separation = (np.concatenate(parts) for parts in zip(*chosen, strict=True))
    mutual = nearest_large[small_rows] == large_rows
    pairs = int(np.count_nonzero(mutual))
    small_lost = int(np.count_nonzero(nearest_large >= 0)) - pairs
    return large_rows[mutual], small_rows[mutual], separation[mutual], len(large_rows) - pairs, small_lost


def nearest_separation_arcsec(left: Catalog, right: Catalog) -> float:
    """Return the smallest separation between the two catalogues, NaN where one of them is empty."""
    if not len(left) or not len(right):
        return float("nan")
    tree = cKDTree(unit_vectors(right.ra_deg, right.dec_deg))
    # A few objects first: their distance bounds the search of the others, which is slow far from a dense field.
    best_arcsec, bound = float("nan"), np.inf
    step = max(1, len(left) // 256)
    for rows in (np.arange(0, len(left), step), np.arange(len(left))):
        for start in range(0, len(rows), CANDIDATE_BLOCK):
            block = rows[start : start + CANDIDATE_BLOCK]
            vectors = unit_vectors(left.ra_deg[block], left.dec_deg[block])
            distance, nearest = tree.query(vectors, k=1, distance_upper_bound=bound, workers=-1)
            first = int(np.argmin(distance))
            if np.isfinite(distance[first]):
                bound = float(distance[first]) * (1 + 1e-9)
                best_arcsec = float(separation_arcsec(left, block[[first]], right, nearest[[first]])[0])
    return best_arcsec

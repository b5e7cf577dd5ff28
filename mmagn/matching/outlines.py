"""Outlines of HEALPix cells on the sky, for maps."""

import healpy
import numpy as np
from numpy.typing import NDArray

_POINTS_PER_SIDE = 8


def cell_outlines(cells: NDArray[np.int64], nside: int) -> NDArray[np.float64]:
    """Return closed outlines of HEALPix cells (NESTED), (cell, point, 2) RA and Dec in degrees.

    RA runs without a jump along an outline, so it may leave 0 to 360 where a cell lies across RA 0.
    """
    outlines = np.empty((len(cells), 4 * _POINTS_PER_SIDE + 1, 2))
    for row, cell in enumerate(np.asarray(cells)):
        corners = healpy.boundaries(nside, int(cell), step=_POINTS_PER_SIDE, nest=True)
        ra_deg, dec_deg = healpy.vec2ang(corners.T, lonlat=True)
        closed = np.append(np.arange(len(ra_deg)), 0)
        outlines[row, :, 0] = np.unwrap(ra_deg[closed], period=360.0)
        outlines[row, :, 1] = dec_deg[closed]
    return outlines

"""Regions of the sky as multi-order coverage maps (MOC): which positions a survey covers.

International Virtual Observatory Alliance, MOC 2.0 (2022): HEALPix cells in NESTED order, up to order 29.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from mmagn.matching.sky import sky_group
from mmagn.records import Floats

MOC_ORDER = 29
"""Largest order; all cells are counted in it."""


@dataclass(frozen=True, eq=False, slots=True)
class SkyRegion:
    """A part of the sky: ascending half-open ranges (range,) of HEALPix cells of order 29 that do not overlap."""

    first: NDArray[np.int64]
    end: NDArray[np.int64]

    def contains(self, ra_deg: Floats, dec_deg: Floats) -> NDArray[np.bool_]:
        """Return (object,) True where a position lies inside; positions that are not finite lie outside."""
        inside = np.zeros(len(ra_deg), dtype=bool)
        finite = np.isfinite(ra_deg) & np.isfinite(dec_deg)
        cell = sky_group(np.asarray(ra_deg)[finite], np.asarray(dec_deg)[finite], 2**MOC_ORDER)
        place = np.searchsorted(self.first, cell, side="right") - 1
        inside[finite] = (place >= 0) & (cell < self.end[np.maximum(place, 0)]) if len(self.first) else False
        return inside


def read_moc(path: Path) -> SkyRegion:
    """Return the region in a MOC file: FITS with NUNIQ cells or ranges, or JSON.

    Raises ``ValueError`` where the file is missing or no MOC: one sentence with the path.
    """
    try:
        ranges = _json_ranges(path) if path.suffix.lower() == ".json" else _fits_ranges(path)
        region = _merged(ranges)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"{path} cannot be read as a MOC (FITS with UNIQ cells or ranges, or JSON): {reason}"
        ) from error
    if not len(region.first):
        raise ValueError(f"{path} is a MOC without any cell: it covers no place")
    return region


def _json_ranges(path: Path) -> NDArray[np.int64]:
    content = json.loads(path.read_text(encoding="utf-8"))
    parts = [_cell_ranges(int(order), np.asarray(cells, dtype=np.int64)) for order, cells in content.items()]
    return np.concatenate(parts) if parts else np.empty((0, 2), dtype=np.int64)


def _fits_ranges(path: Path) -> NDArray[np.int64]:
    with fits.open(path, memmap=False) as opened:
        header, data = opened[1].header, opened[1].data
        values = np.asarray(data.field(0)).astype(np.int64).ravel()
        if header.get("MOCDIM", "SPACE") != "SPACE":
            raise ValueError(f"MOCDIM is {header['MOCDIM']}; allowed: SPACE")
        if str(header.get("COORDSYS", "C")).strip() != "C":
            raise ValueError(f"COORDSYS is {header['COORDSYS']}; allowed: C (ICRS)")
        if header.get("ORDERING", "NUNIQ") == "RANGE":
            ranges = values.reshape(-1, 2)
            if np.any((ranges[:, 0] < 0) | (ranges[:, 1] <= ranges[:, 0]) | (ranges[:, 1] > 12 * 4**MOC_ORDER)):
                raise ValueError("a range of cells is not on the sphere, or its end is before its start")
            return ranges
        if header.get("ORDERING", "NUNIQ") != "NUNIQ":
            raise ValueError(f"ORDERING is {header['ORDERING']}; allowed: NUNIQ, RANGE")
    order = np.searchsorted(4 * 4 ** np.arange(MOC_ORDER + 1), values, side="right") - 1
    parts = [_cell_ranges(each, values[order == each] - 4 * 4**each) for each in np.unique(order).tolist()]
    return np.concatenate(parts) if parts else np.empty((0, 2), dtype=np.int64)


def _cell_ranges(order: int, cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """(cell, 2) ranges of order 29 of the NESTED cells of an order."""
    if not 0 <= order <= MOC_ORDER or np.any((cells < 0) | (cells >= 12 * 4**order)):
        raise ValueError(f"a cell of order {order} is not on the sphere")
    shift = 2 * (MOC_ORDER - order)
    return np.stack([cells << shift, (cells + 1) << shift], axis=1)


def _merged(ranges: NDArray[np.int64]) -> SkyRegion:
    """Region of ranges in any order, which may overlap."""
    ranges = ranges[np.argsort(ranges[:, 0])]
    reach = np.maximum.accumulate(ranges[:, 1])
    starts = np.flatnonzero(np.concatenate([[True], ranges[1:, 0] > reach[:-1]])) if len(ranges) else np.empty(0, int)
    ends = np.concatenate([starts[1:] - 1, [len(ranges) - 1]]) if len(ranges) else starts
    return SkyRegion(ranges[starts, 0], reach[ends.astype(np.int64)])

"""Expected result of a match from positions alone: coverage, overlap, separations, pairs and false pairs by radius."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import healpy
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from mmagn.matching.report import expected_pairs, local_density
from mmagn.matching.sky import catalog_matches, nearest_separation_arcsec, neighbours, sky_group
from mmagn.records import CELL_NSIDE, Catalog, Floats

RADII_ARCSEC = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0)
SEPARATION_BIN_ARCSEC = 0.25
SEPARATION_LIMIT_ARCSEC = 10.0
AREA_NSIDE = 256
"""HEALPix resolution (0.23 deg a side) at which a survey counts as present where it has an object."""
FOREMOST_CELLS = 20
"""Cells that the text names; the table of cells has all."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MatchPlan:
    """Expected result of a match of two catalogues.

    Attributes
    ----------
    radius_arcsec, sdss_objects, hsc_objects
        The radius of the match, and usable objects of each side.
    nearest_arcsec
        Least separation of any two objects of the surveys, NaN where one is empty.
    sdss_area_deg2, hsc_area_deg2, overlap_area_deg2
        Sky that each survey covers, and that both cover, in pixels of ``AREA_NSIDE`` that hold an object.
    sdss_in_overlap, hsc_in_overlap
        Objects in the pixels that both cover.
    paired
        (pair,) rows of the spectra that have a pair within ``radius_arcsec``.
    cells
        A row per HEALPix cell of ``CELL_NSIDE``: ``healpix, ra_deg, dec_deg, sdss, hsc, pairs``, most pairs first.
    radii
        A row per radius: ``radius_arcsec, pairs, expected_by_chance, false_fraction, ambiguous``; false is what
        chance expects of the pairs, ambiguous is a spectrum with several images within the radius.
    separations
        A row per bin of the separation of each spectrum from every image around it: ``low_arcsec,
        high_arcsec, neighbours, expected_by_chance``.
    drops
        Objects left out while reading, by reason.
    """

    radius_arcsec: float
    sdss_objects: int
    hsc_objects: int
    nearest_arcsec: float
    sdss_area_deg2: float
    hsc_area_deg2: float
    overlap_area_deg2: float
    sdss_in_overlap: int
    hsc_in_overlap: int
    paired: NDArray[np.int64]
    cells: Table
    radii: Table
    separations: Table
    drops: Mapping[str, int]

    @property
    def pairs(self) -> int:
        """Pairs within ``radius_arcsec``."""
        return len(self.paired)

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers, texts, lists and dicts; a number that is not defined is NaN."""
        plain: dict[str, Any] = {"pairs": self.pairs}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Table):
                plain[item.name] = {name: value[name].tolist() for name in value.colnames}
            elif item.name != "paired":
                plain[item.name] = value
        return plain

    def __str__(self) -> str:
        return "\n".join([*self._coverage_lines(), "", *self._radius_lines(), "", *self._cell_lines()])

    def _coverage_lines(self) -> list[str]:
        lines = [
            f"{self.sdss_objects} spectra over {self.sdss_area_deg2:.4g} deg2, {self.sdss_in_overlap} where images are",
            f"{self.hsc_objects} images over {self.hsc_area_deg2:.4g} deg2, {self.hsc_in_overlap} where spectra are",
            f"sky in common: {self.overlap_area_deg2:.4g} deg2, in pixels of {_pixel_deg2(AREA_NSIDE):.3f} deg2",
            f"nearest two objects: {self.nearest_arcsec:.4g} arcsec apart",
        ]
        return lines + [f"dropped: {count} x {reason}" for reason, count in sorted(self.drops.items())]

    def _radius_lines(self) -> list[str]:
        lines = ["radius/arcsec   pairs  by chance  false  ambiguous"]
        for row in self.radii:
            mark = "  <- matching.radius_arcsec" if row["radius_arcsec"] == self.radius_arcsec else ""
            false = f"{row['false_fraction']:6.1%}" if np.isfinite(row["false_fraction"]) else "     -"
            lines.append(
                f"{row['radius_arcsec']:13g} {row['pairs']:7d} {row['expected_by_chance']:10.4g} {false} "
                f"{row['ambiguous']:10d}{mark}"
            )
        return lines

    def _cell_lines(self) -> list[str]:
        lines = ["   cell    RA/deg  Dec/deg  spectra   images    pairs"]
        lines += [
            f"{row['healpix']:7d} {row['ra_deg']:9.3f} {row['dec_deg']:8.3f} {row['sdss']:8d} {row['hsc']:8d} "
            f"{row['pairs']:8d}"
            for row in self.cells[:FOREMOST_CELLS]
        ]
        if len(self.cells) > FOREMOST_CELLS:
            lines.append(f"and {len(self.cells) - FOREMOST_CELLS} more cells")
        return lines


def match_plan(sdss: Catalog, hsc: Catalog, radius_arcsec: float, drops: Mapping[str, int]) -> MatchPlan:
    """Return the expected result of a match; either catalogue may be far from the other, or empty."""
    areas = [np.unique(sky_group(each.ra_deg, each.dec_deg, AREA_NSIDE)) for each in (sdss, hsc)]
    common = np.intersect1d(areas[0], areas[1])
    inside = [int(np.isin(sky_group(each.ra_deg, each.dec_deg, AREA_NSIDE), common).sum()) for each in (sdss, hsc)]
    radii = sorted({*RADII_ARCSEC, radius_arcsec})
    near = _neighbour_separations(sdss, hsc, max(SEPARATION_LIMIT_ARCSEC, radii[-1]))
    density = local_density(sdss, hsc, radius_arcsec)
    # Nearest neighbours do not depend on the radius, so one match holds those of all smaller radii.
    matches = catalog_matches(sdss, hsc, radii[-1])
    paired = matches.left_index[matches.separation_arcsec <= radius_arcsec]
    pixel = _pixel_deg2(AREA_NSIDE)
    return MatchPlan(
        radius_arcsec=radius_arcsec,
        sdss_objects=len(sdss),
        hsc_objects=len(hsc),
        nearest_arcsec=nearest_separation_arcsec(sdss, hsc),
        sdss_area_deg2=pixel * len(areas[0]),
        hsc_area_deg2=pixel * len(areas[1]),
        overlap_area_deg2=pixel * len(common),
        sdss_in_overlap=inside[0],
        hsc_in_overlap=inside[1],
        paired=paired,
        cells=_cells(sdss, hsc, paired),
        radii=_radii(radii, matches.separation_arcsec, density, near),
        separations=_separations(near[1], density),
        drops=dict(drops),
    )


def _pixel_deg2(nside: int) -> float:
    return float(healpy.nside2pixarea(nside, degrees=True))


def _neighbour_separations(left: Catalog, right: Catalog, limit_arcsec: float) -> tuple[NDArray[np.int64], Floats]:
    """Return (left row, arcsec) of every right object within the limit of a left one."""
    blocks = [(rows, separations) for rows, _, separations in neighbours(left, right, limit_arcsec)]
    rows, separations = zip((np.empty(0, dtype=np.int64), np.empty(0)), *blocks, strict=True)
    return np.concatenate(rows), np.concatenate(separations)


def _cells(sdss: Catalog, hsc: Catalog, paired: NDArray[np.int64]) -> Table:
    counted = {"sdss": sdss.healpix, "hsc": hsc.healpix, "pairs": sdss.healpix[paired]}
    cells = np.unique(np.concatenate([sdss.healpix, hsc.healpix]))
    ra_deg, dec_deg = healpy.pix2ang(CELL_NSIDE, cells, nest=True, lonlat=True)
    table = Table({"healpix": cells, "ra_deg": ra_deg, "dec_deg": dec_deg})
    for name, healpix in counted.items():
        table[name] = np.bincount(np.searchsorted(cells, healpix), minlength=len(cells)).astype(np.int64)
    both = np.minimum(table["sdss"], table["hsc"])
    return table[np.lexsort((table["healpix"], -np.asarray(both), -np.asarray(table["pairs"])))]


def _radii(radii: list[float], pairs_arcsec: Floats, density: Floats, near: tuple[NDArray[np.int64], Floats]) -> Table:
    """Return the table of radii; a pair of a large radius is one of every radius that is not below its separation."""
    rows, separations = near
    pairs = [int((pairs_arcsec <= radius).sum()) for radius in radii]
    chance = [expected_pairs(density, radius) for radius in radii]
    false = [min(1.0, expected / count) if count else np.nan for expected, count in zip(chance, pairs, strict=True)]
    ambiguous = [int((np.bincount(rows[separations <= radius], minlength=1) > 1).sum()) for radius in radii]
    names = ("radius_arcsec", "pairs", "expected_by_chance", "false_fraction", "ambiguous")
    return Table([radii, pairs, chance, false, ambiguous], names=names)


def _separations(separations: Floats, density: Floats) -> Table:
    edges = np.arange(0, SEPARATION_LIMIT_ARCSEC + SEPARATION_BIN_ARCSEC / 2, SEPARATION_BIN_ARCSEC)
    counts, _ = np.histogram(separations, edges)
    expected = density.sum() * np.pi * (edges[1:] ** 2 - edges[:-1] ** 2)
    names = ("low_arcsec", "high_arcsec", "neighbours", "expected_by_chance")
    return Table([edges[:-1], edges[1:], counts, expected], names=names)

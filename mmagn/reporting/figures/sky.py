"""Where on the sky the two surveys and their pairs are."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike, NDArray

from mmagn.matching.sky import cell_outlines, sky_group
from mmagn.records import CELL_NSIDE, Floats
from mmagn.reporting.figures.style import (
    BLACK,
    BLUE,
    GREY,
    LIGHT_GREY,
    ORANGE,
    SKY,
    VERMILION,
    blank_figure,
    message,
    styled,
)

Position = tuple[ArrayLike, ArrayLike]

WIDE_DEG = 25.0
"""Extent from which on the densest fields get panels of their own."""
MAX_FIELDS = 6
MIN_FIELD_OBJECTS = 20
"""Objects from which on a field gets a panel."""
FIELD_DEG = 4.8
"""Height of a field panel."""
_LOOKS: dict[str, dict[str, Any]] = {
    "HSC images": {"color": SKY, "marker": "s", "s": 16, "alpha": 0.6},
    "spectra": {"color": GREY, "marker": "o", "s": 11, "alpha": 0.8},
    "pairs": {"color": VERMILION, "marker": "o", "s": 6, "alpha": 1.0},
    "pairs without label": {"color": BLACK, "marker": "x", "s": 8, "alpha": 0.8, "linewidths": 0.7},
    "train": {"color": BLUE, "marker": "o", "s": 8, "alpha": 1.0},
    "validation": {"color": ORANGE, "marker": "D", "s": 8, "alpha": 1.0},
    "test": {"color": VERMILION, "marker": "^", "s": 10, "alpha": 1.0},
}
"""Objects that a map can show, in the order in which they are drawn."""


@styled
def coverage_figure(positions: Mapping[str, Position]) -> Figure:
    """Return a map of both surveys and their pairs over HEALPix cells; RA grows to the left, also across RA 0.

    A survey that is wider than ``WIDE_DEG`` gets panels of its densest fields below the map. Positions are RA and Dec
    (object,) in degrees by name: HSC images, spectra, pairs; or instead of all pairs those without label and those of
    each split.
    """
    known = {name: np.asarray(positions[name], dtype=np.float64) for name in _LOOKS if name in positions}
    sets = {name: np.column_stack([ra_deg % 360, dec_deg]) for name, (ra_deg, dec_deg) in known.items()}
    everywhere = np.concatenate(list(sets.values()))
    if not len(everywhere):
        figure = blank_figure(5.8, 3.0)
        axes = figure.subplots()
        message(axes, "no objects")
        _label(axes)
        return figure
    centre_deg = _centre_ra_deg(everywhere[:, 0])
    unwrapped = {name: _unwrapped(places, centre_deg) for name, places in sets.items()}
    cells = np.unique(sky_group(everywhere[:, 0], everywhere[:, 1], CELL_NSIDE))
    outlines = cell_outlines(cells, CELL_NSIDE)
    outlines[:, :, 0] += 360 * np.round((centre_deg - outlines[:, :, :1].mean(axis=1)) / 360)
    fields = _fields(np.concatenate(list(unwrapped.values())))
    return _map_with_fields(unwrapped, outlines, cells, fields)


def _map_with_fields(
    sets: Mapping[str, Floats], outlines: Floats, cells: NDArray[np.int64], fields: list[tuple[float, float]]
) -> Figure:
    rows = -(-len(fields) // 3)
    figure = blank_figure(5.8, 4.9 + 2.3 * rows)
    grid = figure.add_gridspec(1 + rows, 3 if fields else 1, height_ratios=[1.35] + [1] * rows)
    overview = figure.add_subplot(grid[0, :])
    _draw(overview, sets, outlines)
    low, high = outlines.min(axis=(0, 1)), outlines.max(axis=(0, 1))
    margin = 0.03 * (high - low)
    overview.set(xlim=(high[0] + margin[0], low[0] - margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1]))
    if high[0] - low[0] <= WIDE_DEG:
        overview.set_aspect(1 / np.cos(np.radians((low[1] + high[1]) / 2)), adjustable="box")
    if len(cells) <= MAX_FIELDS and not fields:
        for cell, outline in zip(cells, outlines, strict=True):
            x, y = outline[:-1].mean(axis=0)
            overview.text(x, y, str(cell), ha="center", va="center", color=GREY, fontsize=9, zorder=0)
    handles, labels = overview.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, markerscale=1.8, handletextpad=0.3)
    for number, field in enumerate(fields):
        axes = figure.add_subplot(grid[1 + number // 3, number % 3])
        _draw(axes, sets, outlines)
        half = FIELD_DEG / 2
        stretch = 1 / max(np.cos(np.radians(field[1])), 0.2)
        axes.set(xlim=(field[0] + half * stretch, field[0] - half * stretch), ylim=(field[1] - half, field[1] + half))
        overview.annotate(chr(65 + number), field, xytext=(0, 9), textcoords="offset points", ha="center")
        axes.set_aspect(stretch, adjustable="box")
        axes.set_title(chr(65 + number), loc="left")
    return figure


def _draw(axes: Axes, sets: Mapping[str, Floats], outlines: Floats) -> None:
    cells = f"HEALPix cells, NSIDE {CELL_NSIDE} ({len(outlines)})"
    axes.add_collection(LineCollection(list(outlines), colors=LIGHT_GREY, linewidths=0.9, zorder=0, label=cells))
    for order, (name, positions) in enumerate(sets.items(), start=1):
        look = {"linewidths": 0} | _LOOKS[name]
        axes.scatter(*positions.T, label=f"{name} ({len(positions):,})", zorder=order, **look)
    _label(axes)


def _label(axes: Axes) -> None:
    axes.set(xlabel="RA [deg]", ylabel="Dec [deg]")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda ra_deg, _: f"{np.round(ra_deg % 360, 3) % 360:g}"))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 1.5, 2, 3, 5, 6, 10]))


def _centre_ra_deg(ra_deg: Floats) -> float:
    """Middle of the shortest arc that holds all RA: opposite the middle of the widest gap."""
    ordered = np.unique(ra_deg)
    gaps = np.diff(ordered, append=ordered[0] + 360)
    widest = int(np.argmax(gaps))
    return float((ordered[widest] + gaps[widest] / 2 + 180) % 360)


def _unwrapped(positions: Floats, centre_deg: float) -> Floats:
    """Positions with RA within 180 degrees of the centre, so that it may leave 0 to 360."""
    ra_deg = (positions[:, 0] - centre_deg + 180) % 360 - 180 + centre_deg
    return np.column_stack([ra_deg, positions[:, 1]])


def _fields(positions: Floats) -> list[tuple[float, float]]:
    """Centres of the densest fields, densest first; none where the survey is narrow."""
    if np.ptp(positions, axis=0).max() <= WIDE_DEG:
        return []
    left = positions
    centres: list[tuple[float, float]] = []
    while len(left) and len(centres) < MAX_FIELDS:
        cells = sky_group(left[:, 0], left[:, 1], CELL_NSIDE)
        names, counts = np.unique(cells, return_counts=True)
        if counts.max() < MIN_FIELD_OBJECTS:
            break
        densest = left[cells == names[np.argmax(counts)]]
        near = left[_offset_deg(left, np.median(densest, axis=0)) < FIELD_DEG]
        centre = np.median(near, axis=0)
        centres.append((float(centre[0]), float(centre[1])))
        left = left[_offset_deg(left, centre) > FIELD_DEG / 2]
    return centres


def _offset_deg(positions: Floats, centre: Floats) -> Floats:
    """Larger of the two offsets from a centre (object,), RA as an angle on the sky."""
    offset = np.abs(positions - centre) * (np.cos(np.radians(centre[1])), 1)
    return np.asarray(offset.max(axis=1))

"""What the BPT and the WHAN plane share: points by class, error ellipses, density contours, counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from mmagn.records import Floats
from mmagn.reporting.figures.style import BLACK, CLASS_NAMES, GREY, LIGHT_GREY

MAX_ELLIPSES = 300
"""Error ellipses drawn at most, evenly spaced in the order of the objects; more would hide the classes."""
MAX_ELLIPSE_DEX = 0.5
"""Objects with a larger error have no ellipse: it would cross half of the plane."""
MIN_DENSITY_OBJECTS = 500
"""Objects from which on contours of their density are drawn."""
DENSITY_FRACTIONS = (0.3, 0.6, 0.9)
"""Fraction of the objects inside each contour."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PlanePoints:
    """Objects on a diagnostic plane, (object,) each.

    Attributes
    ----------
    x, y
        Place in dex; NaN where undefined.
    names
        Classes, which give colour and marker.
    x_err, y_err
        1-sigma errors in dex, drawn as ellipses; None draws none.
    """

    x: Floats
    y: Floats
    names: NDArray[np.str_]
    x_err: Floats | None = None
    y_err: Floats | None = None

    @property
    def defined(self) -> NDArray[np.bool_]:
        """(object,) True where both ratios are defined."""
        return np.asarray(np.isfinite(self.x) & np.isfinite(self.y))


def log_ratio_err(table: Table, numerator: str, denominator: str) -> Floats:
    """Return (object,) error of log10 of a flux ratio in dex, to first order, NaN where a flux is not positive."""
    variance = np.zeros(len(table))
    for line in (numerator, denominator):
        flux = np.asarray(table[f"flux_{line}"], dtype=np.float64)
        variance += (np.asarray(table[f"flux_{line}_err"], dtype=np.float64) / np.where(flux > 0, flux, np.nan)) ** 2
    return np.asarray(np.sqrt(variance) / np.log(10.0))


def region_names(axes: Axes, places: Mapping[str, tuple[float, float]]) -> None:
    """Write the names of the regions."""
    for text, place in places.items():
        axes.text(*place, text, color=GREY, fontsize=10, style="italic", zorder=4)


def draw_points(
    axes: Axes, points: PlanePoints, order: Sequence[str], colors: Mapping[str, str], markers: Mapping[str, str]
) -> None:
    """Draw the objects of each class in turn, with their counts in the legend."""
    size = float(np.clip(6e3 / max(int(points.defined.sum()), 1), 6.0, 26.0))
    for name in order:
        members = points.defined & (points.names == name)
        if members.any():
            axes.scatter(
                points.x[members],
                points.y[members],
                s=size * (3 if markers[name] == "." else 1),
                color=colors[name],
                marker=markers[name],
                linewidths=0,
                alpha=0.75,
                zorder=3,
                label=count_label(name, points),
            )


def count_label(name: str, points: PlanePoints) -> str:
    """Return the name of a class with the count of its objects."""
    words = CLASS_NAMES.get(name, name.replace("-agn", " AGN"))
    return f"{words} ({int((points.names == name).sum()):,})"


def draw_density(axes: Axes, points: PlanePoints) -> None:
    """Draw contours of the density of many objects."""
    x, y = points.x[points.defined], points.y[points.defined]
    if len(x) < MIN_DENSITY_OBJECTS:
        return
    counts, x_edges, y_edges = np.histogram2d(x, y, bins=80, range=(axes.get_xlim(), axes.get_ylim()))
    density = gaussian_filter(counts, 2.0)
    falling = np.sort(density, axis=None)[::-1]
    content = np.cumsum(falling) / falling.sum()
    levels = [falling[np.searchsorted(content, fraction)] for fraction in sorted(DENSITY_FRACTIONS, reverse=True)]
    middles = [(edges[1:] + edges[:-1]) / 2 for edges in (x_edges, y_edges)]
    axes.contour(*middles, density.T, levels=levels, colors=BLACK, linewidths=0.7, alpha=0.7, zorder=4)
    percent = ", ".join(f"{fraction:.0%}" for fraction in DENSITY_FRACTIONS)
    axes.plot([], [], color=BLACK, linewidth=0.7, alpha=0.7, label=f"{percent} of objects")


def draw_ellipses(axes: Axes, points: PlanePoints) -> None:
    """Draw 1-sigma ellipses; the two ratios share no line, so their errors are uncorrelated and the axes upright."""
    if points.x_err is None or points.y_err is None:
        return
    known = points.defined & np.isfinite(points.x_err) & np.isfinite(points.y_err)
    drawn = np.flatnonzero(known & (np.fmax(points.x_err, points.y_err) <= MAX_ELLIPSE_DEX))
    if len(drawn) > MAX_ELLIPSES:
        drawn = drawn[np.linspace(0, len(drawn) - 1, MAX_ELLIPSES).astype(np.int64)]
    ellipses = EllipseCollection(
        2 * points.x_err[drawn],
        2 * points.y_err[drawn],
        np.zeros(len(drawn)),
        units="xy",
        offsets=np.stack([points.x[drawn], points.y[drawn]], axis=1),
        offset_transform=axes.transData,
        facecolors="none",
        edgecolors=LIGHT_GREY,
        linewidths=0.6,
        zorder=2,
    )
    axes.add_collection(ellipses, autolim=False)
    if len(drawn):
        axes.plot([], [], "o", color=LIGHT_GREY, markerfacecolor="none", label="1 σ errors")


def note_left_out(axes: Axes, points: PlanePoints) -> None:
    """Write how many objects are not drawn, and why."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    inside = (points.x >= left) & (points.x <= right) & (points.y >= low) & (points.y <= high)
    beyond, undefined = int((points.defined & ~inside).sum()), int((~points.defined).sum())
    notes = [f"{count} {text}" for count, text in ((undefined, "undefined"), (beyond, "beyond the axes")) if count]
    if notes:
        axes.text(0.01, 0.01, ", ".join(notes), transform=axes.transAxes, fontsize=9, color=GREY)

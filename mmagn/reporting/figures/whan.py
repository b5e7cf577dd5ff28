"""The WHAN plane (Cid Fernandes+2011) with its borders, classes, error ellipses and density."""

import numpy as np
from astropy.table import Table
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmagn.labels.bpt import UNCLASSIFIED, log_ratio
from mmagn.labels.whan import (
    PASSIVE_EW_ANGSTROM,
    RETIRED_EW_ANGSTROM,
    STRONG_EW_ANGSTROM,
    WHAN_CLASSES,
    WHAN_LOG_NII_HALPHA,
)
from mmagn.reporting.figures.planes import (
    PlanePoints,
    draw_density,
    draw_ellipses,
    draw_points,
    log_ratio_err,
    note_left_out,
    region_names,
)
from mmagn.reporting.figures.style import BLACK, CLASS_COLORS, GREY, ORANGE, PINK, blank_figure, styled

WHAN_X_RANGE = (-1.5, 1.0)
WHAN_EW_RANGE_ANGSTROM = (0.1, 500.0)
WHAN_COLORS = {
    "star-forming": CLASS_COLORS["star-forming"],
    "strong-agn": CLASS_COLORS["seyfert"],
    "weak-agn": ORANGE,
    "retired": CLASS_COLORS["liner"],
    "passive": PINK,
    UNCLASSIFIED: GREY,
}
WHAN_MARKERS = {
    "star-forming": "o",
    "strong-agn": "^",
    "weak-agn": "s",
    "retired": "D",
    "passive": "v",
    UNCLASSIFIED: ".",
}


def measured_whan_figure(table: Table) -> Figure:
    """Return the WHAN plane of a table of measurements, with error ellipses for the classified objects."""
    names, ew = np.asarray(table["whan_class"], dtype=np.str_), np.asarray(table["ew_halpha"], dtype=np.float64)
    emission = np.where(ew > 0, ew, np.nan)
    x_err = np.where(names != UNCLASSIFIED, log_ratio_err(table, "nii_6584", "halpha"), np.nan)
    points = PlanePoints(
        x=np.asarray(log_ratio(table["flux_nii_6584"], table["flux_halpha"])),
        y=np.log10(emission),
        names=names,
        x_err=x_err,
        y_err=np.asarray(table["ew_halpha_err"], dtype=np.float64) / (np.log(10.0) * emission),
    )
    return whan_figure(points)


@styled
def whan_figure(points: PlanePoints) -> Figure:
    """Return the WHAN plane of a set of objects with its borders (Cid Fernandes+2011).

    Points are log10 [N II] 6584 / H-alpha, and log10 of the rest-frame equivalent width of H-alpha in Angstrom, NaN in
    absorption; objects with an undefined value are counted.
    """
    figure = blank_figure(5.8, 6.0)
    axes = figure.add_subplot()
    axes.set(xlim=WHAN_X_RANGE, ylim=np.log10(WHAN_EW_RANGE_ANGSTROM))
    axes.set(xlabel="log([N II] 6584 / Hα)", ylabel="equivalent width of Hα, rest frame [Å]")
    ticks = [0.1, 0.5, 1, 3, 6, 10, 30, 100, 300]
    axes.set_yticks(np.log10(ticks), [f"{tick:g}" for tick in ticks])
    draw_density(axes, points)
    draw_ellipses(axes, points)
    draw_points(axes, points, (UNCLASSIFIED, *WHAN_CLASSES), WHAN_COLORS, WHAN_MARKERS)
    _whan_borders(axes)
    note_left_out(axes, points)
    figure.legend(loc="outside lower center", ncols=3, markerscale=1.5, columnspacing=1.0, handletextpad=0.5)
    return figure


def _whan_borders(axes: Axes) -> None:
    low, high = np.log10(WHAN_EW_RANGE_ANGSTROM)
    left, right = WHAN_X_RANGE
    retired, strong, passive = np.log10([RETIRED_EW_ANGSTROM, STRONG_EW_ANGSTROM, PASSIVE_EW_ANGSTROM])
    axes.plot([WHAN_LOG_NII_HALPHA] * 2, [retired, high], color=BLACK, linewidth=1.4, label="Cid Fernandes+2011")
    axes.plot([WHAN_LOG_NII_HALPHA, right], [strong, strong], color=BLACK, linewidth=1.4)
    axes.plot([left, right], [retired, retired], color=BLACK, linewidth=1.4)
    label = f"passive: below {PASSIVE_EW_ANGSTROM:g} Å"
    axes.plot([left, right], [passive, passive], color=BLACK, linestyle="--", linewidth=1.4, label=label)
    region_names(
        axes,
        {
            "star-forming": (left + 0.05, high - 0.2),
            "strong AGN": (right - 0.62, high - 0.2),
            "weak AGN": (right - 0.5, (retired + strong) / 2 - 0.06),
            "retired": (right - 0.4, (passive + retired) / 2),
            "passive": (right - 0.4, (low + passive) / 2),
        },
    )

"""The [N II] BPT plane with its demarcation curves, classes, error ellipses and density."""

import json

import numpy as np
from astropy.table import Table
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from mmagn.labels.bpt import (
    BPT_CLASSES,
    KAUFFMANN2003_POLE,
    KEWLEY2001_POLE,
    UNCLASSIFIED,
    SeyfertLiner,
    kauffmann2003_nii,
    kewley2001_nii,
    log_ratio,
    seyfert_liner_nii,
)
from mmagn.records import Floats
from mmagn.reporting.figures.planes import (
    PlanePoints,
    count_label,
    draw_density,
    draw_ellipses,
    draw_points,
    log_ratio_err,
    note_left_out,
    region_names,
)
from mmagn.reporting.figures.style import (
    BLACK,
    CLASS_COLORS,
    CLASS_MARKERS,
    GREY,
    PROBABILITY_COLORS,
    blank_figure,
    styled,
)

BPT_X_RANGE = (-2.0, 1.0)
BPT_Y_RANGE = (-1.5, 1.6)
_CURVE_NAMES = {"schawinski2007": "Schawinski+2007", "cidfernandes2010": "Cid Fernandes+2010"}


@styled
def bpt_figure(
    points: PlanePoints,
    *,
    probability: ArrayLike | None = None,
    seyfert_liner: SeyfertLiner = "schawinski2007",
) -> Figure:
    """Return the [N II] BPT plane of a set of objects with the curves that make their classes.

    Parameters
    ----------
    points
        log10 [N II] 6584 / H-alpha and log10 [O III] 5007 / H-beta; objects with an undefined ratio are counted.
    probability
        (object,) AGN probability in 0..1; where given it is the colour of the points and the marker alone is the class.
    seyfert_liner
        Name of the line between Seyfert and LINER.
    """
    figure = blank_figure(5.8, 6.0 if probability is None else 5.6)
    axes = figure.add_subplot()
    axes.set(xlim=BPT_X_RANGE, ylim=BPT_Y_RANGE)
    axes.set(xlabel="log([N II] 6584 / Hα)", ylabel="log([O III] 5007 / Hβ)")
    draw_density(axes, points)
    draw_ellipses(axes, points)
    order = (UNCLASSIFIED, *BPT_CLASSES)
    if probability is None:
        draw_points(axes, points, order, CLASS_COLORS, CLASS_MARKERS)
    else:
        _points_by_probability(figure, axes, points, np.asarray(probability, dtype=np.float64))
    _bpt_curves(axes, seyfert_liner)
    note_left_out(axes, points)
    figure.legend(loc="outside lower center", ncols=3, markerscale=1.5, columnspacing=1.2, handletextpad=0.5)
    return figure


def measured_bpt_figure(table: Table, *, probability: ArrayLike | None = None) -> Figure:
    """Return the BPT plane of a table of measurements, with error ellipses for the classified objects.

    The line between Seyfert and LINER is that of the label scheme in the table's ``meta``.
    """
    scheme = json.loads(table.meta["LABELS"]) if "LABELS" in table.meta else {}
    curve: SeyfertLiner = scheme.get("seyfert_liner", "schawinski2007")
    return bpt_figure(bpt_points(table, errors=probability is None), probability=probability, seyfert_liner=curve)


def bpt_points(table: Table, *, errors: bool = True) -> PlanePoints:
    """Return the objects of a table of measurements on the BPT plane; errors are those of classified objects."""
    names = np.asarray(table["bpt_class"], dtype=np.str_)
    x_err = y_err = None
    if errors:
        classified = names != UNCLASSIFIED
        x_err = np.where(classified, log_ratio_err(table, "nii_6584", "halpha"), np.nan)
        y_err = np.where(classified, log_ratio_err(table, "oiii_5007", "hbeta"), np.nan)
    return PlanePoints(
        x=np.asarray(log_ratio(table["flux_nii_6584"], table["flux_halpha"])),
        y=np.asarray(log_ratio(table["flux_oiii_5007"], table["flux_hbeta"])),
        names=names,
        x_err=x_err,
        y_err=y_err,
    )


def _bpt_curves(axes: Axes, seyfert_liner: SeyfertLiner) -> None:
    x = np.linspace(BPT_X_RANGE[0], KAUFFMANN2003_POLE - 0.02, 300)
    axes.plot(x, kauffmann2003_nii(x), color=BLACK, linestyle="--", linewidth=1.4, label="Kauffmann+2003")
    x = np.linspace(BPT_X_RANGE[0], KEWLEY2001_POLE - 0.02, 300)
    axes.plot(x, kewley2001_nii(x), color=BLACK, linewidth=1.4, label="Kewley+2001")
    x = np.linspace(*BPT_X_RANGE, 600)
    y = seyfert_liner_nii(x, seyfert_liner)
    above = y >= kewley2001_nii(x)
    axes.plot(x[above], y[above], color=BLACK, linestyle=":", linewidth=1.4, label=_CURVE_NAMES[seyfert_liner])
    region_names(axes, {"star-forming": (-1.9, -0.6), "Seyfert": (-0.95, 1.4), "LINER": (0.6, -0.7)})
    axes.text(0.07, -1.45, "composite", color=GREY, fontsize=10, style="italic", rotation=90, va="bottom", zorder=4)


def _points_by_probability(figure: Figure, axes: Axes, points: PlanePoints, probability: Floats) -> None:
    drawn = points.defined & np.isfinite(probability)
    mappable = None
    for name in (UNCLASSIFIED, *BPT_CLASSES):
        members = drawn & (points.names == name)
        if members.any():
            mappable = axes.scatter(
                points.x[members],
                points.y[members],
                c=probability[members],
                cmap=PROBABILITY_COLORS,
                vmin=0.0,
                vmax=1.0,
                s=26,
                marker=CLASS_MARKERS[name],
                edgecolors=BLACK,
                linewidths=0.4,
                zorder=3,
                label=count_label(name, points),
            )
    if mappable is not None:
        figure.colorbar(mappable, ax=axes, label="P(AGN), calibrated", shrink=0.7, aspect=30)

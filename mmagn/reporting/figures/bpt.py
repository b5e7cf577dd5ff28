"""The BPT and WHAN planes with their demarcation curves, classes, error ellipses and density."""

import json
from collections.abc import Sequence

import numpy as np
from astropy.table import Table
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter

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
from mmagn.labels.whan import (
    PASSIVE_EW_ANGSTROM,
    RETIRED_EW_ANGSTROM,
    STRONG_EW_ANGSTROM,
    WHAN_CLASSES,
    WHAN_LOG_NII_HALPHA,
)
from mmagn.reporting.figures.style import (
    BLACK,
    CLASS_COLORS,
    CLASS_MARKERS,
    GREY,
    LIGHT_GREY,
    ORANGE,
    PINK,
    blank_figure,
    styled,
)

BPT_X_RANGE = (-2.0, 1.0)
BPT_Y_RANGE = (-1.5, 1.6)
WHAN_X_RANGE = (-1.5, 1.0)
WHAN_EW_RANGE_ANGSTROM = (0.1, 500.0)
MAX_ELLIPSES = 300
"""Error ellipses drawn at most, evenly spaced in the order of the objects; more would hide the classes."""
MAX_ELLIPSE_DEX = 0.5
"""Error above which no ellipse is drawn: it would cross half of the plane and say nothing."""
MIN_DENSITY_OBJECTS = 500
"""Objects from which on contours of their density are drawn."""
DENSITY_FRACTIONS = (0.3, 0.6, 0.9)
"""Fraction of the objects inside each contour."""
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
_CURVE_NAMES = {"schawinski2007": "Schawinski+2007", "cidfernandes2010": "Cid Fernandes+2010"}


@styled
def bpt_figure(
    log_nii_halpha: ArrayLike,
    log_oiii_hbeta: ArrayLike,
    bpt_class: ArrayLike,
    *,
    log_nii_halpha_err: ArrayLike | None = None,
    log_oiii_hbeta_err: ArrayLike | None = None,
    probability: ArrayLike | None = None,
    seyfert_liner: SeyfertLiner = "schawinski2007",
    title: str = "",
) -> Figure:
    """Return the [N II] BPT plane of a set of objects with the curves that make their classes.

    Parameters
    ----------
    log_nii_halpha, log_oiii_hbeta
        (object,) dex; objects with an undefined ratio are left out and counted in the corner.
    bpt_class
        (object,) class names, which give colour and marker.
    log_nii_halpha_err, log_oiii_hbeta_err
        (object,) dex, both or none; drawn as 1-sigma ellipses.
    probability
        (object,) AGN probability in 0..1; where given it is the colour of the points and the marker alone is the class.
    seyfert_liner
        Name of the line between Seyfert and LINER.
    title
        Text above the figure.
    """
    x, y = np.asarray(log_nii_halpha, dtype=np.float64), np.asarray(log_oiii_hbeta, dtype=np.float64)
    names = np.asarray(bpt_class, dtype=np.str_)
    figure = blank_figure(7.2, 5.6)
    axes = figure.add_subplot()
    axes.set(xlim=BPT_X_RANGE, ylim=BPT_Y_RANGE, title=title)
    axes.set(xlabel=r"log([N II] 6584 / H$\alpha$)", ylabel=r"log([O III] 5007 / H$\beta$)")
    _density(axes, x, y)
    if log_nii_halpha_err is not None and log_oiii_hbeta_err is not None:
        _ellipses(axes, x, y, np.asarray(log_nii_halpha_err), np.asarray(log_oiii_hbeta_err))
    order = (UNCLASSIFIED, *BPT_CLASSES)
    if probability is None:
        _points(axes, x, y, names, order, CLASS_COLORS, CLASS_MARKERS)
    else:
        _points_by_probability(figure, axes, x, y, names, np.asarray(probability, dtype=np.float64))
    _bpt_curves(axes, seyfert_liner)
    _note_left_out(axes, x, y)
    figure.legend(loc="outside lower center", ncols=4, markerscale=1.5)
    return figure


def measured_bpt_figure(table: Table, *, probability: ArrayLike | None = None, title: str = "") -> Figure:
    """Return the BPT plane of a table of measurements, with error ellipses for the classified objects.

    The line between Seyfert and LINER is that of the label scheme in the table's ``meta``.
    """
    classified = np.asarray(table["bpt_class"]) != UNCLASSIFIED
    return bpt_figure(
        log_ratio(table["flux_nii_6584"], table["flux_halpha"]),
        log_ratio(table["flux_oiii_5007"], table["flux_hbeta"]),
        table["bpt_class"],
        log_nii_halpha_err=np.where(classified, _log_ratio_err(table, "nii_6584", "halpha"), np.nan),
        log_oiii_hbeta_err=np.where(classified, _log_ratio_err(table, "oiii_5007", "hbeta"), np.nan),
        probability=probability,
        seyfert_liner=json.loads(table.meta["LABELS"])["seyfert_liner"],
        title=title,
    )


def measured_whan_figure(table: Table, *, title: str = "") -> Figure:
    """Return the WHAN plane of a table of measurements, with error ellipses for the classified objects."""
    classified = np.asarray(table["whan_class"]) != UNCLASSIFIED
    return whan_figure(
        log_ratio(table["flux_nii_6584"], table["flux_halpha"]),
        table["ew_halpha"],
        table["whan_class"],
        log_nii_halpha_err=np.where(classified, _log_ratio_err(table, "nii_6584", "halpha"), np.nan),
        ew_halpha_err_angstrom=table["ew_halpha_err"],
        title=title,
    )


@styled
def whan_figure(
    log_nii_halpha: ArrayLike,
    ew_halpha_angstrom: ArrayLike,
    whan_class: ArrayLike,
    *,
    log_nii_halpha_err: ArrayLike | None = None,
    ew_halpha_err_angstrom: ArrayLike | None = None,
    title: str = "",
) -> Figure:
    """Return the WHAN plane of a set of objects with its borders (Cid Fernandes+2011).

    Parameters
    ----------
    log_nii_halpha
        (object,) dex; objects with an undefined ratio or a width of 0 or less are left out and counted in the corner.
    ew_halpha_angstrom
        (object,) rest-frame equivalent width, emission positive.
    whan_class
        (object,) class names, which give colour and marker.
    log_nii_halpha_err, ew_halpha_err_angstrom
        (object,) dex and Angstrom, both or none; drawn as 1-sigma ellipses.
    title
        Text above the figure.
    """
    x = np.asarray(log_nii_halpha, dtype=np.float64)
    ew = np.asarray(ew_halpha_angstrom, dtype=np.float64)
    y = np.log10(ew, out=np.full(ew.shape, np.nan), where=ew > 0)
    figure = blank_figure(7.2, 5.6)
    axes = figure.add_subplot()
    axes.set(xlim=WHAN_X_RANGE, ylim=np.log10(WHAN_EW_RANGE_ANGSTROM), title=title)
    axes.set(xlabel=r"log([N II] 6584 / H$\alpha$)", ylabel=r"W(H$\alpha$)  [$\mathrm{\AA}$]")
    ticks = [0.1, 0.5, 1, 3, 6, 10, 30, 100, 300]
    axes.set_yticks(np.log10(ticks), [f"{tick:g}" for tick in ticks])
    _density(axes, x, y)
    if log_nii_halpha_err is not None and ew_halpha_err_angstrom is not None:
        y_err = np.asarray(ew_halpha_err_angstrom) / (np.log(10.0) * np.where(ew > 0, ew, np.nan))
        _ellipses(axes, x, y, np.asarray(log_nii_halpha_err), y_err)
    _points(axes, x, y, np.asarray(whan_class, dtype=np.str_), (UNCLASSIFIED, *WHAN_CLASSES), WHAN_COLORS, WHAN_MARKERS)
    _whan_borders(axes)
    _note_left_out(axes, x, y)
    figure.legend(loc="outside lower center", ncols=4, markerscale=1.5)
    return figure


def _log_ratio_err(table: Table, numerator: str, denominator: str) -> NDArray[np.float64]:
    """Return (object,) error of log10 of a flux ratio in dex, to first order, NaN where a flux is not positive."""
    variance = np.zeros(len(table))
    for line in (numerator, denominator):
        flux = np.asarray(table[f"flux_{line}"], dtype=np.float64)
        variance += (np.asarray(table[f"flux_{line}_err"], dtype=np.float64) / np.where(flux > 0, flux, np.nan)) ** 2
    return np.asarray(np.sqrt(variance) / np.log(10.0))


def _bpt_curves(axes: Axes, seyfert_liner: SeyfertLiner) -> None:
    x = np.linspace(BPT_X_RANGE[0], KAUFFMANN2003_POLE - 0.02, 300)
    axes.plot(x, kauffmann2003_nii(x), color=BLACK, linestyle="--", label="Kauffmann+2003")
    x = np.linspace(BPT_X_RANGE[0], KEWLEY2001_POLE - 0.02, 300)
    axes.plot(x, kewley2001_nii(x), color=BLACK, label="Kewley+2001")
    x = np.linspace(*BPT_X_RANGE, 600)
    y = seyfert_liner_nii(x, seyfert_liner)
    shown = y >= kewley2001_nii(x)
    axes.plot(x[shown], y[shown], color=BLACK, linestyle=":", label=_CURVE_NAMES[seyfert_liner])
    for text, place in {
        "star-forming": (-1.75, -0.3),
        "composite": (-0.11, -1.1),
        "Seyfert": (-0.75, 1.35),
        "LINER": (0.6, -0.3),
    }.items():
        axes.text(*place, text, color=GREY, fontsize=10, style="italic", zorder=4)


def _whan_borders(axes: Axes) -> None:
    low, high = np.log10(WHAN_EW_RANGE_ANGSTROM)
    left, right = WHAN_X_RANGE
    retired, strong, passive = np.log10([RETIRED_EW_ANGSTROM, STRONG_EW_ANGSTROM, PASSIVE_EW_ANGSTROM])
    axes.plot([WHAN_LOG_NII_HALPHA] * 2, [retired, high], color=BLACK, label="Cid Fernandes+2011")
    axes.plot([WHAN_LOG_NII_HALPHA, right], [strong, strong], color=BLACK)
    axes.plot([left, right], [retired, retired], color=BLACK)
    axes.plot([left, right], [passive, passive], color=BLACK, linestyle="--")
    for text, place in {
        "star-forming": (left + 0.05, high - 0.2),
        "strong AGN": (right - 0.55, high - 0.2),
        "weak AGN": (right - 0.5, (retired + strong) / 2 - 0.05),
        "retired": (right - 0.4, (passive + retired) / 2),
        "passive": (right - 0.4, (low + passive) / 2),
    }.items():
        axes.text(*place, text, color=GREY, fontsize=12, style="italic", zorder=4)


def _points(
    axes: Axes,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    names: NDArray[np.str_],
    order: Sequence[str],
    colors: dict[str, str],
    markers: dict[str, str],
) -> None:
    drawn = np.isfinite(x) & np.isfinite(y)
    size = float(np.clip(6e3 / max(int(drawn.sum()), 1), 6.0, 30.0))
    for name in order:
        chosen = drawn & (names == name)
        if chosen.any():
            axes.scatter(
                x[chosen],
                y[chosen],
                s=size * (3 if markers[name] == "." else 1),
                color=colors[name],
                marker=markers[name],
                linewidths=0,
                alpha=0.75,
                zorder=3,
                label=f"{name} ({int((names == name).sum())})",
            )


def _points_by_probability(
    figure: Figure,
    axes: Axes,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    names: NDArray[np.str_],
    probability: NDArray[np.float64],
) -> None:
    drawn = np.isfinite(x) & np.isfinite(y) & np.isfinite(probability)
    points = None
    for name in (UNCLASSIFIED, *BPT_CLASSES):
        chosen = drawn & (names == name)
        if chosen.any():
            points = axes.scatter(
                x[chosen],
                y[chosen],
                c=probability[chosen],
                cmap="cividis",
                vmin=0.0,
                vmax=1.0,
                s=26,
                marker=CLASS_MARKERS[name],
                edgecolors=BLACK,
                linewidths=0.3,
                zorder=3,
                label=f"{name} ({int((names == name).sum())})",
            )
    if points is not None:
        figure.colorbar(points, ax=axes, label="AGN probability")


def _density(axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    drawn = np.isfinite(x) & np.isfinite(y)
    if drawn.sum() < MIN_DENSITY_OBJECTS:
        return
    counts, x_edges, y_edges = np.histogram2d(x[drawn], y[drawn], bins=80, range=(axes.get_xlim(), axes.get_ylim()))
    density = gaussian_filter(counts, 2.0)
    falling = np.sort(density, axis=None)[::-1]
    content = np.cumsum(falling) / falling.sum()
    levels = [falling[np.searchsorted(content, fraction)] for fraction in sorted(DENSITY_FRACTIONS, reverse=True)]
    middles = [(edges[1:] + edges[:-1]) / 2 for edges in (x_edges, y_edges)]
    axes.contour(*middles, density.T, levels=levels, colors=BLACK, linewidths=0.7, alpha=0.7, zorder=4)


def _ellipses(
    axes: Axes,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    x_err: NDArray[np.float64],
    y_err: NDArray[np.float64],
) -> None:
    """Draw 1-sigma ellipses; the two ratios share no line, so their errors are uncorrelated and the axes upright."""
    drawn = np.flatnonzero(np.isfinite(x) & np.isfinite(y) & (np.fmax(x_err, y_err) <= MAX_ELLIPSE_DEX))
    drawn = drawn[np.isfinite(x_err[drawn]) & np.isfinite(y_err[drawn])]
    if len(drawn) > MAX_ELLIPSES:
        drawn = drawn[np.linspace(0, len(drawn) - 1, MAX_ELLIPSES).astype(np.int64)]
    axes.add_collection(
        EllipseCollection(
            2 * x_err[drawn],
            2 * y_err[drawn],
            np.zeros(len(drawn)),
            units="xy",
            offsets=np.stack([x[drawn], y[drawn]], axis=1),
            offset_transform=axes.transData,
            facecolors="none",
            edgecolors=LIGHT_GREY,
            linewidths=0.6,
            zorder=2,
        ),
        autolim=False,
    )


def _note_left_out(axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    finite = np.isfinite(x) & np.isfinite(y)
    beyond = int((finite & ~((x >= left) & (x <= right) & (y >= low) & (y <= high))).sum())
    undefined = int((~finite).sum())
    notes = [f"{count} {text}" for count, text in ((undefined, "undefined"), (beyond, "beyond the axes")) if count]
    if notes:
        axes.text(0.99, 0.01, ", ".join(notes), transform=axes.transAxes, ha="right", fontsize=9, color=GREY)

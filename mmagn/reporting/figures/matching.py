"""Figures that answer "why so few pairs?" from positions alone."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy.table import Table
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from mmagn.records import CELL_NSIDE
from mmagn.reporting.figures.sky import Position, coverage_figure
from mmagn.reporting.figures.style import BLUE, GREY, LIGHT_GREY, ORANGE, SKY, VERMILION, blank_figure, message, styled

MAX_BARS = 25
MAX_POINTS = 50_000
"""Objects of a survey that a map draws; of a larger one every n-th."""
_KINDS: Mapping[str, Mapping[str, Any]] = {
    "spectra only": {"color": LIGHT_GREY, "marker": "s", "s": 14},
    "images only": {"color": SKY, "marker": "s", "s": 14},
    "both, no pair": {"color": ORANGE, "marker": "D", "s": 16},
    "both, with pairs": {"color": VERMILION, "marker": "o", "s": 20},
}


def plan_figures(
    positions: Mapping[str, Position], cells: Table, radii: Table, separations: Table, radius_arcsec: float
) -> dict[str, Figure]:
    """Return the figures of a match plan by name.

    Positions are RA and Dec (object,) in degrees of both surveys and of the pairs, by the name in the legend; tables
    are those of ``matching.diagnostics.MatchPlan``.
    """
    return {
        "sky": sky_figure(cells),
        "coverage": _coverage(positions),
        "separations": separation_figure(separations, radius_arcsec),
        "radius": radius_figure(radii, radius_arcsec),
        "cells": cell_figure(cells),
    }


def _coverage(sets: Mapping[str, Position]) -> Figure:
    """Return the map of both surveys; where only a part of a large one is drawn, its title says so."""
    steps = {name: max(1, -(-len(np.asarray(each[0])) // MAX_POINTS)) for name, each in sets.items()}
    figure = coverage_figure(
        {
            name: (np.asarray(ra_deg)[:: steps[name]], np.asarray(dec_deg)[:: steps[name]])
            for name, (ra_deg, dec_deg) in sets.items()
        }
    )
    if parts := [f"one in {step} {name}" for name, step in steps.items() if step > 1]:
        figure.suptitle(f"drawn: {', '.join(parts)}", fontsize=10, color=GREY)
    return figure


@styled
def sky_figure(cells: Table) -> Figure:
    """Return a map of the whole sky with every HEALPix cell that holds a survey; RA grows to the left."""
    sdss, hsc, pairs = (np.asarray(cells[name]) for name in ("sdss", "hsc", "pairs"))
    members = {
        "spectra only": (sdss > 0) & (hsc == 0),
        "images only": (sdss == 0) & (hsc > 0),
        "both, no pair": (sdss > 0) & (hsc > 0) & (pairs == 0),
        "both, with pairs": pairs > 0,
    }
    figure = blank_figure(9.0, 5.0)
    axes = figure.add_subplot(projection="mollweide")
    axes.grid(color=LIGHT_GREY, linewidth=0.5)
    longitude = np.radians(180 - np.asarray(cells["ra_deg"]))
    latitude = np.radians(np.asarray(cells["dec_deg"]))
    for name, member in members.items():
        label = f"{name} ({member.sum():,})"
        axes.scatter(longitude[member], latitude[member], label=label, linewidths=0, zorder=3, **_KINDS[name])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{(180 - np.degrees(x)) % 360:.0f}°"))
    axes.tick_params(axis="x", labelsize=8, labelcolor=GREY)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=4, handletextpad=0.2)
    axes.set_title(f"HEALPix cells, NSIDE {CELL_NSIDE}, by what they hold")
    return figure


@styled
def separation_figure(separations: Table, radius_arcsec: float) -> Figure:
    """Return how many images lie how far from a spectrum, and how many are expected by chance."""
    low, high = (np.asarray(separations[name]) for name in ("low_arcsec", "high_arcsec"))
    counts, chance = (np.asarray(separations[name]) for name in ("neighbours", "expected_by_chance"))
    figure = blank_figure(7.0, 4.2)
    axes = figure.subplots()
    edges = np.append(low, high[-1])
    axes.stairs(counts, edges, fill=True, color=SKY, alpha=0.7, label="images around spectra")
    axes.plot((low + high) / 2, chance, color=VERMILION, label="unrelated objects of the local density")
    _mark_radius(axes, radius_arcsec)
    axes.set(xlabel="separation [arcsec]", ylabel="neighbours per bin", xlim=(0, high[-1]), yscale="symlog")
    axes.set_ylim(0, 2 * max(1.0, counts.max(), chance.max()))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.legend(loc="upper right")
    return figure


@styled
def radius_figure(radii: Table, radius_arcsec: float) -> Figure:
    """Return pairs, and the part of them that is false or ambiguous, against the match radius."""
    radius, pairs, chance, false, ambiguous = (np.asarray(radii[name], dtype=float) for name in radii.colnames)
    figure = blank_figure(7.0, 6.0)
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.plot(radius, pairs, color=BLUE, marker="o", label="pairs")
    upper.plot(radius, ambiguous, color=ORANGE, marker="D", label="spectra with several images")
    upper.plot(radius, chance, color=VERMILION, linestyle="--", label="expected by chance")
    upper.set(ylabel="number", ylim=(0, 1.1 * max(1.0, pairs.max(), chance.max(), ambiguous.max())))
    upper.yaxis.set_major_locator(MaxNLocator(integer=True))
    upper.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    lower.plot(radius, false, color=VERMILION, marker="o")
    lower.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    worst = float(np.nanmax(false)) if np.isfinite(false).any() else 0.0
    lower.set(xlabel="match radius [arcsec]", ylabel="expected false fraction", ylim=(0, max(0.01, 1.15 * worst)))
    if not np.isfinite(false).any():
        message(lower, "no pairs")
    _mark_radius(upper, radius_arcsec)
    lower.axvline(radius_arcsec, color=GREY, linewidth=1.0, linestyle=":")
    return figure


@styled
def cell_figure(cells: Table) -> Figure:
    """Return the pairs of each cell that has both surveys beside its spectra and images, most pairs first."""
    rows = cells[(np.asarray(cells["sdss"]) > 0) & (np.asarray(cells["hsc"]) > 0)][:MAX_BARS]
    figure = blank_figure(8.0, 2.0 + 0.27 * max(len(rows), 4))
    axes = figure.subplots()
    place = np.arange(len(rows))
    for name, color, height, label in (("hsc", SKY, 0.8, "HSC images"), ("sdss", GREY, 0.5, "spectra")):
        axes.barh(place, np.asarray(rows[name]), height=height, color=color, alpha=0.6, label=label)
    axes.barh(place, np.asarray(rows["pairs"]), height=0.25, color=VERMILION, label="pairs")
    axes.set_yticks(place, [str(cell) for cell in rows["healpix"]])
    axes.set_ylim(max(len(rows), 4) - 0.5, -0.5)
    most = max(1, *(int(np.max(rows[name])) for name in ("sdss", "hsc"))) if len(rows) else 1
    axes.set(xscale="symlog", xlim=(0, 1.5 * most), xlabel="objects", ylabel=f"HEALPix cell, NSIDE {CELL_NSIDE}")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    omitted = len(cells) - len(rows)
    title = f"pairs per cell: {int(np.sum(cells['pairs'])):,} in {int(np.sum(np.asarray(cells['pairs']) > 0))} cells"
    axes.set_title(
        title + (f"; {omitted} cells with fewer or with one survey are not shown" if omitted else ""), loc="left"
    )
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.9 / (2.0 + 0.27 * max(len(rows), 4))), ncols=3)
    return figure


def _mark_radius(axes: Axes, radius_arcsec: float) -> None:
    axes.axvline(radius_arcsec, color=GREY, linewidth=1.0, linestyle=":")
    axes.annotate(
        f"radius {radius_arcsec:g}",
        (radius_arcsec, 0),
        xycoords=("data", "axes fraction"),
        xytext=(3, 4),
        textcoords="offset points",
        color=GREY,
        fontsize=9,
    )

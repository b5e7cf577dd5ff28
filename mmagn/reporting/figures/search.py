"""Figures of a search: the score of every trial, which settings mattered, and where the good settings lie."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy.table import Table
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mmagn.records import Floats
from mmagn.reporting.figures.style import (
    BLACK,
    BLUE,
    GREY,
    LIGHT_GREY,
    VERMILION,
    WHITE,
    blank_figure,
    message,
    score_text,
    styled,
)

LOGARITHMIC = ("learning_rate", "weight_decay")
"""Settings that are searched evenly in their logarithm."""
_OTHER_COLUMNS = ("number", "state", "score", "folds", "duration_s")
"""Columns of ``trials.csv`` that are no settings."""


@styled
def trials_figure(trials: Table, *, prevalence: float) -> Figure:
    """Return the score of every trial in turn and the best one so far; the dashed line is the prevalence.

    Trials, from ``trials.csv``, count from 1; those that were pruned are open circles at the mean of their folds.
    """
    figure = blank_figure(5.6, 4.2)
    axes = figure.subplots()
    number, score, state = np.asarray(trials["number"]), scores(trials), np.asarray(trials["state"], dtype=np.str_)
    for name, face, label in (("complete", BLUE, "all folds"), ("pruned", WHITE, "pruned")):
        members = (state == name) & np.isfinite(score)
        if members.any():
            axes.plot(number[members], score[members], "o", color=BLUE, markerfacecolor=face, markersize=5, label=label)
    whole = np.flatnonzero((state == "complete") & np.isfinite(score))
    whole = whole[np.argsort(number[whole])]
    if len(whole):
        best = np.maximum.accumulate(score[whole]).tolist()
        axes.step([*number[whole], number.max()], [*best, best[-1]], where="post", color=VERMILION, label="best so far")
    axes.axhline(prevalence, color=BLACK, linestyle="--", linewidth=1.0, label=f"prevalence {prevalence:.3f}")
    axes.set(xlabel="trial", ylabel="mean average precision of inner folds")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside lower center", ncols=4, columnspacing=1.2)
    return figure


@styled
def importance_figure(importance: Mapping[str, float]) -> Figure:
    """Return how much of the spread of scores each setting explains (fANOVA), the most important on top."""
    figure = blank_figure(5.6, 1.2 + 0.4 * max(1, len(importance)))
    axes = figure.subplots()
    ranked = sorted(importance.items(), key=lambda item: item[1])
    bars = axes.barh([score_text(name) for name, _ in ranked], [share for _, share in ranked], color=BLUE)
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=9)
    axes.set_xlabel("fraction of the variance of the score (fANOVA)")
    axes.set_xlim(0, 1.1)
    axes.tick_params(axis="y", length=0)
    return figure


@styled
def parallel_figure(trials: Table) -> Figure:
    """Return a line per trial through its settings to its score; better trials are darker, pruned ones grey."""
    names = [name for name in trials.colnames if name not in _OTHER_COLUMNS]
    figure = blank_figure(1.6 + 1.15 * (len(names) + 1), 4.4)
    axes = figure.subplots()
    known = trials[np.isfinite(scores(trials))]
    if not len(known):
        axes.set_axis_off()
        message(axes, "no trial has a score")
        return figure
    columns = [*names, "score"]
    heights = np.stack([_column_axis(axes, place, known, name) for place, name in enumerate(columns)], axis=1)
    score, complete = scores(known), np.asarray(known["state"], dtype=np.str_) == "complete"
    range_of = score[complete] if complete.any() else score
    shades = ScalarMappable(Normalize(range_of.min(), range_of.max()), colormaps["viridis_r"])
    for row in np.argsort(score).tolist():
        color = shades.to_rgba(np.array(score[row])) if complete[row] else LIGHT_GREY
        look = {"linewidth": 1.4, "zorder": 3} if complete[row] else {"linewidth": 0.7, "zorder": 2}
        axes.plot(range(len(columns)), heights[row], color=color, **look)  # type: ignore[arg-type]
    axes.set_xlim(-0.3, len(names) + 0.6)
    axes.set_ylim(-0.12, 1.12)
    labels = [score_text(name).replace(" ", "\n") for name in [*names, "average_precision"]]
    axes.set_xticks(range(len(columns)), labels)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    figure.colorbar(shades, ax=axes, label="mean average precision; grey: pruned")
    return figure


def scores(trials: Table) -> Floats:
    """Return (trial,) scores, NaN where a trial has none."""
    return np.array([np.nan if value is np.ma.masked else float(value) for value in trials["score"]])


def _column_axis(axes: Axes, place: int, trials: Table, name: str) -> Floats:
    """(trial,) heights from 0 to 1 on a vertical axis that is drawn at ``place``."""
    raw: list[Any] = trials[name].tolist()
    axes.axvline(place, color=GREY, linewidth=0.8, zorder=1)
    if any(isinstance(value, str | bool) for value in raw):
        choices = sorted({str(value) for value in raw})
        height = np.array([choices.index(str(value)) for value in raw]) / max(1, len(choices) - 1)
        marks = {choice: number / max(1, len(choices) - 1) for number, choice in enumerate(choices)}
    else:
        numbers = np.asarray(raw, dtype=np.float64)
        scale = np.log10(numbers) if name in LOGARITHMIC else numbers
        low, high = float(scale.min()), float(scale.max())
        height = (scale - low) / (high - low) if high > low else np.full(len(raw), 0.5)
        marks = {f"{numbers.min():.3g}": float(height.min()), f"{numbers.max():.3g}": float(height.max())}
    plate = {"facecolor": WHITE, "edgecolor": "none", "pad": 1.0, "alpha": 0.85}
    for text, level in marks.items():
        offset = {1.0: 9, 0.0: -9}.get(level, 0)
        look = {"textcoords": "offset points", "fontsize": 8.5, "color": BLACK, "zorder": 5, "bbox": plate}
        axes.annotate(text, (place, level), (0, offset), ha="center", va="center", **look)  # type: ignore[arg-type]
    return np.asarray(height, dtype=np.float64)

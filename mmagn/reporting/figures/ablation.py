"""Figures of an ablation: models and their differences with intervals, and the best models on parts of the sample."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmagn.evaluation.scorecard import Score
from mmagn.reporting.figures.curves import interval
from mmagn.reporting.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    VERMILION,
    WHITE,
    blank_figure,
    grid_behind,
    score_text,
    styled,
)

Numbers = Mapping[str, Any]
"""A row of ``ablation.json``."""
LEVEL_STYLES: dict[str, tuple[str, str, str]] = {
    "L0": (BLUE, "o", "L0: all lines"),
    "L2": (VERMILION, "s", "L2: lines blanked"),
    "L3": (GREEN, "^", "L3: image only"),
    "L4": (BLACK, "P", "L4: label that no input contains"),
    "nuisance": (ORANGE, "D", "nuisance inputs only"),
    "baseline": (GREY, "v", "baseline"),
}
"""Colour, marker and meaning of each level of the leakage ladder."""
_ROW_INCH = 0.27


@styled
def forest_figure(
    models: Sequence[Numbers], questions: Sequence[Numbers], *, metric: str, ceiling: Numbers | None = None
) -> Figure:
    """Return the scores of all models with their intervals, above their differences.

    The dashed line is the prevalence of the sample, the line with a band its noise ceiling. A filled marker of a
    difference is significant after correction for the number of questions, an open one is not.
    """
    heights = [max(1, len(models)), *([len(questions)] if questions else [])]
    figure = blank_figure(6.4, _ROW_INCH * sum(heights) + 1.1 * len(heights) + 0.7)
    panels: list[Axes] = np.atleast_1d(figure.subplots(len(heights), 1, height_ratios=heights)).tolist()
    if ceiling is not None and ceiling.get("value") is not None:
        if ceiling.get("low") is not None:
            panels[0].axvspan(ceiling["low"], ceiling["high"], color=GREEN, alpha=0.15, linewidth=0)
        panels[0].axvline(ceiling["value"], color=GREEN, linewidth=1.2, label=f"noise ceiling {ceiling['value']:.3f}")
    _model_panel(panels[0], models, metric)
    if questions:
        _difference_panel(panels[1], questions, metric)
    handles = [handle for axes in panels for handle in axes.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, columnspacing=1.2)
    return figure


@styled
def strata_figure(rows: Sequence[Numbers], ceilings: Sequence[Numbers], *, metric: str) -> Figure:
    """Return the best model of each level of the ladder on every part of the sample, beside its noise ceiling."""
    best = _best_of_level(rows, metric)
    limits = {(each["stratum"], each["part"]): each.get(metric, {}) for each in ceilings}
    strata = list(dict.fromkeys(row["stratum"] for row in rows))
    parts = {name: list(dict.fromkeys(row["part"] for row in rows if row["stratum"] == name)) for name in strata}
    heights = [len(members) for members in parts.values()] or [1]
    figure = blank_figure(6.4, 0.42 * sum(heights) + 0.6 * len(heights) + 0.9)
    panels = np.atleast_1d(figure.subplots(len(heights), 1, height_ratios=heights, sharex=True))
    for axes, (stratum, members) in zip(panels, parts.items(), strict=False):
        labels = []
        for place, part in enumerate(members):
            of_part = [row for row in rows if (row["stratum"], row["part"]) == (stratum, part)]
            interval(axes, place, Score.from_dict(limits.get((stratum, part), {})), color=GREEN)
            present = [row for row in of_part if row["variant"] in best]
            for number, row in enumerate(present):
                color, marker, _ = LEVEL_STYLES[row["level"]]
                height = place + 0.18 * (number - (len(present) - 1) / 2)
                _whisker(axes, height, (row[metric], row[f"{metric}_low"], row[f"{metric}_high"]), color, marker)
            labels.append(f"{part}\nn = {of_part[0]['objects']:,}, {of_part[0]['positives']:,} AGN")
        _rows_named(axes, labels)
        axes.set_title(stratum, loc="left")
    panels[-1].set_xlabel(f"{score_text(metric)}, intervals as in the table")
    looks = [LEVEL_STYLES[next(row["level"] for row in rows if row["variant"] == name)] for name in best]
    handles = [
        Line2D([], [], color=color, marker=marker, linewidth=1.6, label=f"{name} ({meaning})")
        for name, (color, marker, meaning) in zip(best, looks, strict=True)
    ]
    tick = {"color": GREEN, "marker": "|", "markersize": 12, "markeredgewidth": 2, "linestyle": "none"}
    handles.append(Line2D([], [], label="noise ceiling", **tick))  # type: ignore[arg-type]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, columnspacing=1.2)
    return figure


def _best_of_level(rows: Sequence[Numbers], metric: str) -> list[str]:
    """Of each level of networks the model whose mean score over the parts is the highest."""
    best: dict[str, tuple[float, str]] = {}
    for name in dict.fromkeys(row["variant"] for row in rows):
        members = [row for row in rows if row["variant"] == name]
        level, values = members[0]["level"], [row[metric] for row in members if row[metric] is not None]
        mean = float(np.mean(values or [0.0]))
        if level not in ("baseline", "nuisance") and mean > best.get(level, (-1.0, ""))[0]:
            best[level] = (mean, name)
    return [name for _, name in best.values()]


def _model_panel(axes: Axes, models: Sequence[Numbers], metric: str) -> None:
    for place, row in enumerate(models):
        color, marker, _ = LEVEL_STYLES[row["level"]]
        _whisker(axes, place, (row[metric], row[f"{metric}_low"], row[f"{metric}_high"]), color, marker)
    if models and metric == "average_precision":
        prevalence = models[0]["positives"] / models[0]["objects"]
        axes.axvline(prevalence, color=BLACK, linestyle="--", linewidth=1.0, label=f"prevalence {prevalence:.3f}")
    for level in dict.fromkeys(row["level"] for row in models):
        color, marker, meaning = LEVEL_STYLES[level]
        axes.plot([], [], color=color, marker=marker, linewidth=1.6, label=meaning)
    _rows_named(axes, [row["variant"] for row in models])
    axes.set_xlabel(score_text(metric))


def _difference_panel(axes: Axes, questions: Sequence[Numbers], metric: str) -> None:
    for place, each in enumerate(questions):
        face = BLACK if each["significant"] else WHITE
        _whisker(axes, place, (each["value"], each["low"], each["high"]), BLACK, "o", face)
    for face, meaning in ((BLACK, "significant after correction"), (WHITE, "not significant")):
        axes.plot([], [], color=BLACK, marker="o", linewidth=1.6, markerfacecolor=face, label=meaning)
    axes.axvline(0, color=BLACK, linestyle="--", linewidth=1.0)
    _rows_named(axes, [each["question"].replace(" - ", " − ") for each in questions])
    axes.set_xlabel(f"difference of {score_text(metric)}")


def _whisker(
    axes: Axes,
    place: float,
    numbers: tuple[float | None, float | None, float | None],
    color: str,
    marker: str,
    face: str = "",
) -> None:
    value, low, high = numbers
    if value is None:
        where = {"xycoords": ("axes fraction", "data"), "va": "center"}
        axes.annotate("undefined", (0.02, place), color=GREY, fontsize=9, **where)  # type: ignore[arg-type]
        return
    if low is not None and high is not None:
        axes.plot([low, high], [place, place], color=color, linewidth=1.6)
    axes.plot([value], [place], color=color, marker=marker, markerfacecolor=face or color, zorder=3)


def _rows_named(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    grid_behind(axes, "x")

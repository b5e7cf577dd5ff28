"""Figures of an ablation: the forest plot of models and differences, and how the best models fare on parts of it."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmagn.evaluation.answers import Answer, Row
from mmagn.evaluation.ceiling import PartCeiling
from mmagn.evaluation.scorecard import Score
from mmagn.evaluation.variants import VARIANTS, Level
from mmagn.reporting.figures.style import BLACK, BLUE, GREEN, GREY, LIGHT_GREY, ORANGE, VERMILION, blank_figure, styled

LEVEL_STYLES: dict[Level, tuple[str, str, str]] = {
    "L0": (BLUE, "o", "all lines"),
    "L2": (VERMILION, "s", "lines blanked"),
    "L3": (GREEN, "^", "image only"),
    "nuisance": (ORANGE, "D", "nuisance only"),
    "baseline": (GREY, "v", "baseline"),
}
"""Colour, marker and meaning of each rung of the leakage ladder."""
_ROW_INCH = 0.3


@styled
def forest_figure(
    rows: Sequence[Row], answers: Sequence[Answer], *, metric: str, ceiling: Score | None = None
) -> Figure:
    """Return the scores of all models with their intervals, above their differences.

    Parameters
    ----------
    rows
        Scores on the whole sample; the dashed line is their prevalence.
    answers
        Differences; a filled marker is significant after correction for the number of questions, an open one is not.
    metric
        Which score.
    ceiling
        Noise ceiling of it, drawn as a line with a band.
    """
    heights = [max(1, len(rows)), max(1, len(answers))] if answers else [max(1, len(rows))]
    figure = blank_figure(8.4, _ROW_INCH * sum(heights) + 1.3 * len(heights) + 0.4)
    panels = np.atleast_1d(figure.subplots(len(heights), 1, height_ratios=heights))
    if ceiling is not None:
        _draw_ceiling(panels[0], ceiling)
    _model_panel(panels[0], rows, metric)
    if answers:
        _difference_panel(panels[1], answers, metric)
    return figure


@styled
def strata_figure(rows: Sequence[Row], ceilings: Sequence[PartCeiling], *, metric: str) -> Figure:
    """Return the best model of each rung of the ladder on every part of the sample, beside its noise ceiling.

    Parameters
    ----------
    rows
        Scores on the parts of the sample.
    ceilings
        Noise ceilings of the same parts.
    metric
        Which score.
    """
    shown = _best_of_level(rows, metric)
    limits = {(each.stratum, each.part): each.scores[metric] for each in ceilings}
    parts = {name: list(dict.fromkeys(row.part for row in rows if row.stratum == name)) for name in _strata(rows)}
    heights = [len(members) for members in parts.values()] or [1]
    figure = blank_figure(8.4, 0.45 * sum(heights) + 0.75 * len(heights) + 0.6)
    panels = np.atleast_1d(figure.subplots(len(heights), 1, height_ratios=heights, sharex=True))
    for axes, (stratum, members) in zip(panels, parts.items(), strict=False):
        for place, part in enumerate(members):
            if (limit := limits.get((stratum, part))) is not None and limit.value is not None:
                axes.plot(
                    [limit.low, limit.high], [place] * 2, color=GREEN, linewidth=9, alpha=0.25, solid_capstyle="butt"
                )
                axes.plot([limit.value], [place], color=GREEN, marker="|", markersize=14, markeredgewidth=2, zorder=2)
            present = [row for row in rows if (row.stratum, row.part) == (stratum, part) and row.variant in shown]
            for number, row in enumerate(present):
                color, marker, _ = LEVEL_STYLES[VARIANTS[row.variant].level]
                score = row.scores[metric]
                height = place + 0.18 * (number - (len(present) - 1) / 2)
                _whisker(axes, height, (score.value, score.low, score.high), color, marker, filled=True)
        _rows_named(axes, members)
        axes.set_title(stratum, loc="left", fontsize=10.5)
    panels[-1].set_xlabel(metric.replace("_", " "))
    looks = [LEVEL_STYLES[VARIANTS[name].level] for name in shown]
    handles = [Line2D([], [], color=color, marker=marker, linestyle="none") for color, marker, _ in looks]
    handles.append(Line2D([], [], color=GREEN, marker="|", markersize=14, markeredgewidth=2, linestyle="none"))
    panels[0].legend(handles, [*shown, "noise ceiling"], loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _strata(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.stratum for row in rows))


def _best_of_level(rows: Sequence[Row], metric: str) -> list[str]:
    """Of each rung that networks stand on the model whose mean score over the parts is the highest."""
    found: dict[Level, tuple[float, str]] = {}
    for name in dict.fromkeys(row.variant for row in rows):
        values = [row.scores[metric].value for row in rows if row.variant == name]
        level, mean = VARIANTS[name].level, float(np.mean([value for value in values if value is not None] or [0.0]))
        if VARIANTS[name].kind == "network" and mean > found.get(level, (-1.0, ""))[0]:
            found[level] = (mean, name)
    return [name for _, name in found.values()]


def _draw_ceiling(axes: Axes, ceiling: Score) -> None:
    if ceiling.value is None or ceiling.low is None or ceiling.high is None:
        return
    axes.axvspan(ceiling.low, ceiling.high, color=GREEN, alpha=0.15, linewidth=0)
    axes.axvline(ceiling.value, color=GREEN, linewidth=1.2)
    axes.annotate(
        f"noise ceiling {ceiling.value:.2f}",
        (ceiling.value, 1.0),
        (-3, 2),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        fontsize=9,
        ha="right",
    )


def _model_panel(axes: Axes, rows: Sequence[Row], metric: str) -> None:
    for place, row in enumerate(rows):
        color, marker, _ = LEVEL_STYLES[VARIANTS[row.variant].level]
        score = row.scores[metric]
        _whisker(axes, place, (score.value, score.low, score.high), color, marker, filled=True)
    if rows and metric == "average_precision":
        prevalence = rows[0].positives / rows[0].objects
        axes.axvline(prevalence, color=BLACK, linestyle="--", linewidth=1.0)
        axes.annotate(
            f"prevalence {prevalence:.2f}",
            (prevalence, 1.0),
            (3, 2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            fontsize=9,
        )
    _rows_named(axes, [row.variant for row in rows])
    axes.set_xlabel(metric.replace("_", " "))
    levels = list(dict.fromkeys(VARIANTS[row.variant].level for row in rows))
    shown = [(LEVEL_STYLES[level], level) for level in levels]
    handles = [Line2D([], [], color=look[0], marker=look[1], linestyle="none") for look, _ in shown]
    names = [look[2] for look, _ in shown]
    axes.legend(handles, names, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _difference_panel(axes: Axes, answers: Sequence[Answer], metric: str) -> None:
    for place, answer in enumerate(answers):
        found = answer.difference
        _whisker(axes, place, (found.value, found.low, found.high), BLACK, "o", filled=answer.significant)
    axes.axvline(0, color=BLACK, linestyle="--", linewidth=1.0)
    _rows_named(axes, [answer.question.name.replace(" - ", " − ") for answer in answers])
    axes.set_xlabel(f"difference of {metric.replace('_', ' ')}")
    handles = [
        Line2D([], [], color=BLACK, marker="o", linestyle="none", markerfacecolor=face) for face in (BLACK, "white")
    ]
    axes.legend(
        handles, ["significant after correction", "not significant"], loc="upper left", bbox_to_anchor=(1.0, 1.0)
    )


def _whisker(
    axes: Axes,
    place: float,
    numbers: tuple[float | None, float | None, float | None],
    color: str,
    marker: str,
    *,
    filled: bool,
) -> None:
    value, low, high = numbers
    if value is None:
        axes.annotate(
            "undefined", (0.02, place), xycoords=("axes fraction", "data"), color=GREY, fontsize=9, va="center"
        )
        return
    if low is not None and high is not None:
        axes.plot([low, high], [place, place], color=color, linewidth=1.6)
    axes.plot([value], [place], color=color, marker=marker, markerfacecolor=color if filled else "white", zorder=3)


def _rows_named(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=LIGHT_GREY, linewidth=0.5, alpha=0.6)
    axes.set_axisbelow(True)

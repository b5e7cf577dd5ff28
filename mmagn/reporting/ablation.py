"""The forest plot of an ablation: every model with its interval, every difference beside zero."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmagn.evaluation.ablation import Answer, Row
from mmagn.evaluation.variants import VARIANTS, Level
from mmagn.reporting.figures import BLACK, BLUE, GREEN, GREY, LIGHT_GREY, ORANGE, VERMILION, blank_figure, styled

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
def forest_figure(rows: Sequence[Row], answers: Sequence[Answer], *, metric: str) -> Figure:
    """Return the scores of all models with their intervals, above their differences.

    Parameters
    ----------
    rows
        Scores on the whole sample; the dashed line is their prevalence.
    answers
        Differences; a filled marker is shown after correction for the number of questions, an open one is not.
    metric
        Which score.
    """
    heights = [max(1, len(rows)), max(1, len(answers))] if answers else [max(1, len(rows))]
    figure = blank_figure(8.4, _ROW_INCH * sum(heights) + 1.3 * len(heights) + 0.4)
    panels = np.atleast_1d(figure.subplots(len(heights), 1, height_ratios=heights))
    _model_panel(panels[0], rows, metric)
    if answers:
        _difference_panel(panels[1], answers, metric)
    return figure


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
        _whisker(axes, place, (found.value, found.low, found.high), BLACK, "o", filled=answer.shown)
    axes.axvline(0, color=BLACK, linestyle="--", linewidth=1.0)
    _rows_named(axes, [answer.question.name.replace(" - ", " − ") for answer in answers])
    axes.set_xlabel(f"difference of {metric.replace('_', ' ')}")
    handles = [
        Line2D([], [], color=BLACK, marker="o", linestyle="none", markerfacecolor=face) for face in (BLACK, "white")
    ]
    axes.legend(handles, ["shown after correction", "not shown"], loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _whisker(
    axes: Axes,
    place: int,
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

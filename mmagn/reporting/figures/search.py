"""Figures of a search: how it went, which settings mattered, and where the good places lie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mmagn.reporting.figures.style import BLACK, BLUE, GREY, LIGHT_GREY, VERMILION, blank_figure, styled

LOGARITHMIC = ("learning_rate", "weight_decay")
"""Settings that are searched evenly in their logarithm."""


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One finished trial.

    Attributes
    ----------
    number
        Its number in the study, from 0 on; interrupted trials have numbers too.
    state
        ``complete``, ``pruned`` after some of its folds, or ``diverged``.
    score
        Mean average precision of the folds that it was fitted on, NaN where there is none.
    folds
        Average precision of each of them.
    values
        What it tried, by name.
    duration_s
        Seconds it took.
    """

    number: int
    state: str
    score: float
    folds: tuple[float, ...]
    values: Mapping[str, Any]
    duration_s: float


@styled
def history_figure(trials: Sequence[TrialRecord], *, prevalence: float) -> Figure:
    """Return the score of every trial in turn and the best one so far; the dashed line is the prevalence.

    Parameters
    ----------
    trials
        Finished trials; those that were pruned are open circles at the mean of their folds.
    prevalence
        Fraction of positives, which a model that knows nothing scores.
    """
    figure = blank_figure(7.0, 4.2)
    axes = figure.subplots()
    for state, face, label in (("complete", BLUE, "all folds"), ("pruned", "white", "pruned")):
        shown = [trial for trial in trials if trial.state == state]
        if shown:
            numbers, scores = [trial.number for trial in shown], [trial.score for trial in shown]
            axes.plot(numbers, scores, "o", color=BLUE, markerfacecolor=face, markersize=5, label=label)
    whole = [trial for trial in trials if trial.state == "complete"]
    if whole:
        best = np.maximum.accumulate([trial.score for trial in whole]).tolist()
        numbers = [*(trial.number for trial in whole), max(trial.number for trial in trials)]
        axes.step(numbers, [*best, best[-1]], where="post", color=VERMILION, label="best so far")
    axes.axhline(prevalence, color=BLACK, linestyle="--", linewidth=1.0, label=f"prevalence {prevalence:.2f}")
    axes.set_xlabel("trial")
    axes.set_ylabel("mean average precision of inner folds")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


@styled
def importance_figure(importance: Mapping[str, float]) -> Figure:
    """Return how much of the spread of scores each setting explains (fANOVA), the most important on top."""
    figure = blank_figure(6.0, 1.2 + 0.4 * max(1, len(importance)))
    axes = figure.subplots()
    ranked = sorted(importance.items(), key=lambda item: item[1])
    bars = axes.barh([_words(name) for name, _ in ranked], [share for _, share in ranked], color=BLUE)
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=9)
    axes.set_xlabel("fraction of the variance of the score")
    axes.set_xlim(0, 1.1)
    axes.tick_params(axis="y", length=0)
    return figure


@styled
def parallel_figure(trials: Sequence[TrialRecord]) -> Figure:
    """Return a line per trial through its settings to its score; better trials are darker, pruned ones grey."""
    names = list(trials[0].values) if trials else []
    figure = blank_figure(2.2 + 1.5 * (len(names) + 1), 4.4)
    axes = figure.subplots()
    known = [trial for trial in trials if np.isfinite(trial.score)]
    if not known:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no trial has a score", ha="center", va="center", transform=axes.transAxes)
        return figure
    heights = np.stack([_column_axis(axes, place, name, known) for place, name in enumerate([*names, "score"])], axis=1)
    scores = [trial.score for trial in known if trial.state == "complete"] or [trial.score for trial in known]
    shades = ScalarMappable(Normalize(min(scores), max(scores)), colormaps["viridis_r"])
    for height, trial in sorted(zip(heights, known, strict=True), key=lambda pair: pair[1].score):
        whole = trial.state == "complete"
        color = shades.to_rgba(np.array(trial.score)) if whole else LIGHT_GREY
        axes.plot(range(len(height)), height, color=color, linewidth=1.4 if whole else 0.7, zorder=3 if whole else 2)
    axes.set_xlim(-0.3, len(names) + 0.6)
    axes.set_ylim(-0.08, 1.08)
    axes.set_xticks(range(len(names) + 1), [_words(name) for name in [*names, "average precision"]])
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    figure.colorbar(shades, ax=axes, label="mean average precision")
    return figure


def _column_axis(axes: Axes, place: int, name: str, trials: Sequence[TrialRecord]) -> NDArray[np.float64]:
    """(trial,) heights from 0 to 1 on a vertical axis that is drawn at ``place``."""
    raw = [trial.score if name == "score" else trial.values[name] for trial in trials]
    axes.axvline(place, color=GREY, linewidth=0.8, zorder=1)
    if any(isinstance(value, tuple | bool) for value in raw):
        choices = sorted(set(raw))
        height = np.array([choices.index(value) for value in raw]) / max(1, len(choices) - 1)
        marks = dict(zip(map(str, choices), sorted(set(height.tolist())), strict=True))
    else:
        scale = np.log10(raw) if name in LOGARITHMIC else np.asarray(raw, dtype=np.float64)
        low, high = float(scale.min()), float(scale.max())
        height = (scale - low) / (high - low) if high > low else np.full(len(raw), 0.5)
        marks = {f"{min(raw):.3g}": float(height.min()), f"{max(raw):.3g}": float(height.max())}
    for text, level in marks.items():
        axes.annotate(text, (place, level), (3, 4), textcoords="offset points", fontsize=8.5, color=BLACK, zorder=5)
    return np.asarray(height, dtype=np.float64)


def _words(name: str) -> str:
    return name.replace("_", " ")

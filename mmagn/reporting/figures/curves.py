"""Figures of scores: precision-recall, ROC, confusion matrix, reliability."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from mmagn.evaluation.calibration import reliability
from mmagn.evaluation.ceiling import ceiling_curve
from mmagn.evaluation.config import EvaluationConfig
from mmagn.evaluation.intervals import precision_recall_band, roc_band
from mmagn.evaluation.scorecard import Scores
from mmagn.reporting.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    LIGHT_GREY,
    ORANGE,
    PINK,
    VERMILION,
    blank_figure,
    styled,
)

_BAND: dict[str, Any] = {"color": BLUE, "alpha": 0.18, "linewidth": 0}
_HISTORY_STYLES = ((BLUE, "-"), (VERMILION, "--"), (GREEN, "-."), (PINK, ":"), (ORANGE, "-"), (BLACK, "--"))


@styled
def precision_recall_figure(
    target: ArrayLike,
    score: ArrayLike,
    *,
    config: EvaluationConfig,
    scores: Scores | None = None,
    p_agn: ArrayLike = (),
) -> Figure:
    """Return precision against recall with its bootstrap band and the prevalence, which a blind model reaches.

    Parameters
    ----------
    target
        (object,) 1 positive, 0 negative; with one class only the axes say so.
    score
        (object,) probability of the positive class.
    config
        Draws and confidence of the band.
    scores
        Numbers to print: average precision with its interval, and the point of the threshold.
    p_agn
        (object,) soft labels; where given, the noise ceiling is drawn.
    """
    figure, axes, y = _unit_square(target, "Recall (AGN found / all AGN)", "Precision (AGN / called AGN)")
    if y is None:
        return figure
    if (ceiling := ceiling_curve(p_agn, config=config)) is not None:
        axes.fill_between(ceiling.recall, ceiling.low, ceiling.high, color=GREEN, alpha=0.18, linewidth=0)
        axes.plot(ceiling.recall, ceiling.precision, color=GREEN, linestyle="-.", linewidth=1.3, label="noise ceiling")
    band = precision_recall_band(y, score, config=config)
    axes.fill_between(
        band.x, band.low, band.high, step="pre", label=f"{config.confidence:.0%} bootstrap interval", **_BAND
    )
    from sklearn.metrics import precision_recall_curve  # where used: the first training step does not wait for it

    precision, recall, _ = precision_recall_curve(y, np.asarray(score))
    text = "" if scores is None else f"  AP {scores['average_precision']}"
    axes.plot(recall, precision, color=BLUE, drawstyle="steps-post", label=f"model{text}")
    prevalence = float(y.mean())
    axes.axhline(prevalence, color=BLACK, linestyle="--", linewidth=1.3, label=f"prevalence {prevalence:.3f}")
    if scores is not None:
        _threshold_point(axes, scores["recall"].value, scores["precision"].value, scores.threshold)
    axes.set_title(f"{len(y)} objects, {int(y.sum())} AGN")
    _legend_below(axes)
    return figure


@styled
def roc_figure(
    target: ArrayLike, score: ArrayLike, *, config: EvaluationConfig, scores: Scores | None = None
) -> Figure:
    """Return the true-positive against the false-positive rate with its bootstrap band and the line of chance.

    Parameters are those of :func:`precision_recall_figure`, which shows the noise ceiling.
    """
    figure, axes, y = _unit_square(target, "False-positive rate", "True-positive rate (recall)")
    if y is None:
        return figure
    band = roc_band(y, score, config=config)
    axes.fill_between(band.x, band.low, band.high, label=f"{config.confidence:.0%} bootstrap interval", **_BAND)
    from sklearn.metrics import roc_curve  # where used: the first training step does not wait for it

    false_positive_rate, true_positive_rate, _ = roc_curve(y, np.asarray(score), drop_intermediate=False)
    text = "" if scores is None else f"  AUC {scores['roc_auc']}"
    axes.plot(false_positive_rate, true_positive_rate, color=BLUE, label=f"model{text}")
    axes.plot([0, 1], [0, 1], color=BLACK, linestyle="--", linewidth=1.3, label="chance")
    if scores is not None:
        (true_negative, false_positive), _ = scores.confusion
        rate = false_positive / (true_negative + false_positive)
        _threshold_point(axes, rate, scores["recall"].value, scores.threshold)
    axes.set_title(f"{len(y)} objects, {int(y.sum())} AGN")
    _legend_below(axes)
    return figure


@styled
def confusion_figure(confusion: ArrayLike, *, class_names: tuple[str, str] = ("not AGN", "AGN")) -> Figure:
    """Return the confusion matrix: counts, and the fraction of each true class as shade and in per cent.

    Parameters
    ----------
    confusion
        (2, 2) counts, rows truth, columns prediction, negative class first.
    class_names
        Names of the negative and of the positive class.
    """
    counts = np.asarray(confusion, dtype=np.int64)
    in_row = counts.sum(axis=1, keepdims=True)
    fraction = counts / np.where(in_row > 0, in_row, 1)
    figure = blank_figure(4.6, 4.2)
    axes = figure.subplots()
    picture = axes.imshow(fraction, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(2, 2):
        share = f"{fraction[row, column]:.1%}" if in_row[row, 0] else "no object"
        color = "white" if fraction[row, column] > 0.55 else BLACK
        axes.text(column, row, f"{counts[row, column]:,}\n{share}", ha="center", va="center", color=color, fontsize=13)
    axes.set_xticks([0, 1], class_names)
    axes.set_yticks([0, 1], class_names, rotation=90, va="center")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("Predicted")
    axes.set_ylabel("True")
    axes.set_title(f"{counts.sum():,} objects")
    figure.colorbar(picture, ax=axes, shrink=0.8, label="Fraction of the true class")
    return figure


@styled
def reliability_figure(
    target: ArrayLike, probabilities: Mapping[str, ArrayLike], *, config: EvaluationConfig
) -> Figure:
    """Return the reliability diagram: observed fraction against mean probability, above a histogram.

    Parameters
    ----------
    target
        (object,) 1 positive, 0 negative.
    probabilities
        Up to three sets (object,) of probabilities by name, such as before and after calibration.
    config
        Bins and confidence of the error bars (exact binomial).
    """
    y = np.asarray(target, dtype=np.float64)
    figure = blank_figure(5.2, 6.2)
    axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    axes.plot([0, 1], [0, 1], color=BLACK, linestyle="--", linewidth=1.3, label="perfect calibration")
    styles = ((VERMILION, "s", "--"), (BLUE, "o", "-"), (GREEN, "D", "-."))
    edges = np.linspace(0, 1, 21)
    for (name, probability), (color, marker, line) in zip(probabilities.items(), styles, strict=False):
        found = reliability(y, probability, bins=config.calibration_bins, confidence=config.confidence)
        error = np.abs(np.array([found.low, found.high]) - found.observed)
        look = {"color": color, "marker": marker, "linestyle": line, "linewidth": 1.3, "markersize": 5}
        axes.errorbar(found.forecast, found.observed, yerr=error, elinewidth=1.0, capsize=2, label=name, **look)
        counts.hist(np.asarray(probability), bins=edges, histtype="step", color=color, linestyle=line, linewidth=1.5)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="Observed fraction of AGN")
    axes.set_title(f"{len(y)} objects, bins of about equal counts")
    axes.legend(loc="upper left")
    counts.set(xlabel="Predicted probability of AGN", ylabel="Objects")
    counts.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True, min_n_ticks=2))
    return figure


def _unit_square(target: ArrayLike, x_label: str, y_label: str) -> tuple[Figure, Axes, NDArray[np.float64] | None]:
    """Return a figure, its axes from 0 to 1, and the truth; where a class is missing None, and the axes say so."""
    y = np.asarray(target, dtype=np.float64)
    figure = blank_figure(5.2, 6.0)
    axes = figure.subplots()
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=x_label, ylabel=y_label)
    axes.set_box_aspect(1)
    if len(np.unique(y)) == 2:
        return figure, axes, y
    sentence = f"undefined:\nall {len(y)} objects are of one class" if len(y) else "undefined:\nno objects"
    axes.text(0.5, 0.5, sentence, ha="center", va="center", color=GREY, fontsize=13)
    return figure, axes, None


def _threshold_point(axes: Axes, x: float | None, y: float | None, threshold: float) -> None:
    label = f"threshold {threshold:.3f}"
    if x is None or y is None:
        return
    axes.plot([x], [y], color=VERMILION, marker="o", markersize=8, linestyle="none", label=label, zorder=5)


def _legend_below(axes: Axes) -> None:
    axes.grid(color=LIGHT_GREY, linewidth=0.5, alpha=0.6)
    axes.set_axisbelow(True)
    figure = axes.get_figure(root=True)
    if figure is not None:
        figure.legend(loc="outside lower center", ncols=2, columnspacing=1.2)

"""Figures of scores: overview, precision-recall, ROC, confusion matrix, reliability, training, classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from mmagn.evaluation.calibration import reliability
from mmagn.evaluation.ceiling import ceiling_curve
from mmagn.evaluation.config import EvaluationConfig
from mmagn.evaluation.intervals import precision_recall_band, roc_band
from mmagn.evaluation.scorecard import Score, Scores
from mmagn.records import Floats
from mmagn.reporting.figures.style import (
    BLACK,
    BLUE,
    CLASS_COLORS,
    CLASS_NAMES,
    GREEN,
    GREY,
    LIGHT_GREY,
    ORANGE,
    VERMILION,
    blank_figure,
    grid_behind,
    message,
    score_text,
    styled,
)

UNIT_METRICS = (
    "average_precision",
    "mcc",
    "roc_auc",
    "precision",
    "recall",
    "f1",
    "balanced_accuracy",
    "accuracy",
    "recall_at_precision_90",
)
"""Scores up to 1 of which more is better: those that are drawn on one axis."""
OUTCOME_NAMES = ("not AGN", "AGN")
_BAND: dict[str, Any] = {"color": BLUE, "alpha": 0.18, "linewidth": 0}
_CEILING_BAND: dict[str, Any] = {"color": GREEN, "alpha": 0.18, "linewidth": 0}
_DASHED: dict[str, Any] = {"color": BLACK, "linestyle": "--", "linewidth": 1.3}


@styled
def scores_figure(scores: Scores, ceilings: Mapping[str, Score]) -> Figure:
    """Return every score up to 1 with its interval, the all-negative baseline and the noise ceiling."""
    names = [name for name in UNIT_METRICS if name in scores.scores]
    figure = blank_figure(5.2, 1.2 + 0.32 * len(names))
    axes = figure.subplots()
    labels = {
        "model": f"model, {scores.confidence:.0%} interval",
        "baseline": "all-negative baseline",
        "ceiling": "noise ceiling",
    }
    for place, name in enumerate(names):
        score, baseline, ceiling = scores[name], scores.all_negative.get(name), ceilings.get(name, Score())
        if ceiling.value is not None:
            interval(axes, place, ceiling, color=GREEN, label=labels.pop("ceiling", ""))
        if baseline is not None:
            axes.plot([baseline], [place], **_tick(BLACK), label=labels.pop("baseline", ""))
        if score.value is None:
            axes.text(0.5, place, score.reason, ha="center", va="center", fontsize=8.5)
            continue
        if score.low is not None and score.high is not None:
            axes.plot([score.low, score.high], [place, place], color=BLUE, linewidth=1.6)
        axes.plot([score.value], [place], "o", color=BLUE, markersize=6, label=labels.pop("model", ""), zorder=4)
    axes.set_yticks(range(len(names)), [score_text(name) for name in names])
    axes.set(ylim=(len(names) - 0.5, -0.5), xlim=(min(-0.02, *axes.get_xlim()), 1.02), xlabel="score")
    axes.tick_params(axis="y", length=0)
    grid_behind(axes, "x")
    figure.legend(loc="outside lower center", ncols=2, columnspacing=1.2)
    return figure


def interval(axes: Axes, place: float, score: Score, *, color: str, label: str = "") -> None:
    """Draw a reference score as an upright tick over the band of its interval."""
    if score.value is None:
        return
    if score.low is not None and score.high is not None:
        bar = {"color": color, "linewidth": 9, "alpha": 0.25, "solid_capstyle": "butt"}
        axes.plot([score.low, score.high], [place, place], **bar)  # type: ignore[arg-type]
    axes.plot([score.value], [place], **_tick(color), label=label)


def _tick(color: str) -> dict[str, Any]:
    return {"color": color, "marker": "|", "markersize": 13, "markeredgewidth": 2, "linestyle": "none", "zorder": 2}


@styled
def precision_recall_figure(
    target: ArrayLike,
    score: ArrayLike,
    *,
    config: EvaluationConfig,
    scores: Scores | None = None,
    p_agn: ArrayLike = (),
) -> Figure:
    """Return precision against recall with its bootstrap band and the prevalence, the precision of a guess.

    Parameters
    ----------
    target, score
        (object,) 1 positive, 0 negative, with one class only the axes hold the reason; probability of a positive.
    config
        Draws and confidence of the bands.
    scores
        Numbers to print: average precision with its interval, and the point of the threshold.
    p_agn
        (object,) soft labels; where given, the noise ceiling is drawn.
    """
    figure, axes, y = _unit_square(
        target, "recall (true positives / AGN)", "precision (true positives / predicted AGN)"
    )
    if y is None:
        return figure
    if (ceiling := ceiling_curve(p_agn, config=config)) is not None:
        axes.fill_between(ceiling.x, ceiling.low, ceiling.high, **_CEILING_BAND, label="interval of the ceiling")
        axes.plot(ceiling.x, ceiling.mean, color=GREEN, linestyle="-.", linewidth=1.3, label="noise ceiling")
    band = precision_recall_band(y, score, config=config)
    axes.fill_between(
        band.x, band.low, band.high, step="pre", label=f"{config.confidence:.0%} bootstrap interval", **_BAND
    )
    from sklearn.metrics import precision_recall_curve  # where used: the first training step does not wait for it

    precision, recall, _ = precision_recall_curve(y, np.asarray(score))
    text = "" if scores is None else f", AP {scores['average_precision']}"
    axes.plot(recall, precision, color=BLUE, drawstyle="steps-post", label=f"model{text}")
    prevalence = float(y.mean())
    axes.axhline(prevalence, label=f"prevalence {prevalence:.3f}", **_DASHED)
    if scores is not None:
        _threshold_point(axes, scores["recall"].value, scores["precision"].value, scores.threshold)
    _finish(figure, axes, y)
    return figure


@styled
def roc_figure(
    target: ArrayLike, score: ArrayLike, *, config: EvaluationConfig, scores: Scores | None = None
) -> Figure:
    """Return the true-positive against the false-positive rate with its bootstrap band and the line of chance.

    Parameters are those of :func:`precision_recall_figure`, which shows the noise ceiling.
    """
    figure, axes, y = _unit_square(target, "false-positive rate", "true-positive rate (recall)")
    if y is None:
        return figure
    band = roc_band(y, score, config=config)
    axes.fill_between(band.x, band.low, band.high, label=f"{config.confidence:.0%} bootstrap interval", **_BAND)
    from sklearn.metrics import roc_curve  # where used: the first training step does not wait for it

    false_positive_rate, true_positive_rate, _ = roc_curve(y, np.asarray(score), drop_intermediate=False)
    text = "" if scores is None else f", AUC {scores['roc_auc']}"
    axes.plot(false_positive_rate, true_positive_rate, color=BLUE, label=f"model{text}")
    axes.plot([0, 1], [0, 1], label="chance", **_DASHED)
    if scores is not None:
        (true_negative, false_positive), _ = scores.confusion_matrix
        rate = false_positive / (true_negative + false_positive)
        _threshold_point(axes, rate, scores["recall"].value, scores.threshold)
    _finish(figure, axes, y)
    return figure


@styled
def confusion_figure(confusion: ArrayLike, *, threshold: float | None = None) -> Figure:
    """Return the confusion matrix: counts, and the fraction of each true class as shade and in per cent.

    ``confusion`` has (2, 2) counts, rows truth, columns prediction, negative class first; the threshold is for the
    title.
    """
    counts = np.asarray(confusion, dtype=np.int64)
    in_row = counts.sum(axis=1, keepdims=True)
    fraction = counts / np.where(in_row > 0, in_row, 1)
    outcomes = (("true negative", "false positive"), ("false negative", "true positive"))
    figure = blank_figure(4.6, 4.4)
    axes = figure.subplots()
    for row, column in np.ndindex(2, 2):
        place, shade = (column - 0.5, row - 0.5), 0.06 + 0.4 * float(fraction[row, column])
        axes.add_patch(Rectangle(place, 1, 1, facecolor=BLUE, alpha=shade, linewidth=0))
        share = f"{fraction[row, column]:.1%}" if in_row[row, 0] else "no object"
        axes.text(column, row, f"{counts[row, column]:,}\n{share}", ha="center", va="center", fontsize=13)
        axes.text(column, row + 0.38, outcomes[row][column], ha="center", va="center", fontsize=9)
    axes.axhline(0.5, color=LIGHT_GREY, linewidth=1)
    axes.axvline(0.5, color=LIGHT_GREY, linewidth=1)
    axes.set(xlim=(-0.5, 1.5), ylim=(1.5, -0.5), xlabel="predicted", ylabel="true")
    axes.set_xticks([0, 1], OUTCOME_NAMES)
    axes.set_yticks([0, 1], OUTCOME_NAMES, rotation=90, va="center")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_box_aspect(1)
    at = "" if threshold is None else f", threshold {threshold:.3f}"
    axes.set_title(f"{counts.sum():,} objects{at}; per cent of the true class")
    return figure


@styled
def reliability_figure(
    target: ArrayLike, probabilities: Mapping[str, ArrayLike], *, config: EvaluationConfig
) -> Figure:
    """Return the reliability diagram: observed fraction against mean probability, above a histogram.

    Targets are (object,) 1 or 0; up to three sets of probabilities (object,) are named, such as before and after
    calibration. Error bars are exact binomial.
    """
    y = np.asarray(target, dtype=np.float64)
    figure = blank_figure(5.2, 5.8)
    axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    axes.plot([0, 1], [0, 1], label="perfect calibration", **_DASHED)
    styles = ((VERMILION, "s", "--"), (BLUE, "o", "-"), (GREEN, "D", "-."))
    edges = np.linspace(0, 1, 21)
    for (name, probability), (color, marker, line) in zip(probabilities.items(), styles, strict=False):
        bins = reliability(y, probability, bins=config.calibration_bins, confidence=config.confidence)
        error = np.abs(np.array([bins.low, bins.high]) - bins.observed)
        look = {"color": color, "marker": marker, "linestyle": line, "linewidth": 1.3, "markersize": 5}
        axes.errorbar(bins.forecast, bins.observed, yerr=error, elinewidth=1.0, capsize=2, label=name, **look)
        counts.hist(np.asarray(probability), bins=edges, histtype="step", color=color, linestyle=line, linewidth=1.5)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="observed fraction of AGN")
    axes.set_title(f"{len(y)} objects, bins of about equal counts; {config.confidence:.0%} exact intervals")
    figure.legend(loc="outside lower center", ncols=3, columnspacing=1.2)
    counts.set(xlabel="predicted probability of AGN", ylabel="objects")
    counts.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True, min_n_ticks=2))
    return figure


@styled
def history_figure(
    curves: Mapping[str, Sequence[tuple[float, float]]], *, quantity: str, best_epoch: float | None
) -> Figure:
    """Return a quantity against the epoch, with that of the highest validation average precision marked.

    ``curves`` are (epoch, value) pairs by ``train`` and ``validation``; epochs count from 1.
    """
    figure = blank_figure(5.2, 3.4)
    axes = figure.subplots()
    styles = {"validation": (BLUE, "-", "o"), "train": (ORANGE, "--", "s")}
    for split, (color, line, marker) in styles.items():
        if curve := curves.get(split):
            epoch, value = np.array(curve, dtype=float).T
            dots = marker if len(curve) < 30 else ""
            axes.plot(epoch, value, color=color, linestyle=line, marker=dots, markersize=4, label=f"{split} split")
    if best_epoch is not None:
        label = f"highest validation average precision, epoch {best_epoch:g}"
        axes.axvline(best_epoch, color=BLACK, linestyle=":", linewidth=1.2, label=label)
    axes.set(xlabel="epoch", ylabel=score_text(quantity))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    grid_behind(axes)
    figure.legend(loc="outside lower center", ncols=2, columnspacing=1.2)
    return figure


def _unit_square(target: ArrayLike, x_label: str, y_label: str) -> tuple[Figure, Axes, Floats | None]:
    """Return a figure, axes from 0 to 1, and the truth; where a class is missing None, with the reason on the axes."""
    y = np.asarray(target, dtype=np.float64)
    figure = blank_figure(5.2, 5.8)
    axes = figure.subplots()
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=x_label, ylabel=y_label)
    axes.set_box_aspect(1)
    if len(np.unique(y)) == 2:
        return figure, axes, y
    message(axes, f"undefined:\nall {len(y)} objects are of one class" if len(y) else "undefined:\nno objects")
    return figure, axes, None


def _threshold_point(axes: Axes, x: float | None, y: float | None, threshold: float) -> None:
    if x is None or y is None:
        return
    look = {"color": VERMILION, "marker": "o", "markersize": 8, "linestyle": "none", "zorder": 5}
    axes.plot([x], [y], label=f"threshold {threshold:.3f}", **look)  # type: ignore[arg-type]


def _finish(figure: Figure, axes: Axes, y: Floats) -> None:
    axes.set_title(f"{len(y)} objects, {int(y.sum())} AGN")
    grid_behind(axes)
    figure.legend(loc="outside lower center", ncols=2, columnspacing=1.2)


@styled
def class_figure(counts: Mapping[str, int]) -> Figure:
    """Return a bar with the count of each class."""
    figure = blank_figure(5.2, 0.9 + 0.34 * len(counts))
    axes = figure.subplots()
    names, values = list(counts), list(counts.values())
    colors = [CLASS_COLORS.get(name, GREY) for name in names]
    bars = axes.barh([CLASS_NAMES.get(name, name) for name in names], values, color=colors, height=0.72)
    total = max(1, sum(values))
    axes.bar_label(bars, [f"{value:,} ({value / total:.0%})" for value in values], padding=4, fontsize=9)
    axes.set(xlabel="pairs", xlim=(0, 1.25 * max([1, *values])))
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    return figure

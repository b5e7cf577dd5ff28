"""Score figures draw the recorded numbers beside the baseline of guessing."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from mmagn.evaluation.config import EvaluationConfig
from mmagn.evaluation.scorecard import Score
from mmagn.evaluation.scores import scores
from mmagn.reporting.figures.curves import (
    class_figure,
    confusion_figure,
    history_figure,
    precision_recall_figure,
    reliability_figure,
    roc_figure,
    scores_figure,
)

CONFIG = EvaluationConfig(bootstrap_draws=100)


def sample() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(0)
    y = (np.arange(120) < 30).astype(float)
    return y, 1 / (1 + np.exp(2 - 2 * y - rng.normal(size=120)))


def line(figure: Figure, label: str) -> Line2D:
    return next(each for each in figure.axes[0].lines if str(each.get_label()).startswith(label))


def data(drawn: Line2D) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.asarray(drawn.get_xdata(), dtype=float), np.asarray(drawn.get_ydata(), dtype=float)


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_area_under_the_drawn_precision_recall_curve_is_the_average_precision() -> None:
    y, p = sample()
    on_sample = scores(y, p, 0.4, config=CONFIG)
    figure = precision_recall_figure(y, p, config=CONFIG, scores=on_sample)
    recall, precision = data(line(figure, "model"))
    assert -np.sum(np.diff(recall) * precision[:-1]) == pytest.approx(average_precision_score(y, p))
    assert line(figure, "model").get_drawstyle() == "steps-post"
    assert data(line(figure, "prevalence 0.250"))[1].tolist() == [0.25, 0.25]
    assert [value[0] for value in data(line(figure, "threshold"))] == [
        on_sample["recall"].value,
        on_sample["precision"].value,
    ]
    assert f"model, AP {on_sample['average_precision']}" in legend(figure)
    assert "95% bootstrap interval" in legend(figure)


def test_axes_are_named_and_the_title_counts() -> None:
    y, p = sample()
    axes = precision_recall_figure(y, p, config=CONFIG).axes[0]
    assert axes.get_xlabel() == "recall (true positives / AGN)"
    assert axes.get_ylabel() == "precision (true positives / predicted AGN)"
    assert axes.get_title() == "120 objects, 30 AGN"


def test_the_roc_curve_passes_through_the_threshold() -> None:
    y, p = sample()
    on_sample = scores(y, p, 0.4, config=CONFIG)
    figure = roc_figure(y, p, config=CONFIG, scores=on_sample)
    x, hits = data(line(figure, "model"))
    (x0,), (y0,) = data(line(figure, "threshold"))
    assert x0 == pytest.approx(np.mean(p[y == 0] >= 0.4))
    assert np.min(np.hypot(x - x0, hits - y0)) < 1e-12
    assert np.trapezoid(hits, x) == pytest.approx(on_sample["roc_auc"].value)


@pytest.mark.parametrize(("target", "words"), [([0, 0, 0], "all 3 objects are of one class"), ([], "no objects")])
def test_where_a_class_is_missing_the_figure_says_so(target: list[int], words: str) -> None:
    for make in (precision_recall_figure, roc_figure):
        figure = make(target, [0.1, 0.2, 0.3][: len(target)], config=CONFIG)
        assert words in figure.axes[0].texts[0].get_text()
        assert not figure.axes[0].lines


def test_the_confusion_figure_shows_counts_and_fractions_of_the_true_class() -> None:
    figure = confusion_figure([[1500, 500], [0, 0]])
    axes = figure.axes[0]
    texts = [text.get_text() for text in axes.texts]
    assert texts[0::2] == ["1,500\n75.0%", "500\n25.0%", "0\nno object", "0\nno object"]
    assert texts[1::2] == ["true negative", "false positive", "false negative", "true positive"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["not AGN", "AGN"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]


def test_the_reliability_figure_has_one_point_per_bin_and_a_histogram() -> None:
    y, p = sample()
    figure = reliability_figure(y, {"before": np.sqrt(p), "after": p}, config=CONFIG)
    upper, lower = figure.axes
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["perfect calibration", "before", "after"]
    points = [container.lines[0] for container in upper.containers]
    assert [len(data(each)[0]) for each in points] == [CONFIG.calibration_bins] * 2
    assert lower.get_xlabel() == "predicted probability of AGN"
    assert lower.get_ylabel() == "objects"


def test_every_score_is_drawn_with_its_interval_baseline_and_ceiling() -> None:
    y, p = sample()
    on_sample = scores(y, p, 0.4, config=CONFIG)
    ceiling = {"average_precision": Score(value=0.9, low=0.8, high=1.0)}
    figure = scores_figure(on_sample, ceiling)
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()][:3] == ["average precision", "MCC", "ROC AUC"]
    assert legend(figure) == ["noise ceiling", "all-negative baseline", "model, 95% interval"]
    drawn = [[*data(each)[0]] for each in axes.lines]
    score = on_sample["average_precision"]
    assert [score.low, score.high] in drawn and [score.value] in drawn and [0.8, 1.0] in drawn and [0.25] in drawn


def test_a_score_that_is_undefined_says_why() -> None:
    on_sample = scores(np.zeros(5), np.full(5, 0.2), 0.4, config=CONFIG)
    texts = [text.get_text() for text in scores_figure(on_sample, {}).axes[0].texts]
    assert on_sample["average_precision"].reason in texts


def test_the_best_epoch_is_marked_and_named() -> None:
    curves = {"train": [(1.0, 0.5), (2.0, 0.4)], "validation": [(1.0, 0.6), (2.0, 0.5)]}
    figure = history_figure(curves, quantity="loss", best_epoch=2.0)
    assert legend(figure) == ["validation split", "train split", "highest validation average precision, epoch 2"]
    assert data(line(figure, "validation"))[0].tolist() == [1, 2]


def test_classes_are_counted_with_their_names_as_written() -> None:
    (axes,) = class_figure({"seyfert": 3, "liner": 1}).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["Seyfert", "LINER"]
    assert [text.get_text() for text in axes.texts] == ["3 (75%)", "1 (25%)"]

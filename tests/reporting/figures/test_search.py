"""Figures of a search say what the trials say."""

import numpy as np
import pytest

from mmagn.reporting.figures.search import TrialRecord, history_figure, importance_figure, parallel_figure


def record(number: int, score: float, state: str = "complete", **values: object) -> TrialRecord:
    return TrialRecord(number=number, state=state, score=score, folds=(score,), values=values, duration_s=1.0)


TRIALS = [
    record(0, 0.5, learning_rate=1e-4, widths=(4, 8), dihedral=True),
    record(1, 0.3, "pruned", learning_rate=1e-3, widths=(8, 16), dihedral=True),
    record(3, 0.7, learning_rate=1e-2, widths=(4, 8), dihedral=False),
    record(4, float("nan"), "diverged", learning_rate=1e-2, widths=(4, 8), dihedral=False),
]


def test_the_best_so_far_never_falls_and_knows_no_pruned_trial() -> None:
    axes = history_figure(TRIALS, prevalence=0.2).axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    np.testing.assert_array_equal(lines["best so far"].get_xdata(), [0, 3, 4])
    np.testing.assert_array_equal(lines["best so far"].get_ydata(), [0.5, 0.7, 0.7])
    assert list(lines["pruned"].get_ydata()) == [0.3]
    assert "prevalence 0.20" in lines


def test_a_learning_rate_stands_at_its_logarithm() -> None:
    axes = parallel_figure(TRIALS).axes[0]
    drawn = [line for line in axes.lines if len(line.get_xdata()) == 4]
    assert len(drawn) == 3
    assert sorted(float(np.asarray(line.get_ydata())[0]) for line in drawn) == pytest.approx([0, 0.5, 1])


def test_the_most_important_setting_is_on_top() -> None:
    axes = importance_figure({"learning_rate": 0.9, "dropout": 0.1}).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["dropout", "learning rate"]


@pytest.mark.parametrize("trials", [[], [TRIALS[3]], [TRIALS[0]]])
def test_few_trials_are_drawn_all_the_same(trials: list[TrialRecord]) -> None:
    for figure in (history_figure(trials, prevalence=0.2), importance_figure({}), parallel_figure(trials)):
        figure.canvas.draw()

"""Figures of a search say what the trials say."""

import numpy as np
import pytest
from astropy.table import Table

from mmagn.reporting.figures.search import importance_figure, parallel_figure, trials_figure

TRIALS = Table(
    {
        "number": [1, 2, 4, 5],
        "state": ["complete", "pruned", "complete", "diverged"],
        "score": [0.5, 0.3, 0.7, np.nan],
        "learning_rate": [1e-4, 1e-3, 1e-2, 1e-2],
        "widths": ["4-8", "8-16", "4-8", "4-8"],
        "dihedral": ["True", "True", "False", "False"],
        "folds": ["0.5", "0.3", "0.7", ""],
        "duration_s": [1.0] * 4,
    }
)
"""As ``trials.csv`` holds them."""


def test_the_best_so_far_never_falls_and_knows_no_pruned_trial() -> None:
    axes = trials_figure(TRIALS, prevalence=0.2).axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    np.testing.assert_array_equal(lines["best so far"].get_xdata(), [1, 4, 5])
    np.testing.assert_array_equal(lines["best so far"].get_ydata(), [0.5, 0.7, 0.7])
    assert list(lines["pruned"].get_ydata()) == [0.3]
    assert "prevalence 0.200" in lines


def test_a_learning_rate_stands_at_its_logarithm() -> None:
    axes = parallel_figure(TRIALS).axes[0]
    drawn = [line for line in axes.lines if len(line.get_xdata()) == 4]
    assert len(drawn) == 3
    assert sorted(float(np.asarray(line.get_ydata())[0]) for line in drawn) == pytest.approx([0, 0.5, 1])


def test_the_most_important_setting_is_on_top() -> None:
    axes = importance_figure({"learning_rate": 0.9, "dropout": 0.1}).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["dropout", "learning rate"]


@pytest.mark.parametrize("trials", [TRIALS[:0], TRIALS[3:], TRIALS[:1]])
def test_few_trials_are_drawn_all_the_same(trials: Table) -> None:
    for figure in (trials_figure(trials, prevalence=0.2), importance_figure({}), parallel_figure(trials)):
        figure.canvas.draw()

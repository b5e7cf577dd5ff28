"""Figures are the same whatever the caller's settings are, and files appear whole."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from mmagn.labels.bpt import BPT_CLASSES
from mmagn.reporting.figures.style import CLASS_COLORS, CLASS_MARKERS, blank_figure, save_figures, styled


@styled
def line_figure() -> Figure:
    figure = blank_figure(3, 2)
    figure.subplots().plot([0, 1], [1, 0])
    return figure


def test_the_callers_settings_neither_reach_a_figure_nor_are_changed() -> None:
    with matplotlib.rc_context({"font.size": 40, "lines.linewidth": 9}):
        axes = line_figure().axes[0]
        assert axes.lines[0].get_linewidth() == pytest.approx(1.8)
        assert axes.xaxis.label.get_fontsize() == pytest.approx(10)
        assert matplotlib.rcParams["font.size"] == 40


def test_equal_figures_are_equal_files_and_nothing_unfinished_remains(tmp_path: Path) -> None:
    paths = save_figures({"one": line_figure(), "other": line_figure()}, tmp_path / "new" / "figures")
    assert [path.name for path in paths] == ["one.png", "other.png"]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert sorted(paths[0].parent.iterdir()) == sorted(paths)


def test_every_class_has_its_own_colour_and_marker() -> None:
    names = [*BPT_CLASSES, "unclassified"]
    assert len({CLASS_COLORS[name] for name in names}) == len({CLASS_MARKERS[name] for name in names}) == 5


def test_class_colours_stay_apart_for_readers_without_red_cones() -> None:
    """Simulated protanopia (Vienot+1999, linear RGB)."""
    cone = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])
    linear = np.array([to_rgb(color) for color in CLASS_COLORS.values()]) ** 2.2
    seen = np.clip(linear @ cone.T, 0, 1) ** (1 / 2.2)
    distance = np.linalg.norm(seen[:, None] - seen[None], axis=2) + 9 * np.eye(len(seen))
    assert distance.min() > 0.12

import json

import numpy as np
import pytest
from astropy.table import Table
from matplotlib.collections import EllipseCollection

from mmagn.labels.bpt import bpt_class, kauffmann2003_nii
from mmagn.labels.whan import whan_class
from mmagn.reporting.figures.bpt import BPT_Y_RANGE, bpt_figure, measured_bpt_figure
from mmagn.reporting.figures.planes import MAX_ELLIPSES, MIN_DENSITY_OBJECTS, PlanePoints
from mmagn.reporting.figures.style import CLASS_NAMES
from mmagn.reporting.figures.whan import measured_whan_figure, whan_figure


def places(count, **errors):
    rng = np.random.default_rng(0)
    x, y = rng.normal(-0.3, 0.3, count), rng.normal(0.1, 0.4, count)
    return PlanePoints(x=x, y=y, names=bpt_class(x, y), **errors)


def whan_places(x, ew):
    y = np.log10(np.where(ew > 0, ew, np.nan))
    return PlanePoints(x=x, y=y, names=whan_class(x, ew, ew), x_err=x * 0, y_err=x * 0 + 0.1)


def legend_texts(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_the_legend_names_every_curve_and_counts_every_class():
    points = places(200)
    texts = legend_texts(bpt_figure(points))
    assert {"Kauffmann+2003", "Kewley+2001", "Schawinski+2007"} <= set(texts)
    for name in set(points.names):
        assert f"{CLASS_NAMES.get(name, name)} ({(points.names == name).sum()})" in texts
    assert any(text.startswith("Seyfert") for text in texts)
    assert "Cid Fernandes+2010" in legend_texts(bpt_figure(points, seyfert_liner="cidfernandes2010"))


def test_no_name_of_a_region_is_crossed_by_a_curve():
    """Pixels of the curves inside the boxes of the texts."""
    (axes,) = bpt_figure(places(0)).axes
    axes.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
    assert len(boxes) == 4
    for line in axes.lines:
        drawn = axes.transData.transform(np.column_stack([line.get_xdata(), line.get_ydata()]))
        steps = np.linspace(0, 1, 20)[:, None, None]
        dense = (drawn[:-1] * (1 - steps) + drawn[1:] * steps).reshape(-1, 2) if len(drawn) > 1 else drawn
        for box in boxes:
            inside = (dense > (box.x0, box.y0)) & (dense < (box.x1, box.y1))
            assert not inside.all(axis=1).any(), line.get_label()


def test_the_drawn_curve_is_the_curve_of_the_labels_and_never_its_other_branch():
    (axes,) = bpt_figure(places(20)).axes
    (drawn,) = [line for line in axes.lines if line.get_label() == "Kauffmann+2003"]
    np.testing.assert_allclose(drawn.get_ydata(), kauffmann2003_nii(drawn.get_xdata()))
    assert drawn.get_xdata().max() < 0.05
    assert drawn.get_ydata()[-1] < BPT_Y_RANGE[0]


def test_objects_that_cannot_be_drawn_are_counted_on_the_figure():
    points = places(50)
    points.x[:3], points.y[5] = np.nan, -np.inf
    points.x[10:12] = 5.0
    (axes,) = bpt_figure(points).axes
    assert "4 undefined, 2 beyond the axes" in [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("count", [20, 2 * MAX_ELLIPSES])
def test_error_ellipses_have_the_size_of_the_errors_and_a_bounded_number(count):
    figure = bpt_figure(places(count, x_err=np.full(count, 0.1), y_err=np.full(count, 0.2)))
    (ellipses,) = [item for item in figure.axes[0].collections if isinstance(item, EllipseCollection)]
    assert len(ellipses.get_offsets()) == min(count, MAX_ELLIPSES)
    np.testing.assert_allclose(ellipses.get_widths(), 0.2)
    np.testing.assert_allclose(ellipses.get_heights(), 0.4)


def test_an_error_that_is_unknown_or_crosses_the_plane_has_no_ellipse():
    x_err, y_err = np.array([0.1, np.nan, 0.1, 0.6, 0.1]), np.array([0.1, 0.1, np.nan, 0.1, np.inf])
    names = np.array(["liner"] * 5)
    figure = bpt_figure(PlanePoints(x=np.arange(5) / 10, y=np.zeros(5), names=names, x_err=x_err, y_err=y_err))
    (ellipses,) = [item for item in figure.axes[0].collections if isinstance(item, EllipseCollection)]
    np.testing.assert_allclose(ellipses.get_offsets(), [[0.0, 0.0]])


def test_probability_takes_over_the_colour():
    figure = bpt_figure(places(60), probability=np.linspace(0, 1, 60))
    assert len(figure.axes) == 2
    assert figure.axes[1].get_ylabel() == "P(AGN), calibrated"


@pytest.mark.parametrize("count", [0, 1, MIN_DENSITY_OBJECTS])
def test_figures_of_no_one_and_many_objects_render(tmp_path, count):
    points = places(count)
    bpt_figure(points, probability=np.full(count, np.nan)).savefig(tmp_path / "bpt.png", dpi=40)
    figure = whan_figure(whan_places(points.x, 10 ** (points.y + 0.5)))
    figure.savefig(tmp_path / "whan.png", dpi=40)
    assert (tmp_path / "whan.png").stat().st_size > 1000


def test_the_whan_plane_leaves_absorption_out_of_its_logarithm_and_says_so():
    table = Table({"whan_class": ["passive"] * 3, "ew_halpha": [10.0, -1.0, 0.0], "ew_halpha_err": [1.0] * 3})
    for line in ("nii_6584", "halpha"):
        table[f"flux_{line}"], table[f"flux_{line}_err"] = [1.0] * 3, [0.1] * 3
    (axes,) = measured_whan_figure(table).axes
    assert "2 undefined" in [text.get_text() for text in axes.texts]


def test_a_table_of_measurements_draws_itself_with_its_own_scheme():
    table = Table({"bpt_class": ["liner", "unclassified"], "whan_class": ["strong-agn", "unclassified"]})
    for line, flux in {"nii_6584": 300.0, "halpha": 300.0, "oiii_5007": 200.0, "hbeta": 100.0}.items():
        table[f"flux_{line}"] = [flux, flux]
        table[f"flux_{line}_err"] = [0.1 * flux] * 2
    table["ew_halpha"], table["ew_halpha_err"] = [10.0, 10.0], [1.0, 1.0]
    table.meta["LABELS"] = json.dumps({"seyfert_liner": "cidfernandes2010"})
    figure = measured_bpt_figure(table)
    assert "Cid Fernandes+2010" in legend_texts(figure)
    (ellipses,) = [item for item in figure.axes[0].collections if isinstance(item, EllipseCollection)]
    np.testing.assert_allclose(ellipses.get_offsets(), [[0.0, np.log10(2)]])
    np.testing.assert_allclose(ellipses.get_widths(), 2 * 0.1 * np.sqrt(2) / np.log(10))
    assert "strong AGN (1)" in legend_texts(measured_whan_figure(table))

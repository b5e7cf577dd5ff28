import json

import numpy as np
import pytest
from astropy.table import Table
from matplotlib.collections import EllipseCollection

from mmagn.labels.bpt import bpt_class, kauffmann2003_nii
from mmagn.labels.whan import whan_class
from mmagn.reporting.figures.bpt import (
    BPT_Y_RANGE,
    MAX_ELLIPSES,
    MIN_DENSITY_OBJECTS,
    bpt_figure,
    measured_bpt_figure,
    measured_whan_figure,
    whan_figure,
)


def places(count):
    rng = np.random.default_rng(0)
    x, y = rng.normal(-0.3, 0.3, count), rng.normal(0.1, 0.4, count)
    return x, y, bpt_class(x, y)


def legend_texts(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_the_legend_names_every_curve_and_counts_every_class():
    x, y, classes = places(200)
    texts = legend_texts(bpt_figure(x, y, classes))
    assert {"Kauffmann+2003", "Kewley+2001", "Schawinski+2007"} <= set(texts)
    for name in set(classes):
        assert f"{name} ({(classes == name).sum()})" in texts
    assert "Cid Fernandes+2010" in legend_texts(bpt_figure(x, y, classes, seyfert_liner="cidfernandes2010"))


def test_the_drawn_curve_is_the_curve_of_the_labels_and_never_its_other_branch():
    (axes,) = bpt_figure(*places(20)).axes
    (drawn,) = [line for line in axes.lines if line.get_label() == "Kauffmann+2003"]
    np.testing.assert_allclose(drawn.get_ydata(), kauffmann2003_nii(drawn.get_xdata()))
    assert drawn.get_xdata().max() < 0.05
    assert drawn.get_ydata()[-1] < BPT_Y_RANGE[0]


def test_objects_that_cannot_be_drawn_are_counted_on_the_figure():
    x, y, classes = places(50)
    x[:3], y[5] = np.nan, -np.inf
    x[10:12] = 5.0
    (axes,) = bpt_figure(x, y, classes).axes
    assert "4 undefined, 2 beyond the axes" in [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("count", [20, 2 * MAX_ELLIPSES])
def test_error_ellipses_have_the_size_of_the_errors_and_a_bounded_number(count):
    x, y, classes = places(count)
    figure = bpt_figure(x, y, classes, log_nii_halpha_err=np.full(count, 0.1), log_oiii_hbeta_err=np.full(count, 0.2))
    (ellipses,) = [item for item in figure.axes[0].collections if isinstance(item, EllipseCollection)]
    assert len(ellipses.get_offsets()) == min(count, MAX_ELLIPSES)
    np.testing.assert_allclose(ellipses.get_widths(), 0.2)
    np.testing.assert_allclose(ellipses.get_heights(), 0.4)


def test_an_error_that_is_unknown_or_crosses_the_plane_has_no_ellipse():
    x_err, y_err = np.array([0.1, np.nan, 0.1, 0.6, 0.1]), np.array([0.1, 0.1, np.nan, 0.1, np.inf])
    figure = bpt_figure(
        np.arange(5) / 10, np.zeros(5), ["liner"] * 5, log_nii_halpha_err=x_err, log_oiii_hbeta_err=y_err
    )
    (ellipses,) = [item for item in figure.axes[0].collections if isinstance(item, EllipseCollection)]
    np.testing.assert_allclose(ellipses.get_offsets(), [[0.0, 0.0]])


def test_probability_takes_over_the_colour():
    x, y, classes = places(60)
    figure = bpt_figure(x, y, classes, probability=np.linspace(0, 1, 60))
    assert len(figure.axes) == 2
    assert figure.axes[1].get_ylabel() == "AGN probability"


@pytest.mark.parametrize("count", [0, 1, MIN_DENSITY_OBJECTS])
def test_figures_of_no_one_and_many_objects_render(tmp_path, count):
    x, y, classes = places(count)
    ew = 10 ** (y + 0.5)
    bpt_figure(x, y, classes, probability=np.full(count, np.nan), title="test").savefig(tmp_path / "bpt.png", dpi=40)
    figure = whan_figure(x, ew, whan_class(x, ew, ew), log_nii_halpha_err=x * 0, ew_halpha_err_angstrom=ew / 5)
    figure.savefig(tmp_path / "whan.png", dpi=40)
    assert (tmp_path / "whan.png").stat().st_size > 1000


def test_the_whan_plane_leaves_absorption_out_of_its_logarithm_and_says_so():
    ew = np.array([10.0, -1.0, 0.0])
    (axes,) = whan_figure(np.zeros(3), ew, whan_class(np.zeros(3), ew, ew)).axes
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
    assert "strong-agn (1)" in legend_texts(measured_whan_figure(table))

"""The figures of a match plan show its numbers, also where there are none."""

import numpy as np
import pytest
from astropy.table import Table

from mmagn.reporting.figures import matching
from mmagn.reporting.figures.matching import cell_figure, plan_figures, radius_figure, separation_figure, sky_figure

CELLS = Table(
    {
        "healpix": [1703, 1702, 0, 7],
        "ra_deg": [151.875, 149.0625, 45.0, 359.0],
        "dec_deg": [2.388, 0.0, 2.388, -10.0],
        "sdss": [40, 30, 500, 0],
        "hsc": [900, 20, 0, 8],
        "pairs": [25, 0, 0, 0],
    }
)
RADII = Table(
    {
        "radius_arcsec": [0.5, 1.0, 2.0],
        "pairs": [20, 25, 26],
        "expected_by_chance": [0.1, 0.4, 1.6],
        "false_fraction": [0.005, 0.016, 0.06],
        "ambiguous": [0, 0, 2],
    }
)
SEPARATIONS = Table(
    {"low_arcsec": [0.0, 1.0], "high_arcsec": [1.0, 2.0], "neighbours": [25, 3], "expected_by_chance": [0.5, 1.5]}
)


def labels(figure):
    return " ".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


def test_a_cell_is_drawn_at_its_place_with_ra_growing_to_the_left():
    (axes,) = sky_figure(CELLS).axes
    places = {each.get_label(): np.degrees(each.get_offsets()) for each in axes.collections}
    np.testing.assert_allclose(places["both, with pairs (1)"], [[180 - 151.875, 2.388]])
    np.testing.assert_allclose(places["spectra only (1)"], [[135.0, 2.388]])
    assert places["images only (1)"][0, 0] == pytest.approx(-179)
    assert axes.xaxis.get_major_formatter()(np.radians(30), 0) == "150°"


def test_the_match_radius_is_marked():
    for figure in (radius_figure(RADII, 1.0), separation_figure(SEPARATIONS, 1.0)):
        assert "radius 1" in labels(figure)


def test_a_match_without_a_pair_has_all_figures(tmp_path):
    nothing = RADII.copy()
    nothing["pairs"], nothing["false_fraction"] = 0, np.nan
    cells = CELLS.copy()
    cells["pairs"] = 0
    where = (np.array([150.0]), np.array([2.0]))
    none = (np.empty(0), np.empty(0))
    figures = plan_figures({"spectra": where, "HSC images": where, "pairs": none}, cells, nothing, SEPARATIONS, 1.0)
    assert list(figures) == ["sky", "coverage", "separations", "radius", "cells"]
    assert "no pairs" in labels(figures["radius"])
    for figure in figures.values():
        figure.savefig(tmp_path / "figure.png")


def test_cells_that_are_not_shown_are_counted():
    many = Table({name: np.repeat(CELLS[name], 20) for name in CELLS.colnames})
    assert "55 cells with fewer or with one survey are not shown" in labels(cell_figure(many))


def test_a_map_of_a_part_says_so(monkeypatch):
    monkeypatch.setattr(matching, "MAX_POINTS", 10)
    many, one = (np.linspace(150, 151, 25), np.zeros(25)), (np.array([150.0]), np.zeros(1))
    figure = plan_figures({"spectra": many, "HSC images": one, "pairs": one}, CELLS, RADII, SEPARATIONS, 1.0)[
        "coverage"
    ]
    assert "drawn: one in 3 spectra" in labels(figure)

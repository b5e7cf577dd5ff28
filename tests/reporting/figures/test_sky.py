"""The coverage map draws every object once, RA grows to the left, and RA 0 is no border."""

import logging

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mmagn.matching.sky import sky_group
from mmagn.reporting.figures.sky import coverage_figure

Positions = tuple[NDArray[np.float64], NDArray[np.float64]]


def patch(ra_deg: float, dec_deg: float, count: int, seed: int = 0) -> Positions:
    rng = np.random.default_rng(seed)
    return (ra_deg + rng.uniform(-2, 2, count)) % 360, dec_deg + rng.uniform(-2, 2, count)


def points(axes: Axes, name: str) -> NDArray[np.float64]:
    layer = next(
        each for each in axes.collections if isinstance(each, PathCollection) and str(each.get_label()).startswith(name)
    )
    return np.asarray(layer.get_offsets())


def coverage(sdss: Positions, hsc: Positions, pairs: Positions) -> Figure:
    return coverage_figure({"spectra": sdss, "HSC images": hsc, "pairs": pairs})


def legend_texts(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def drawn(figure: Figure) -> None:
    figure.draw_without_rendering()


def test_every_object_is_drawn_and_counted() -> None:
    ra_deg, dec_deg = patch(150, 2, 50)
    axes = coverage((ra_deg, dec_deg), (ra_deg[:30], dec_deg[:30]), (ra_deg[:20], dec_deg[:20])).axes[0]
    for name, count in (("spectra (50)", 50), ("HSC images (30)", 30), ("pairs (20)", 20)):
        assert len(points(axes, name)) == count
    np.testing.assert_allclose(points(axes, "spectra"), np.column_stack([ra_deg, dec_deg]))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("RA [deg]", "Dec [deg]")


def test_ra_grows_to_the_left() -> None:
    left, right = coverage(*[patch(150, 2, 50)] * 3).axes[0].get_xlim()
    assert left > right


def test_a_field_across_ra_zero_stays_in_one_piece_and_is_labelled_modulo_360() -> None:
    figure = coverage(*[patch(0, 0, 200)] * 3)
    axes = figure.axes[0]
    assert np.ptp(points(axes, "spectra")[:, 0]) < 4.1
    assert abs(np.diff(axes.get_xlim())[0]) < 20
    drawn(figure)
    labels = [float(label.get_text()) for label in axes.get_xticklabels() if label.get_text()]
    assert all(0 <= label < 360 for label in labels)
    assert min(labels) < 10
    assert max(labels) > 350


def test_the_outline_of_every_cell_with_an_object_is_drawn_around_it() -> None:
    ra_deg, dec_deg = patch(0, 0, 200)
    axes = coverage(*[(ra_deg, dec_deg)] * 3).axes[0]
    outlines = next(each for each in axes.collections if isinstance(each, LineCollection)).get_segments()
    assert len(outlines) == len(np.unique(sky_group(ra_deg, dec_deg, 16)))
    every = np.concatenate(outlines)
    offsets = points(axes, "spectra")
    assert (every.min(axis=0) <= offsets.min(axis=0)).all()
    assert (every.max(axis=0) >= offsets.max(axis=0)).all()


def test_a_narrow_map_has_true_angles() -> None:
    aspect = coverage(*[patch(150, 60, 100)] * 3).axes[0].get_aspect()
    assert aspect == pytest.approx(2.0, rel=0.1)


def test_far_fields_get_panels_of_their_own_that_hold_them() -> None:
    fields = [patch(150, 2, 300), patch(242, 55, 100), patch(353, 0, 40), patch(100, 20, 3)]
    everything = tuple(np.concatenate(each) for each in zip(*fields, strict=True))
    axes = coverage(*[everything] * 3).axes  # type: ignore[list-item]
    assert [each.get_title(loc="left") for each in axes] == ["", "A", "B", "C"]
    for panel, (ra_deg, dec_deg) in zip(axes[1:], (fields[0], fields[1], fields[2]), strict=True):
        (left, right), (bottom, top) = panel.get_xlim(), panel.get_ylim()
        assert left > right
        from_right = (ra_deg - right) % 360
        assert np.mean((from_right < left - right) & (bottom < dec_deg) & (dec_deg < top)) > 0.9


@pytest.mark.parametrize("count", [0, 1])
def test_few_objects_still_make_a_map(count: int) -> None:
    figure = coverage(*[patch(150, 2, count)] * 3)
    drawn(figure)
    assert figure.axes[0].get_xlabel() == "RA [deg]"


def test_a_survey_at_the_pole_is_drawn_without_complaint(caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(1)
    pole = rng.uniform(0, 360, 60), 90 - rng.uniform(0, 2, 60)
    with caplog.at_level(logging.WARNING):
        drawn(coverage(pole, pole, pole))
    assert not caplog.records


def test_pairs_of_each_split_have_their_own_marker_and_count() -> None:
    layers = {"train": patch(150, 2, 6), "test": patch(150, 2, 4), "pairs without label": patch(150, 2, 3)}
    figure = coverage_figure(layers)
    assert [text for text in legend_texts(figure) if "HEALPix" not in text] == [
        "pairs without label (3)",
        "train (6)",
        "test (4)",
    ]

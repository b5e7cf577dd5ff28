"""Matches on the sphere are what brute force says, the report counts them right, and outlines surround their cells."""

import json

import astropy.units as u
import healpy
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st

from mmagn.matching.report import MatchReport, expected_pairs, local_density, match_report
from mmagn.matching.sky import cell_outlines, nearest_separation_arcsec, sky_group, sky_matches
from mmagn.records import CELL_NSIDE, Catalog

ARCSEC = 1 / 3600


def catalog(ra, dec, start=0):
    ra, dec = np.atleast_1d(np.asarray(ra, dtype=float)), np.atleast_1d(np.asarray(dec, dtype=float))
    return Catalog(
        object_id=np.array([str(start + number) for number in range(len(ra))], dtype=np.str_),
        ra_deg=ra,
        dec_deg=dec,
        healpix=sky_group(ra, dec, CELL_NSIDE),
        file_index=np.zeros(len(ra), dtype=np.int32),
        row=np.arange(len(ra)),
        files=("a.hdf5",),
    )


def matched(left, right, radius_arcsec=1.0):
    matches = sky_matches(
        *map(np.asarray, zip(*left, strict=True)), *map(np.asarray, zip(*right, strict=True)), radius_arcsec
    )
    return list(zip(matches.left_index.tolist(), matches.right_index.tolist(), strict=True)), matches


def brute_force(left_ra, left_dec, right_ra, right_dec, radius_arcsec):
    left = SkyCoord(left_ra, left_dec, unit="deg")[:, None]
    separation = left.separation(SkyCoord(right_ra, right_dec, unit="deg")[None, :]).to_value(u.arcsec).round(6)
    pairs = []
    for row in range(separation.shape[0]):
        column = int(np.argmin(separation[row]))  # argmin takes the lowest index of a tie
        if separation[row, column] <= radius_arcsec and int(np.argmin(separation[:, column])) == row:
            pairs.append((row, column))
    return pairs


@st.composite
def two_fields(draw):
    """Two lists of positions on a grid of half arcseconds, so that ties, duplicates and neighbours abound."""
    ra0, dec0 = draw(st.sampled_from([(150.0, 2.0), (0.0, 0.0), (359.9999, -45.0), (10.0, 89.9999), (200.0, -90.0)]))
    step = st.integers(-4, 4)
    points = st.lists(st.tuples(step, step), min_size=1, max_size=8)
    sides = []
    for side in (draw(points), draw(points)):
        offset = np.array(side, dtype=float) * 0.5 * ARCSEC
        dec = np.clip(dec0 + offset[:, 1], -90, 90)
        sides += [np.mod(ra0 + offset[:, 0], 360.0), dec]
    return (*sides, draw(st.sampled_from([0.3, 0.7, 1.2, 5.0])))


@settings(max_examples=150, deadline=None)
@given(two_fields())
def test_matches_are_those_of_brute_force(fields):
    matches = sky_matches(*fields)
    assert list(zip(matches.left_index.tolist(), matches.right_index.tolist(), strict=True)) == brute_force(*fields)


@settings(max_examples=50, deadline=None)
@given(two_fields())
def test_swapping_the_sides_swaps_the_matches(fields):
    left_ra, left_dec, right_ra, right_dec, radius = fields
    forward, backward = sky_matches(*fields), sky_matches(right_ra, right_dec, left_ra, left_dec, radius)
    there = set(zip(forward.left_index.tolist(), forward.right_index.tolist(), strict=True))
    back = set(zip(backward.right_index.tolist(), backward.left_index.tolist(), strict=True))
    assert there == back
    assert (forward.left_lost, forward.right_lost) == (backward.right_lost, backward.left_lost)


def test_a_random_sky_is_matched_as_brute_force_does():
    rng = np.random.default_rng(3)
    left = rng.uniform(150, 150.1, 300), rng.uniform(2, 2.1, 300)
    right = rng.uniform(150, 150.1, 200), rng.uniform(2, 2.1, 200)
    matches = sky_matches(*left, *right, 20.0)
    assert len(matches) > 50
    assert list(zip(matches.left_index.tolist(), matches.right_index.tolist(), strict=True)) == brute_force(
        *left, *right, 20.0
    )


def test_a_pair_is_found_across_a_cell_border():
    corner_ra, corner_dec = healpy.vec2ang(healpy.boundaries(CELL_NSIDE, 1104, nest=True)[:, 0], lonlat=True)
    ra, dec = float(corner_ra[0]), float(corner_dec[0])
    left, right = catalog(ra, dec - 0.2 * ARCSEC), catalog(ra, dec + 0.2 * ARCSEC)
    assert left.healpix[0] != right.healpix[0]
    matches = sky_matches(left.ra_deg, left.dec_deg, right.ra_deg, right.dec_deg, 1.0)
    report = match_report(left, right, matches, 1.0, {})
    assert (report.pairs, report.border_pairs, report.common_cells) == (1, 1, 0)
    assert (report.left_only_cells, report.right_only_cells) == ((left.healpix[0],), (right.healpix[0],))


@pytest.mark.parametrize(
    ("left", "right", "separation"),
    [
        ((359.9999, 0.0), (0.0001, 0.0), 0.72),
        ((-0.0001, 0.0), (0.0001, 0.0), 0.72),
        ((10.0, 90 - 0.3 * ARCSEC), (190.0, 90 - 0.3 * ARCSEC), 0.6),
        ((10.0, -90 + 0.3 * ARCSEC), (190.0, -90 + 0.3 * ARCSEC), 0.6),
        ((123.0, 90.0), (0.0, 90.0), 0.0),
    ],
)
def test_ra_zero_and_both_poles_are_nowhere_special(left, right, separation):
    pairs, matches = matched([left], [right])
    assert pairs == [(0, 0)]
    assert matches.separation_arcsec[0] == pytest.approx(separation, abs=1e-6)


@pytest.mark.parametrize("dec", [0.0, 60.0, 89.0])
def test_the_radius_cuts_at_a_thousandth_of_an_arcsec(dec):
    for offset, expected in ((0.999, 1), (1.001, 0)):
        pairs, _ = matched([(10.0, dec)], [(10.0, dec + offset * ARCSEC)])
        assert len(pairs) == expected
        across = 10.0 + offset * ARCSEC / np.cos(np.radians(dec))
        assert len(matched([(10.0, dec)], [(across, dec)])[0]) == expected


def test_a_match_is_one_to_one_and_the_loser_is_counted():
    left = [(10.0, 0.0), (10.0, 0.5 * ARCSEC)]
    right = [(10.0, 0.1 * ARCSEC)]
    pairs, matches = matched(left, right)
    assert pairs == [(0, 0)]
    assert (matches.left_lost, matches.right_lost) == (1, 0)


def test_equal_separations_go_to_the_lower_index_on_both_sides():
    same = [(10.0, 0.0)] * 3
    assert matched([(10.0, 0.0)], same)[0] == [(0, 0)]
    assert matched(same, [(10.0, 0.0)])[0] == [(0, 0)]
    pairs, matches = matched(same, same[:2])
    assert pairs == [(0, 0)]
    assert (matches.left_lost, matches.right_lost) == (2, 1)


def test_nothing_near_is_an_empty_match():
    pairs, matches = matched([(10.0, 0.0)], [(11.0, 0.0)])
    assert pairs == []
    assert (matches.left_lost, matches.right_lost) == (0, 0)
    nothing = np.empty(0)
    assert len(sky_matches(nothing, nothing, np.array([1.0]), np.array([2.0]), 1.0)) == 0


def test_positions_off_the_sphere_and_no_radius_are_refused():
    one = np.array([1.0])
    with pytest.raises(ValueError, match="1 right positions are not on the sphere"):
        sky_matches(one, one, one, np.array([np.nan]), 1.0)
    with pytest.raises(ValueError, match="match radius is 0"):
        sky_matches(one, one, one, one, 0)


def test_pairs_expected_by_chance_agree_with_a_sky_of_strangers():
    rng = np.random.default_rng(7)
    left = catalog(rng.uniform(150, 151, 3000), rng.uniform(-0.5, 0.5, 3000))
    right = catalog(rng.uniform(149.9, 151.1, 24000), rng.uniform(-0.6, 0.6, 24000))
    matches = sky_matches(left.ra_deg, left.dec_deg, right.ra_deg, right.dec_deg, 3.0)
    count, expected = len(matches), expected_pairs(local_density(left, right, 3.0), 3.0)
    assert 80 < count < 150
    assert abs(count - expected) < 3 * np.sqrt(expected)


def test_true_counterparts_are_not_counted_as_chance():
    rng = np.random.default_rng(8)
    ra, dec = rng.uniform(150, 151, 1000), rng.uniform(-0.5, 0.5, 1000)
    left, right = catalog(ra, dec), catalog(ra + 0.1 * ARCSEC, dec)
    assert expected_pairs(local_density(left, right, 1.0), 1.0) < 1


def test_the_report_counts_what_happened():
    left = catalog([10.0, 10.0, 20.0, 200.0], [0.0, 0.4 * ARCSEC, 0.0, 40.0])
    right = catalog([10.0, 20.0, 20.0, 120.0], [0.1 * ARCSEC, 0.5 * ARCSEC, -0.8 * ARCSEC, -40.0])
    matches = sky_matches(left.ra_deg, left.dec_deg, right.ra_deg, right.dec_deg, 1.0)
    report = match_report(left, right, matches, 1.0, {"sdss: redshift is NaN": 2})
    assert (report.left_objects, report.right_objects, report.pairs) == (4, 4, 2)
    assert (report.many_to_one_left, report.many_to_one_right) == (1, 1)
    assert report.separation_quantiles_arcsec["50%"] == pytest.approx(0.3)
    assert report.separation_quantiles_arcsec["100%"] == pytest.approx(0.5)
    assert (report.common_cells, len(report.left_only_cells), len(report.right_only_cells)) == (2, 1, 1)
    assert report.drops == {"sdss: redshift is NaN": 2}


def test_the_report_survives_json_and_reads_well():
    left = catalog([10.0, 200.0], [0.0, 40.0])
    right = catalog([10.0], [0.1 * ARCSEC])
    matches = sky_matches(left.ra_deg, left.dec_deg, right.ra_deg, right.dec_deg, 1.0)
    report = match_report(left, right, matches, 1.0, {"hsc: position is NaN": 1})
    assert MatchReport.from_dict(json.loads(json.dumps(report.as_dict()))) == report
    text = str(report)
    assert "pairs within 1 arcsec: 1 of 2 spectra and 1 HSC images" in text
    assert "1 x hsc: position is NaN" in text


def test_the_nearest_of_two_catalogues_is_found_however_far():
    assert nearest_separation_arcsec(catalog(10.0, 0.0), catalog([190.0, 12.0], [0.0, 0.0])) == pytest.approx(7200)
    assert np.isnan(nearest_separation_arcsec(catalog([], []), catalog(1.0, 1.0)))


def test_an_outline_surrounds_the_centre_of_its_cell_and_closes() -> None:
    cells = np.array([1104, 1171, 1708])
    for cell, outline in zip(cells, cell_outlines(cells, 16), strict=True):
        ra_deg, dec_deg = healpy.pix2ang(16, int(cell), nest=True, lonlat=True)
        np.testing.assert_allclose(outline[0], outline[-1], atol=1e-9)
        assert outline[:, 0].min() < ra_deg < outline[:, 0].max()
        assert outline[:, 1].min() < dec_deg < outline[:, 1].max()


def test_points_just_inside_an_outline_are_in_the_cell() -> None:
    cell = 1708
    outline = cell_outlines(np.array([cell]), 16)[0]
    centre = np.array(healpy.pix2ang(16, cell, nest=True, lonlat=True))
    inside = centre + 0.98 * (outline - centre)
    assert (sky_group(inside[:, 0], inside[:, 1], 16) == cell).all()


@pytest.mark.parametrize("ra_deg", [0.0, 359.99])
def test_a_cell_across_ra_zero_has_no_jump(ra_deg: float) -> None:
    cell = sky_group(np.array([ra_deg]), np.array([0.5]), 16)
    outline = cell_outlines(cell, 16)[0]
    assert np.abs(np.diff(outline[:, 0])).max() < 5
    assert np.ptp(outline[:, 0]) < 10

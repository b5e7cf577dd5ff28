"""The plan of a match says what the match will find, and what chance would."""

import json

import numpy as np
import pytest

from mmagn.matching.diagnostics import match_plan
from mmagn.matching.report import expected_pairs, local_density
from mmagn.matching.sky import catalog_matches, sky_group
from mmagn.records import Catalog

ARCSEC = 1 / 3600


def catalog(ra_deg, dec_deg) -> Catalog:
    ra_deg, dec_deg = np.mod(np.asarray(ra_deg, dtype=float), 360), np.asarray(dec_deg, dtype=float)
    rows = np.arange(len(ra_deg))
    return Catalog(
        object_id=rows.astype(np.str_),
        ra_deg=ra_deg,
        dec_deg=dec_deg,
        files=("file",),
        file_index=np.zeros(len(rows), dtype=np.int32),
        row=rows,
        healpix=sky_group(ra_deg, dec_deg, 16),
    )


@pytest.fixture(scope="module")
def crowd():
    """A field of 20,000 images over a square degree; 300 of 600 spectra are of objects in it."""
    rng = np.random.default_rng(3)
    hsc = catalog(rng.uniform(-0.5, 0.5, 20_000), rng.uniform(-0.5, 0.5, 20_000))
    scatter = rng.normal(0, 0.15 * ARCSEC, (2, 300))
    ra = np.concatenate([hsc.ra_deg[:300] + scatter[0], rng.uniform(-0.5, 0.5, 300)])
    dec = np.concatenate([hsc.dec_deg[:300] + scatter[1], rng.uniform(-0.5, 0.5, 300)])
    return catalog(ra, dec), hsc


def test_every_radius_has_the_pairs_that_a_match_finds(crowd):
    for row in match_plan(*crowd, 1.0, {}).radii:
        assert row["pairs"] == len(catalog_matches(*crowd, row["radius_arcsec"]))


def test_chance_is_that_of_the_report_and_what_random_spectra_find(crowd):
    plan = match_plan(*crowd, 1.0, {})
    expected = dict(zip(plan.radii["radius_arcsec"], plan.radii["expected_by_chance"], strict=True))
    assert expected[1.0] == pytest.approx(expected_pairs(local_density(*crowd, 1.0), 1.0))
    far = catalog(crowd[0].ra_deg + 60 * ARCSEC, crowd[0].dec_deg)
    count = len(catalog_matches(far, crowd[1], 5.0))
    assert abs(count - expected[5.0]) < 4 * np.sqrt(count)


def test_neighbours_beyond_the_counterparts_are_at_the_level_of_chance(crowd):
    separations = match_plan(*crowd, 1.0, {}).separations
    beyond = np.asarray(separations["low_arcsec"]) >= 2
    count, expected = (np.asarray(separations[name])[beyond].sum() for name in ("neighbours", "expected_by_chance"))
    assert abs(count - expected) < 4 * np.sqrt(expected)
    near = separations[0]
    assert near["neighbours"] > 100 * near["expected_by_chance"]


def test_an_object_with_two_images_is_ambiguous_from_the_farther_one_on():
    plan = match_plan(catalog([10], [1]), catalog([10, 10], [1 + 0.4 * ARCSEC, 1 - 1.8 * ARCSEC]), 1.0, {})
    assert plan.radii["ambiguous"].tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 1, 1]
    assert set(plan.radii["pairs"].tolist()) == {1}


def test_the_sky_in_common_is_that_of_both(crowd):
    sdss, hsc = crowd
    plan = match_plan(sdss, hsc, 1.0, {})
    assert 1 <= plan.hsc_area_deg2 < 1.8  # a square degree, and what its border cuts of pixels of 0.05 deg2
    assert plan.overlap_area_deg2 <= min(plan.sdss_area_deg2, plan.hsc_area_deg2)
    assert plan.sdss_in_overlap == len(sdss)
    assert (plan.cells["pairs"].sum(), plan.cells["sdss"].sum()) == (plan.pairs, len(sdss))


def test_disjoint_surveys_have_a_plan_that_says_so():
    plan = match_plan(catalog([10, 11], [1, 1]), catalog([10], [1 + 7 * ARCSEC]), 1.0, {"hsc: no position": 3})
    assert (plan.pairs, plan.radii["pairs"].sum()) == (0, 0)
    assert plan.nearest_arcsec == pytest.approx(7)
    assert np.isnan(plan.radii["false_fraction"]).all()
    assert "nearest two objects: 7 arcsec apart" in str(plan)
    assert "dropped: 3 x hsc: no position" in str(plan)
    assert plan.separations["neighbours"].sum() == 1


def test_a_radius_of_its_own_has_a_row(crowd):
    plan = match_plan(*crowd, 1.3, {})
    assert len(plan.radii) == 11
    assert plan.pairs == len(catalog_matches(*crowd, 1.3))
    assert "1.3" in next(line for line in str(plan).splitlines() if "<- matching.radius_arcsec" in line)


def test_the_numbers_are_plain(crowd):
    content = json.loads(json.dumps(match_plan(*crowd, 1.0, {}).as_dict()))
    assert content["pairs"] == match_plan(*crowd, 1.0, {}).pairs
    assert len(content["radii"]["radius_arcsec"]) == 10

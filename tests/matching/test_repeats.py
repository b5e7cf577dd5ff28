"""A galaxy with several spectra is one object of a sample."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from mmagn.matching.config import MatchingConfig
from mmagn.matching.index import pair_index
from mmagn.matching.objects import object_parts
from mmagn.matching.repeats import REPEAT, survey_of, without_repeats
from mmagn.matching.report import MatchReport, match_report
from mmagn.matching.sky import catalog_matches
from mmagn.records import Catalog
from mmagn.surveys.config import DataConfig

ARCSEC = 1 / 3600
PLACE = {"ra": 150.1, "dec": 2.2}
HSC = [{"object_id": 7, **PLACE}]


def spectrum(object_id, offset_arcsec, noise, pixels=7781, **columns):
    place = {"ra": 150.1, "dec": 2.2 + offset_arcsec * ARCSEC}
    return {"object_id": object_id, **place, "spectrum_ivar": np.full(pixels, noise**-2.0), **columns}


def settings_of(root):
    return DataConfig(source="hdf5", root=str(root), spectra=("sdss", "boss", "desi"))


def pairs_of(root, radius_arcsec=1.0):
    index = pair_index(settings_of(root), MatchingConfig(radius_arcsec=radius_arcsec))
    return index.sdss.object_id[index.matches.left_index].tolist(), index.report


@pytest.mark.parametrize(("noise", "kept"), [(0.2, "39627"), (5.0, "1")])
def test_the_spectrum_with_the_better_signal_to_noise_is_kept_though_the_other_is_nearer(
    tmp_path, v1_tree, noise, kept
):
    desi = spectrum(39627, 0.6 if kept == "39627" else 0.0, noise)
    v1_tree(tmp_path, sdss=[spectrum(1, 0.3, 1.0, 200)], desi=[desi], hsc=HSC)
    objects, report = pairs_of(tmp_path)
    assert objects == [kept]
    assert report.drops[REPEAT] == 1
    assert (report.left_objects, report.many_to_one_left) == (1, 0)


def test_three_surveys_of_one_galaxy_leave_one_spectrum(tmp_path, v1_tree):
    middle = [{"object_id": 7, **PLACE, "dec": 2.2 + 0.8 * ARCSEC}]
    v1_tree(tmp_path, sdss=[spectrum(1, 0.0, 2.0, 200)], desi=[spectrum(39627, 1.6, 3.0)], hsc=middle)
    v1_tree(tmp_path, sdss=[spectrum(2, 0.8, 1.0, 200)], sdss_survey="boss")
    objects, report = pairs_of(tmp_path)
    assert objects == ["2"]
    assert report.drops[REPEAT] == 2


def test_a_better_spectrum_beyond_the_radius_of_the_image_does_not_cost_the_pair(tmp_path, v1_tree):
    v1_tree(tmp_path, sdss=[spectrum(1, 0.8, 1.0, 200)], desi=[spectrum(39627, 1.6, 0.1)], hsc=HSC)
    objects, report = pairs_of(tmp_path)
    assert objects == ["1"]
    assert REPEAT not in report.drops


def test_an_unusable_spectrum_never_displaces_a_usable_one(tmp_path, v1_tree):
    bad = spectrum(39627, 0.0, 0.01, spectrum_mask=np.ones(7781, bool))
    v1_tree(tmp_path, sdss=[spectrum(1, 0.3, 9.0, 200)], desi=[bad], hsc=HSC)
    assert pairs_of(tmp_path)[0] == ["1"]


def test_a_galaxy_that_one_survey_has_observed_twice_is_one_object_and_its_other_spectra_are_named(tmp_path, v1_tree):
    sdss = [spectrum(1, 0.0, 1.0, 200), spectrum(2, 0.2, 0.5, 200), spectrum(3, 0.4, 2.0, 200)]
    v1_tree(tmp_path, sdss=sdss, hsc=HSC)
    objects, report = pairs_of(tmp_path)
    assert objects == ["2"]
    assert (report.drops[REPEAT], report.many_to_one_left) == (2, 0)
    assert report.repeats == {"2": ("1", "3")}
    assert "repeats of spectrum 2: 1, 3" in str(report).splitlines()
    assert MatchReport.from_dict(json.loads(json.dumps(report.as_dict()))) == report


def test_a_long_list_of_repeats_is_cut_in_the_text_alone():
    catalog = a_catalog("1")
    matches = catalog_matches(catalog, catalog, 1.0)
    report = match_report(catalog, catalog, matches, 1.0, {}, {str(kept): ("0",) for kept in range(13)})
    lines = [line for line in str(report).splitlines() if line.startswith("repeats")]
    assert (len(lines), len(report.repeats)) == (11, 13)
    assert lines[-1].startswith("repeats of 3 more spectra")


def test_spectra_in_files_of_somebody_are_all_wanted():
    catalog = a_catalog("1", "2")
    own = replace(catalog, files=("/home/objects.csv",))
    assert without_repeats(own, None, None, 1.0, Counter()) == (own, {})


def a_catalog(*ids):
    count = len(ids)
    return Catalog(
        object_id=np.array(ids),
        ra_deg=np.full(count, 150.1),
        dec_deg=np.full(count, 2.2),
        healpix=np.zeros(count, np.int64),
        file_index=np.zeros(count, np.int32),
        row=np.arange(count),
        files=("/tree/sdss/sdss/healpix=11/001-of-001.hdf5",),
    )


def test_neighbours_beyond_the_radius_stay_two_objects(tmp_path, v1_tree):
    v1_tree(tmp_path, sdss=[spectrum(1, 0.0, 1.0, 200)], desi=[spectrum(39627, 2.5, 0.1)], hsc=HSC)
    for radius_arcsec in (1.0, 10.0):
        objects, report = pairs_of(tmp_path, radius_arcsec)
        assert objects == ["1"]
        assert REPEAT not in report.drops


def test_only_galaxies_with_an_image_are_compared_for_pairs_and_all_of_them_for_spectra(tmp_path, v1_tree, monkeypatch):
    far = [spectrum(1, 100.0, 1.0, 200)], [spectrum(39627, 100.3, 0.2)]
    v1_tree(tmp_path, sdss=[*far[0], spectrum(2, 0.0, 1.0, 200)], desi=far[1], hsc=HSC)
    assert REPEAT not in pairs_of(tmp_path)[1].drops
    drops = Counter()
    parts = object_parts(settings_of(tmp_path), MatchingConfig(), "spectra", drops)
    assert [galaxy.spectrum.object_id for part in parts for galaxy in part.galaxies(drops)] == ["39627"]
    assert drops[REPEAT] == 1


@pytest.mark.parametrize(
    ("path", "survey"),
    [
        ("/tree/sdss/boss/healpix=11/001-of-001.hdf5", "/tree/sdss/boss"),
        ("/x/desi/mmu_desi/dataset/Norder=4/Dir=0/Npix=3.parquet", "/x/desi/mmu_desi"),
        ("ORG/NAME@abc/mmu_sdss/dataset/Norder=5/Dir=0/Npix=3.parquet#99", "ORG/NAME@abc/mmu_sdss"),
        ("/own/spec-1.fits", "/own/spec-1.fits"),
    ],
)
def test_the_survey_of_a_file_is_the_path_above_its_cells(path, survey):
    assert survey_of(path) == survey

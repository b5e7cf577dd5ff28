"""DESI and SDSS together as HATS catalogues, on a disk and on a hub, are what they are in a v1 tree."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hats_files import write_hats
from hub_server import hub_server

from mmagn.matching.config import MatchingConfig
from mmagn.matching.index import pair_index
from mmagn.surveys.config import DataConfig, HubConfig
from mmagn.surveys.hats.config import HatsConfig
from mmagn.surveys.reader import iter_spectra
from mmagn.surveys.readers import survey_reader

SPECTRA = ("sdss", "desi")
pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")

ARRAYS = ("wavelength_angstrom", "flux", "ivar", "lsf_sigma")
PLACES = [(150.1, 2.2), (150.11, 2.2), (150.12, 2.21), (150.3, 2.4), (149.9, 2.3), (149.8, 2.1)]


@pytest.fixture(scope="module")
def tree(tmp_path_factory, v1_tree):
    rng = np.random.default_rng(4)
    places = [{"ra": ra, "dec": dec} for ra, dec in PLACES]
    sdss = [{"object_id": 10 + number, **place} for number, place in enumerate(places[:3])]
    desi = []
    for number, place in enumerate(places[2:]):
        flux, mask = rng.normal(5, 1, 7781), rng.random(7781) < 0.003
        warning = {"ZWARN": 4 if number == 3 else 0}
        desi.append({"object_id": 39627 + number, **place, "spectrum_flux": flux, "spectrum_mask": mask, **warning})
    desi[0]["dec"] += 5 / 3600
    hsc = [{"object_id": 100 + number, **place} for number, place in enumerate(places)]
    return v1_tree(tmp_path_factory.mktemp("tree"), sdss=sdss, desi=desi, hsc=hsc)


@pytest.fixture(scope="module")
def collections(tree, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ORG")
    for kind in ("sdss", "desi", "hsc"):
        write_hats(tree, kind, folder / "UniverseTBD" / kind)
    return folder


def settings_of(kind, tree, collections, tmp_path):
    common = {"spectra": SPECTRA, "cache_dir": str(tmp_path)}
    paths = {name: str(collections / "UniverseTBD" / name) for name in ("sdss", "desi", "hsc")}
    if kind == "hats":
        return DataConfig(source="hats", hats=HatsConfig(**paths), **common)
    if kind == "hub":
        return DataConfig(source="hub", hub=HubConfig(**{name: f"UniverseTBD/{name}" for name in paths}), **common)
    return DataConfig(source="hdf5", root=str(tree), **common)


@pytest.mark.parametrize("kind", ["hats", "hub"])
def test_every_spectrum_is_that_of_the_tree_and_so_are_the_pairs(kind, tree, collections, tmp_path, monkeypatch):
    with hub_server(collections) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        data, tree_data = (settings_of(each, tree, collections, tmp_path) for each in (kind, "hdf5"))
        drops = Counter()
        spectra, expected = (
            {each.object_id: each for each in iter_spectra(survey_reader(one), drops)} for one in (data, tree_data)
        )
        assert not drops
        assert sorted(spectra) == sorted(expected) and len(spectra) == 7
        for name, spectrum in spectra.items():
            other = expected[name]
            assert (spectrum.survey, bool(spectrum.zwarning)) == (other.survey, bool(other.zwarning))
            assert (spectrum.redshift, spectrum.ra_deg) == pytest.approx((other.redshift, other.ra_deg))
            for array in ARRAYS:
                np.testing.assert_array_equal(getattr(spectrum, array), getattr(other, array))
        assert {each.survey for each in spectra.values()} == {"sdss", "desi"}
        index, expected_index = (pair_index(each, MatchingConfig()) for each in (data, tree_data))
        pairs, expected_pairs = (
            set(
                zip(
                    each.sdss.object_id[each.matches.left_index],
                    each.hsc.object_id[each.matches.right_index],
                    strict=True,
                )
            )
            for each in (index, expected_index)
        )
        assert pairs == expected_pairs and len(pairs) == 6


def test_only_the_surveys_of_data_spectra_are_read_and_unknown_ones_are_refused(tree, collections, tmp_path):
    data = settings_of("hats", tree, collections, tmp_path)
    alone = DataConfig(source="hats", hats=data.hats, spectra=("desi",))
    assert {each.survey for each in iter_spectra(survey_reader(alone), Counter())} == {"desi"}
    for source in ("hats", "hub"):
        with pytest.raises(ValueError, match=rf"data.spectra is boss; data.source {source} has only sdss .*and desi"):
            survey_reader(DataConfig(source=source, hats=data.hats, spectra=("boss",)))

"""DESI and SDSS together as HATS catalogues, on a disk and on a hub, are what they are in a v1 tree."""

from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
from hats_files import SURVEYS, hats_table, write_hats
from hub_server import hub_server

from mmagn.matching.config import MatchingConfig
from mmagn.matching.index import pair_index
from mmagn.matching.objects import object_parts
from mmagn.surveys.config import DataConfig, HatsConfig, HubConfig
from mmagn.surveys.reader import iter_spectra, warn_once
from mmagn.surveys.readers import survey_reader

SPECTRA = ("sdss", "desi")
pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")

ARRAYS = ("wavelength_angstrom", "flux", "ivar", "lsf_sigma")
PLACES = [
    (150.1, 2.2),
    (150.11, 2.2),
    (150.12, 2.21),
    (150.3, 2.4),
    (149.9, 2.3),
    (149.8, 2.1),
    (150.2, 2.3),
    (150.0, 2.2),
]


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
        assert sorted(spectra) == sorted(expected) and len(spectra) == 9
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
        assert pairs == expected_pairs and len(pairs) == 8


def test_only_the_surveys_of_data_spectra_are_read_and_unknown_ones_are_refused(tree, collections, tmp_path):
    data = settings_of("hats", tree, collections, tmp_path)
    alone = DataConfig(source="hats", hats=data.hats, spectra=("desi",))
    assert {each.survey for each in iter_spectra(survey_reader(alone), Counter())} == {"desi"}
    for source in ("hats", "hub"):
        with pytest.raises(ValueError, match=rf"data.spectra is boss; data.source {source} has only sdss .*and desi"):
            survey_reader(DataConfig(source=source, hats=data.hats, spectra=("boss",)))


@pytest.mark.parametrize("source", ["hats", "hub"])
def test_a_survey_that_was_asked_for_and_is_not_there_is_said_once(source, caplog):
    warn_once.cache_clear()
    for _ in range(2):
        survey_reader(DataConfig(source=source))
        survey_reader(DataConfig(source=source, spectra=("sdss", "boss")))
    (record,) = caplog.records
    assert record.getMessage().startswith(f"data.spectra has boss; data.source {source} has only sdss")


@pytest.fixture
def ready(tree, collections, tmp_path, monkeypatch):
    """Writer, through ``datasets``, of pairs of DESI and HSC rows; gives the settings that read them from a hub."""
    sides = {}
    for kind in ("desi", "hsc"):
        files = sorted((tree / SURVEYS[kind]).glob("*/*.hdf5"))
        rows = pa.concat_tables([hats_table(path, kind, typed=False) for path in files]).to_pylist()
        sides[kind] = {int(row["object_id"]): row for row in rows}

    def written(repository, without=(), hsc_ids=True, renamed=()):
        rows = []
        for number in range(1, 6):
            spectrum, cutout = sides["desi"][39627 + number], sides["hsc"][102 + number]
            positions = {f"hsc_{name}": cutout[name] for name in ("ra", "dec")}
            ids = {"hsc_object_id": cutout["object_id"]} if hsc_ids else {}
            row = {**spectrum, "image": cutout["image"], **positions, **ids}
            row |= {name: row.pop(published) for published, name in renamed}
            rows.append({name: value for name, value in row.items() if name not in without})
        path = collections / repository / "data" / "train-00000.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_list(rows).to_parquet(path)
        hub = HubConfig(pairs=repository, desi="UniverseTBD/desi")
        return DataConfig(source="hub-pairs", hub=hub, spectra=SPECTRA, cache_dir=str(tmp_path))

    with hub_server(collections) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield written


POSITIONS = ("ra", "dec", "hsc_ra", "hsc_dec")


@pytest.mark.parametrize(
    ("name", "without", "hsc_ids"),
    [
        ("whole", (), True),
        ("no_positions", POSITIONS, True),
        ("no_redshifts", ("Z", "ZERR", "ZWARN"), True),
        ("ids_alone", (*POSITIONS, "Z", "ZERR", "ZWARN"), False),
    ],
)
def test_ready_made_desi_pairs_lacking_positions_or_redshifts_get_them_by_id(ready, tree, name, without, hsc_ids):
    data = ready(f"Smith42/desi_hsc_{name}", without, hsc_ids)
    expected = {
        each.object_id: each for each in iter_spectra(survey_reader(settings_of("", tree, tree, tree)), Counter())
    }
    drops = Counter()
    parts = object_parts(data, MatchingConfig(), "pairs", drops)
    galaxies = [galaxy for part in parts for galaxy in part.galaxies(drops)]
    assert not drops
    assert sorted(int(galaxy.spectrum.object_id) for galaxy in galaxies) == list(range(39628, 39633))
    for galaxy in galaxies:
        spectrum = expected[galaxy.spectrum.object_id]
        assert (galaxy.spectrum.ra_deg, galaxy.spectrum.redshift) == pytest.approx((spectrum.ra_deg, spectrum.redshift))
        np.testing.assert_array_equal(galaxy.spectrum.flux, spectrum.flux)
        if hsc_ids:
            assert int(galaxy.cutout.object_id) == int(spectrum.object_id) - 39525
        assert bool(galaxy.spectrum.zwarning) == (bool(spectrum.zwarning) and "ZWARN" not in without)


@pytest.mark.parametrize("name", ["ZWARN", "ZWARN_desi", "desi_ZWARN"])
def test_the_redshift_warning_of_ready_made_pairs_means_the_same_whatever_its_column_is_called(ready, name):
    data = ready("Smith42/two_surveys", renamed=[("ZWARN", name)])
    spectra = {each.object_id: each.zwarning for each in iter_spectra(survey_reader(data), Counter())}
    assert [number for number, warning in spectra.items() if warning] == ["39630"]


@pytest.mark.parametrize(
    ("without", "sentence"),
    [
        (("spectrum",), r"Smith42/desi_hsc_bad \(data.hub.pairs\) holds images without spectra, of which no pairs"),
        (("object_id", "Z"), r"Smith42/desi_hsc_bad \(data.hub.pairs\) has no column object_id, .* for the identity"),
    ],
)
def test_a_set_of_images_alone_or_without_ids_is_refused_by_name(ready, without, sentence):
    with pytest.raises(ValueError, match=sentence):
        pair_index(ready("Smith42/desi_hsc_bad", without), MatchingConfig())

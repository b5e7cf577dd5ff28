"""A list of ids or positions picks objects of any source; rows that match nothing are counted and named."""

import logging
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from astropy import units as u
from astropy.table import Column, MaskedColumn, Table

from mmagn.cli.data import match, measure
from mmagn.matching.config import MatchingConfig
from mmagn.matching.index import NoPairsError, pair_index
from mmagn.matching.objects import object_parts
from mmagn.matching.selection import object_list, selected_spectra
from mmagn.matching.store import pair_store
from mmagn.surveys.config import DataConfig

ARCSEC = 1 / 3600


def row(number: int, **changes) -> dict:
    return {"object_id": number, "ra": 150.0 + 0.01 * number, "dec": 2.0, **changes}


@pytest.fixture
def tree(v1_tree, tmp_path) -> DataConfig:
    """Five pairs of SDSS 1 to 5 with HSC 11 to 15, and an object of each survey alone: 6 and 17."""
    hsc = [row(number, object_id=10 + number) for number in (1, 2, 3, 4, 5, 7)]
    root = v1_tree(tmp_path / "tree", sdss=[row(number) for number in range(1, 7)], hsc=hsc)
    return DataConfig(source="hdf5", root=str(root), cache_dir=str(tmp_path / "cache"))


def listed(data: DataConfig, tmp_path, name: str = "list.ecsv", **columns) -> DataConfig:
    kind = {".csv": "ascii.csv", ".votable": "votable"}.get((tmp_path / name).suffix)
    Table(columns).write(tmp_path / name, overwrite=True, **({"format": kind} if kind else {}))
    return replace(data, objects=str(tmp_path / name))


def pairs_of(data: DataConfig, **matching) -> list[str]:
    index = pair_index(data, MatchingConfig(**matching))
    return sorted(index.sdss.object_id[index.matches.left_index].tolist())


def test_ids_of_either_survey_pick_pairs(tree, tmp_path):
    assert pairs_of(listed(tree, tmp_path, object_id=["2", "14"])) == ["2", "4"]
    assert pairs_of(listed(tree, tmp_path, object_id=[2, 14])) == ["2", "4"]
    assert pairs_of(listed(tree, tmp_path, sdss_object_id=["1"], hsc_object_id=["13"])) == ["1", "3"]


@pytest.mark.parametrize("name", ["list.parquet", "list.fits", "list.csv", "list.ecsv", "list.votable"])
def test_a_list_may_know_an_object_by_the_id_of_one_survey_alone(tree, tmp_path, name):
    ids = {
        "sdss_object_id": MaskedColumn([2, 0], mask=[False, True]),
        "hsc_object_id": MaskedColumn([0, 14], mask=[True, False]),
    }
    assert pairs_of(listed(tree, tmp_path, name, **ids)) == ["2", "4"]


def test_positions_pick_what_lies_within_the_radius(tree, tmp_path):
    data = listed(tree, tmp_path, ra=[150.02, 150.03], dec=[2.0 + 0.9 * ARCSEC, 2.0 + 1.1 * ARCSEC])
    assert pairs_of(data) == ["2"]
    assert pairs_of(data, radius_arcsec=1.2) == ["2", "3"]


@pytest.mark.parametrize("unit", ["deg", "hourangle", "arcsec"])
def test_positions_have_units(tree, tmp_path, unit):
    ra, dec = (Column([(degrees * u.deg).to_value(unit)], unit=unit) for degrees in (150.02, 2.0))
    assert pairs_of(listed(tree, tmp_path, ra=ra, dec=dec)) == ["2"]


@pytest.mark.filterwarnings("ignore::astropy.units.UnitsWarning")
@pytest.mark.parametrize("spelling", ["degree", "degrees", "DEG"])
def test_units_that_no_standard_spells_so_are_degrees(tree, tmp_path, spelling):
    unit = u.Unit(spelling, format="fits", parse_strict="silent")
    ra, dec = (Column([degrees], unit=unit) for degrees in (150.02, 2.0))
    assert pairs_of(listed(tree, tmp_path, "list.fits", ra=ra, dec=dec)) == ["2"]


def test_a_position_that_is_no_number_is_named(tree, tmp_path):
    data = listed(tree, tmp_path, "list.csv", ra=["150.02", "10:00:07.2"], dec=[2.0, 2.0])
    with pytest.raises(ValueError, match=r"list\.csv row 2, column ra has 10:00:07\.2; allowed: numbers in deg"):
        object_list(data)


def test_rows_that_match_nothing_are_counted_and_named(tree, tmp_path, caplog):
    ids = ["2", "", *map(str, range(100, 112))]
    nan = np.full(12, np.nan)
    data = listed(tree, tmp_path, object_id=ids, ra=[np.nan, 10.5, *nan], dec=[np.nan, -3.25, *nan])
    drops = Counter()
    with caplog.at_level(logging.WARNING):
        index = pair_index(data, MatchingConfig())
        assert len(list(selected_spectra(data, MatchingConfig(), drops))) == 1
    assert index.report.drops["list.ecsv: row matches nothing"] == 13
    assert drops["list.ecsv: row matches nothing"] == 13
    named = "10.50000 -3.25000, 100, 101, 102, 103, 104, 105, 106, 107, 108 and 3 more"
    assert f"13 of 14 rows match nothing: {named}" in caplog.text


def test_the_match_itself_does_not_depend_on_the_list(v1_tree, tmp_path):
    """Two spectra compete for one image: the farther one does not get it because it alone is listed."""
    sdss = [row(1), row(2, ra=150.01 + 0.4 * ARCSEC)]
    root = v1_tree(tmp_path / "tree", sdss=sdss, hsc=[row(11, ra=150.01)])
    data = listed(DataConfig(source="hdf5", root=str(root)), tmp_path, object_id=["2"])
    with pytest.raises(NoPairsError):
        pair_index(data, MatchingConfig())


def test_single_views_are_picked_for_prediction(tree, tmp_path):
    def views(**columns):
        parts = object_parts(listed(tree, tmp_path, **columns), MatchingConfig(), "all", Counter())
        return [
            (galaxy.spectrum and galaxy.spectrum.object_id, galaxy.cutout and galaxy.cutout.object_id)
            for part in parts
            for galaxy in part.galaxies(Counter())
        ]

    assert views(object_id=["6"]) == [("6", None)]
    assert views(object_id=["17", "1"]) == [("1", "11"), (None, "17")]


def test_a_store_made_of_a_list_is_not_taken_for_another(tree, tmp_path):
    few = listed(tree, tmp_path, object_id=["2", "4"])
    out = tmp_path / "store"
    assert len(pair_store(few, MatchingConfig(), out)) == 2
    with pytest.raises(ValueError, match=r"made with data\.objects \"\w+\", and null is requested"):
        pair_store(tree, MatchingConfig(), out)
    with pytest.raises(ValueError, match=r"made with data\.objects"):
        pair_store(listed(tree, tmp_path, "other.ecsv", object_id=["2"]), MatchingConfig(), out)


def test_a_store_gives_the_listed_pairs(tree, tmp_path, caplog):
    pair_store(tree, MatchingConfig(), tmp_path / "store")
    stored = DataConfig(source="store", root=str(tmp_path / "store"))
    data = listed(stored, tmp_path, object_id=["13", "999"], ra=[np.nan, 150.05], dec=[np.nan, 2.0])
    store = pair_store(data, MatchingConfig())
    assert sorted(store.index["sdss_object_id"].tolist()) == ["3", "5"]
    with pytest.raises(NoPairsError, match=r"5 x not in the list of objects"):
        pair_store(listed(stored, tmp_path, object_id=["999"]), MatchingConfig())


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"title": ["a"]}, r"lists no objects: columns title, 1 rows; allowed: object_id, sdss_object_id"),
        ({"ra": [1.0]}, r"lists no objects: columns ra"),
        ({"object_id": [1.5]}, r"its column object_id is of type .*; allowed: integer or text"),
    ],
)
def test_a_list_of_nothing_is_refused(tree, tmp_path, columns, sentence):
    with pytest.raises(ValueError, match=sentence):
        object_list(listed(tree, tmp_path, **columns))


def test_commands_take_a_list(tree, tmp_path, capsys):
    listed(tree, tmp_path, "list.csv", object_id=["2", "4", "50"])
    source = ["--data.source", "hdf5", "--data.root", tree.root, "--objects", str(tmp_path / "list.csv")]
    assert match([*source, "--out", str(tmp_path / "store")]) == 0
    text = capsys.readouterr().out
    assert "pairs stored: 2" in text
    assert "dropped: 1 x list.csv: row matches nothing" in text
    assert match([*source, "--plan", "--out", str(tmp_path / "plan")]) == 0
    assert measure([*source, "--out", str(tmp_path / "lines.ecsv")]) == 0
    assert sorted(Table.read(tmp_path / "lines.ecsv")["object_id"].astype(str).tolist()) == ["2", "4"]
    assert match(["--objects", "nowhere.csv", "--out", str(tmp_path / "other")]) == 2
    assert "--objects nowhere.csv is missing" in capsys.readouterr().err

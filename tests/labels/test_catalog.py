"""Labels from outside: joined by id and by place, three states, and coverage; checked on tables that others made."""

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.table import Column, MaskedColumn, Table

from mmagn.labels.catalog import (
    ABSENT,
    ABSENT_COVERED,
    BOTH,
    DISAGREE,
    NEITHER,
    UNJOINABLE,
    UNMEASURED,
    LabelCatalog,
)
from mmagn.labels.config import CatalogConfig
from mmagn.labels.joins import Objects
from mmagn.surveys.config import DataConfig
from mmagn.surveys.readers import survey_reader

IDS = np.array(["299489677444933632", "1309501900785215488", "36411448540264457", "444874804017784832"])
"""Of SDSS spectra 266-51630-1, 1163-52669-292, no plate, 395-51783-525."""


def objects_of(object_id: np.ndarray = IDS, **columns: np.ndarray) -> Objects:
    count = len(object_id)
    return Objects(
        object_id=object_id,
        hsc_object_id=np.array([str(36411448540000000 + number) for number in range(count)]),
        ra_deg=np.linspace(10, 10.3, count),
        dec_deg=np.zeros(count),
        columns={"redshift": np.linspace(0.1, 0.4, count), **columns},
    )


def labels_of(table: Table, tmp_path: Path, objects: Objects | None = None, suffix: str = "fits", **settings: object):
    file = tmp_path / f"labels.{suffix}"
    formats = {"csv": "ascii.csv", "ecsv": "ascii.ecsv", "vot": "votable", "parquet": "parquet", "fits": "fits"}
    table.write(file, format=formats[suffix], overwrite=True)
    config = CatalogConfig(table=str(file), **({"join": "specobjid", "positive": "agn == 1"} | settings))
    catalog = LabelCatalog.read(config, file, Path(config.moc) if config.moc else None)
    objects = objects or objects_of()
    labels = catalog.labels(objects)
    catalog.check(objects, labels.joined, labels.covered)
    return labels


@pytest.mark.parametrize("suffix", ["fits", "csv", "ecsv", "vot", "parquet"])
@pytest.mark.parametrize("kind", ["number", "text", "bytes"])
def test_the_same_ids_join_from_every_format_and_type(tmp_path: Path, suffix: str, kind: str) -> None:
    ids = IDS[[3, 0]]
    column = {"number": ids.astype(np.int64), "text": np.char.rjust(ids, 22), "bytes": ids.astype("S22")}[kind]
    if suffix in ("csv", "ecsv") and kind == "bytes":
        column = column.astype(str)
    labels = labels_of(Table({"SpecObjID": column, "agn": [1, 0]}), tmp_path, suffix=suffix, negative="rest")
    assert labels.label.tolist() == ["negative", "unknown", "unknown", "positive"]
    assert labels.joined == 2
    np.testing.assert_array_equal(labels.target, [0, np.nan, np.nan, 1])


def test_plate_mjd_and_fiber_are_those_inside_specobjid(tmp_path: Path) -> None:
    numbers = Table({"plate": [395, 1163], "mjd": [51783, 52669], "fiberID": [525, 292], "agn": [1, 1]})
    text = Table({"name": ["spec-0395-51783-0525", "1163-52669-292"], "agn": [1, 1]})
    for table, columns in ((numbers, ()), (text, ("name",))):
        labels = labels_of(table, tmp_path, join="plate-mjd-fiber", columns=columns)
        assert labels.label.tolist() == ["unknown", "positive", "unknown", "positive"]


def test_objects_join_their_nearest_row_within_the_radius(tmp_path: Path) -> None:
    ra_deg = np.array([10.0, 10.0, 10.1 + 3 / 3600]) + 0.2 / 3600
    table = Table({"ra": ra_deg, "dec": [0.0, 0.4 / 3600, 0.0], "agn": [1, 0, 1]})
    labels = labels_of(table, tmp_path, join="position", negative="rest")
    assert labels.label.tolist() == ["positive", "unknown", "unknown", "unknown"]
    assert labels_of(table, tmp_path, join="position", radius_arcsec=4.0).joined == 2


def placed(ra_arcsec: list[float]) -> Objects:
    count = len(ra_arcsec)
    objects = objects_of(np.arange(1, count + 1).astype(str))
    return dataclasses.replace(objects, ra_deg=10 + np.array(ra_arcsec) / 3600, dec_deg=np.zeros(count))


def test_the_join_by_position_does_not_depend_on_the_other_objects(tmp_path: Path) -> None:
    table = Table({"ra": [10.0, 10.0, 10 + 0.9 / 3600], "dec": np.zeros(3), "agn": [1, 1, 0]})
    near, nearer = [0.4], [-0.1]
    settings = {"join": "position", "negative": "rest", "depth": "redshift < 9"}
    together = labels_of(table, tmp_path, placed(near + nearer), **settings)
    alone = [labels_of(table, tmp_path, placed(each), **settings).label[0] for each in (near, nearer)]
    assert together.label.tolist() == alone == ["positive", "positive"]


def test_what_cannot_be_joined_is_not_absent(tmp_path: Path) -> None:
    ids = np.array(["299489677444933632", "39627902966927364", "444874804017784832", "7"])
    objects = objects_of(ids, survey=np.array(["sdss", "desi", "boss", "own"]))
    objects = dataclasses.replace(
        objects,
        hsc_object_id=np.array(["1", "2", "", "4"]),
        ra_deg=np.array([10.0, np.nan, 10.2, 10.3]),
    )
    table = Table({"specobjid": [int(ids[0])], "targetid": [int(ids[0])], "object_id": [1], "agn": [1]})
    table["ra"], table["dec"] = [10.0], [0.0]
    table["name"] = ["266-51630-1"]
    expected = {
        "specobjid": ["", UNJOINABLE, ABSENT_COVERED, UNJOINABLE],
        "plate-mjd-fiber": ["", UNJOINABLE, ABSENT_COVERED, UNJOINABLE],
        "hsc": ["", ABSENT_COVERED, UNJOINABLE, ABSENT_COVERED],
        "position": ["", UNJOINABLE, ABSENT_COVERED, ABSENT_COVERED],
    }
    for join, reasons in expected.items():
        columns = ("name",) if join == "plate-mjd-fiber" else ()
        labels = labels_of(table, tmp_path, objects, join=join, columns=columns, depth="redshift < 9")
        assert labels.reason.tolist() == reasons, join
        names = {"": "positive", UNJOINABLE: "unknown", ABSENT_COVERED: "negative"}
        assert labels.label.tolist() == [names[each] for each in reasons]
    table["targetid"] = [int(ids[1])]
    labels = labels_of(table, tmp_path, objects, join="targetid", depth="redshift < 9")
    assert labels.reason.tolist() == [UNJOINABLE, "", UNJOINABLE, UNJOINABLE]


@pytest.mark.parametrize("unit", ["deg", "hourangle", "h", "arcsec", "rad"])
def test_positions_are_in_the_unit_of_their_column(tmp_path: Path, unit: str) -> None:
    ra = u.Quantity([10.0], "deg").to_value("hourangle" if unit == "h" else unit)
    table = Table({"ra": Column(ra, unit=unit), "dec": [0.0], "agn": [1]})
    labels = labels_of(table, tmp_path, join="position", suffix="ecsv")
    assert labels.label.tolist() == ["positive", "unknown", "unknown", "unknown"]


def test_each_row_is_positive_negative_or_unknown_for_a_reason(tmp_path: Path) -> None:
    ids = np.arange(1, 7).astype(str)
    table = Table({"specobjid": np.repeat(np.arange(1, 7), [1, 1, 1, 1, 2, 2])})
    table["agn"] = MaskedColumn([1, 2, 3, 0, 1, 2, 1, 1], mask=[False] * 3 + [True] + [False] * 4)
    table["both"] = [0, 0, 0, 0, 0, 0, 0, 0]
    labels = labels_of(table, tmp_path, objects_of(ids), negative="agn == 2")
    assert labels.label.tolist() == ["positive", "negative", "unknown", "unknown", "unknown", "positive"]
    assert labels.reason.tolist() == ["", "", NEITHER, UNMEASURED, DISAGREE, ""]
    both = labels_of(table, tmp_path, objects_of(ids), negative="agn <= 1")
    assert both.reason.tolist()[0] == BOTH
    assert labels.counts() == {"positive": 2, "negative": 1, "unknown": 3}
    assert sum(labels.reasons().values()) == 3


def test_absent_is_unknown_unless_the_catalogue_covers_the_place(tmp_path: Path) -> None:
    table = Table({"specobjid": IDS[:1].astype(np.int64), "agn": [1]})
    assert labels_of(table, tmp_path).reason.tolist() == ["", ABSENT, ABSENT, ABSENT]
    shallow = labels_of(table, tmp_path, depth="redshift < 0.25")
    assert shallow.label.tolist() == ["positive", "negative", "unknown", "unknown"]
    assert shallow.reason.tolist() == ["", ABSENT_COVERED, ABSENT, ABSENT]
    moc = tmp_path / "region.json"
    mocpy = pytest.importorskip("mocpy")
    circle = mocpy.MOC.from_cone(10.2 * u.deg, 0 * u.deg, radius=0.15 * u.deg, max_depth=12)
    circle.save(str(moc), format="json")
    inside = labels_of(table, tmp_path, moc=str(moc))
    assert inside.label.tolist() == ["positive", "negative", "negative", "negative"]
    both = labels_of(table, tmp_path, moc=str(moc), depth="redshift < 0.35")
    assert both.label.tolist() == ["positive", "negative", "negative", "unknown"]


@pytest.mark.parametrize(
    ("columns", "settings", "sentence"),
    [
        ({"id": [1], "agn": [1]}, {}, r"labels\.fits: labels\.catalog\.columns: there is no single column specobjid"),
        ({"specobjid": [1], "agm": [1]}, {}, r"labels\.catalog\.positive: there is no single column agn; .* agm"),
        ({"specobjid": [1], "agn": ["x"]}, {}, r"compares agn with 1, a text and a number"),
        ({"specobjid": [299489677444933632.0], "agn": [1]}, {}, r"floating-point numbers, whose last digits are lost"),
        ({"specobjid": [1], "agn": [1]}, {}, r"none of 1 rows belongs to one of 4 objects .*join specobjid.*299489677"),
        (
            {"ra": ["a"], "dec": ["b"], "agn": [1]},
            {"join": "position"},
            r"row 1, column ra has a; allowed: numbers in deg",
        ),
        ({"ra": Column([1.0], unit="m"), "dec": [1.0], "agn": [1]}, {"join": "position"}, r"ra has the unit m;"),
        ({"specobjid": [1], "agn": [1]}, {"depth": "magnitude < 1"}, r"labels\.catalog\.depth: there is no single"),
        ({"plate": [266], "agn": [1]}, {"join": "plate-mjd-fiber", "columns": ("plate",)}, r"none of 1 rows"),
        ({"a": [1], "b": [2], "agn": [1]}, {"columns": ("a", "b")}, r"names 2 columns; allowed for specobjid: one"),
    ],
)
def test_a_table_that_cannot_label_is_refused_in_one_sentence(
    tmp_path: Path, columns: dict, settings: dict, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        labels_of(Table(columns), tmp_path, **settings)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("none.fits", None, "there is no such file"),
        ("labels.txt", b"a b", "has no suffix of a table"),
        ("labels.fits", b"no fits", "cannot be read as a table"),
        ("labels.parquet", b"PAR1", "cannot be read as a table"),
        ("labels.vot", b"<VOTABLE>", "cannot be read as a table"),
    ],
)
def test_a_file_that_is_no_table_is_named(tmp_path: Path, name: str, content: bytes | None, sentence: str) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=sentence) as raised:
        LabelCatalog.read(CatalogConfig(table=str(file), join="hsc", positive="listed"), file)
    assert str(file) in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"preset": "stern2012"}, r"labels\.catalog\.preset is set but labels\.catalog\.table is empty"),
        ({"table": "t.csv"}, r"labels\.catalog\.join is not given"),
        ({"table": "t.csv", "join": "hsc"}, r"labels\.catalog\.positive is not given"),
        ({"table": "t.csv", "join": "hsc", "positive": "exec('1')"}, r"labels\.catalog\.positive: .* is no rule"),
        ({"table": "t.csv", "preset": "no"}, r"labels\.catalog\.preset is no; allowed"),
        ({"table": "t.csv", "preset": "mpa-jhu", "radius_arcsec": 2.0}, r"the preset mpa-jhu joins by specobjid"),
        ({"table": "t.csv", "join": "hsc", "positive": "listed", "negative": "rest"}, r"no row is left to be negative"),
        ({"table": "t.csv", "preset": "type2-quasars-yuan2016", "negative": "z > 1"}, r"no row is left to be negative"),
    ],
)
def test_settings_that_make_no_label_are_refused(settings: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        CatalogConfig(**settings)


def real_objects(real_tree: Path) -> Objects:
    catalog = survey_reader(DataConfig(source="hdf5", root=str(real_tree))).read_sdss_catalog(Counter())
    none = np.full(len(catalog), "")
    return Objects(
        object_id=np.asarray(catalog.object_id, dtype=np.str_),
        hsc_object_id=none,
        ra_deg=catalog.ra_deg,
        dec_deg=catalog.dec_deg,
        columns={},
    )


def real_labels(real_tree: Path, name: str, objects: Objects, **settings: object):
    file = real_tree / "labels" / name
    catalog = LabelCatalog.read(CatalogConfig(table=str(file), **settings), file)
    return catalog, catalog.labels(objects)


def test_a_real_type_2_quasar_is_found_by_its_ids_and_by_its_place(real_tree: Path) -> None:
    objects = real_objects(real_tree)
    _, by_id = real_labels(real_tree, "Reyes2008.fits", objects, preset="type2-quasars-reyes2008")
    position = {"join": "position", "columns": ("RAJ2000", "DEJ2000")}
    _, by_place = real_labels(real_tree, "Reyes2008.fits", objects, preset="type2-quasars-reyes2008", **position)
    assert by_id.counts() == by_place.counts() == {"positive": 1, "negative": 0, "unknown": len(objects.ra_deg) - 1}
    np.testing.assert_array_equal(by_id.label, by_place.label)
    (found,) = np.flatnonzero(by_id.label == "positive")
    assert int(objects.object_id[found]) >> 50 == 1163


def test_a_catalogue_of_other_objects_names_the_form_of_its_ids(real_tree: Path) -> None:
    objects = real_objects(real_tree)
    catalog, labels = real_labels(real_tree, "Yuan2016.fits", objects, preset="type2-quasars-yuan2016")
    with pytest.raises(ValueError, match=r"Yuan2016\.fits: none of 2920 rows .* plate 3586, mjd 55181, fiber 959"):
        catalog.check(objects, labels.joined, labels.covered)


def test_wise_colours_of_real_quasars_are_mostly_those_of_agn(real_tree: Path) -> None:
    table = Table.read(real_tree / "labels" / "desi_wise.csv", format="ascii.csv", converters={"id": str})
    objects = Objects(
        object_id=np.asarray(table["id"], dtype=np.str_),
        hsc_object_id=np.asarray(table["id"], dtype=np.str_),
        ra_deg=np.asarray(table["ra"]),
        dec_deg=np.asarray(table["dec"]),
        columns={},
    )
    _, stern = real_labels(real_tree, "desi_wise.csv", objects, preset="stern2012")
    _, assef = real_labels(
        real_tree, "desi_wise.csv", objects, preset="assef2018-r90", join="targetid", columns=("id",)
    )
    colour, w2 = np.asarray(table["w1"] - table["w2"]).round(3), np.asarray(table["w2"])
    assert (colour == 0.8).sum() == 5, "decimal numbers whose binary difference may lie on the other side"
    joined = stern.reason != ABSENT
    assert joined.mean() > 0.99
    np.testing.assert_array_equal(stern.label[joined] == "positive", ((colour >= 0.8) & (w2 < 15.05))[joined])
    bright = stern.label != "unknown"
    assert (stern.label[bright] == "positive").mean() > 0.8
    assert (assef.label == "positive").mean() > 0.5
    assert not ((stern.label == "positive") & (assef.label == "negative")).any()


def test_a_sentinel_is_no_colour(real_tree: Path) -> None:
    table = Table.read(real_tree / "labels" / "Yuan2016.fits")
    rows = table["plate", "mjd", "fiber"]
    ids = np.array([f"{(int(p) << 50) | (int(f) << 38) | ((int(m) - 50000) << 24)}" for p, m, f in rows])
    objects = objects_of(ids)
    settings = {"join": "plate-mjd-fiber", "columns": ("plate", "mjd", "fiber")}
    _, labels = real_labels(real_tree, "Yuan2016.fits", objects, preset="assef2018-c75", **settings)
    missing = np.asarray(table["w1"]) == -999
    assert missing.sum() == 86
    assert (labels.label[missing] == "unknown").all()
    assert (labels.reason[missing] == UNMEASURED).all()
    faint = np.asarray(table["w2"]) >= 17.11
    assert set(labels.label[~missing & ~faint]) == {"positive", "negative"}
    assert set(labels.reason[~missing & faint]) == {"quality cut: W2 < 17.11"}

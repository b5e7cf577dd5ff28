"""The label that a catalogue gives to each galaxy stands beside its prediction and enters none."""

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

import mmagn
from mmagn.cli.main import main
from mmagn.config.run_config import RunConfig, save_config
from mmagn.labels.config import CatalogConfig
from mmagn.matching.objects import GivenPart, object_parts
from mmagn.prediction.hats_catalog import PartitionPredictions
from mmagn.prediction.predict import PredictionOptions, predict
from mmagn.runs.outside_labels import LABEL_COLUMN, REASON_COLUMN

ALL = PredictionOptions(objects="all", progress=False)


def with_catalog(config: RunConfig, **settings: object) -> RunConfig:
    return replace(config, labels=replace(config.labels, catalog=CatalogConfig(**settings)))


@pytest.fixture(scope="module")
def wise(world: dict, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Predictions without a catalogue, and a WISE table that has every second galaxy, red where its number is odd."""
    folder = tmp_path_factory.mktemp("wise")
    predict(world["config"], [world["run"]], folder / "plain.parquet", ALL)
    plain = Table.read(folder / "plain.parquet")
    number = np.arange(len(plain))
    listed = number % 4 < 2
    table = Table({"RAJ2000": plain["ra_deg"], "DEJ2000": plain["dec_deg"], "W1mag": np.full(len(plain), 14.0)})
    table["W2mag"] = np.where(number % 2, 13.0, 13.9)
    table[listed].write(folder / "wise.fits")
    label = np.select([listed & (number % 2 == 1), listed], ["positive", "negative"], "unknown")
    return {"plain": plain, "file": folder / "wise.fits", "label": label}


@pytest.mark.parametrize("suffix", ["parquet", "fits", "csv", "ecsv", "votable"])
def test_every_format_has_the_label_of_the_catalogue_of_the_training(
    world: dict, wise: dict, tmp_path: Path, suffix: str
) -> None:
    config = with_catalog(world["config"], table=str(wise["file"]), preset="stern2012")
    out = tmp_path / f"scores.{suffix}"
    summary = predict(config, [world["run"]], out, ALL)
    table = Table.read(out, **({"format": "ascii.csv"} if suffix == "csv" else {}))
    assert np.asarray(table[LABEL_COLUMN]).astype(str).tolist() == wise["label"].tolist()
    assert LABEL_COLUMN not in wise["plain"].colnames
    probability = np.asarray(table["calibrated_probability"], dtype=float)
    np.testing.assert_allclose(probability, wise["plain"]["calibrated_probability"], atol=1e-6)
    counts = {name: int((wise["label"] == name).sum()) for name in ("positive", "negative", "unknown")}
    assert summary.labels == counts
    assert f"positive {counts['positive']}" in summary.text()
    reasons = np.asarray(table[REASON_COLUMN].filled("") if table.masked else table[REASON_COLUMN]).astype(str)
    np.testing.assert_array_equal(np.char.strip(reasons) == "not in the catalogue", wise["label"] == "unknown")
    assert f"label: {counts['unknown']} x not in the catalogue" in summary.text()


def test_a_catalogue_is_named_on_the_command_line_and_covers_a_depth(
    world: dict, wise: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"table": str(wise["file"]), "preset": "stern2012", "depth": "i_magnitude < 19"}
    words = [word for key, value in options.items() for word in (f"--labels.catalog.{key}", value)]
    out = tmp_path / "scores.parquet"
    assert main(["predict", "--run", str(world["run"]), "--objects", "all", "--out", str(out), *words]) == 0
    label = np.asarray(Table.read(out)[LABEL_COLUMN])
    known = wise["label"] != "unknown"
    np.testing.assert_array_equal(label[known], wise["label"][known])
    assert {*label[~known]} == {"negative", "unknown"}
    alone = np.asarray(wise["plain"]["modalities"]) == "spectrum"
    assert {*label[~known & alone]} == {"unknown"}, "without an image the depth is not known"
    assert "labels of the catalogue: " in capsys.readouterr().out


def test_a_catalogue_that_is_gone_costs_the_column_alone_unless_it_was_asked_for(
    world: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    missing = str(tmp_path / "gone.fits")
    trained = with_catalog(world["config"], table=missing, preset="stern2012")
    run = tmp_path / "run"
    run.mkdir()
    for path in world["run"].iterdir():
        (run / path.name).write_bytes(path.read_bytes())
    save_config(trained, run / "config.yaml")
    predict(trained, [run], tmp_path / "scores.parquet", ALL)
    assert LABEL_COLUMN not in Table.read(tmp_path / "scores.parquet").colnames
    assert f"predictions have no column {LABEL_COLUMN}: {missing}: there is no such file" in caplog.text
    other = with_catalog(world["config"], table=str(tmp_path / "typo.fits"), preset="stern2012")
    with pytest.raises(ValueError, match=r"typo\.fits: there is no such file"):
        predict(other, [run], tmp_path / "other.parquet", ALL)
    assert not (tmp_path / "other.parquet").exists()


def test_python_gives_the_columns_of_the_command(world: dict, wise: dict, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(world["run"], run)
    config = with_catalog(world["config"], table=str(wise["file"]), preset="stern2012")
    save_config(config, run / "config.yaml")
    predict(config, [run], tmp_path / "scores.parquet", replace(ALL, objects="pairs"))
    written = Table.read(tmp_path / "scores.parquet")
    table = mmagn.load(run).predict(world["config"])
    assert table.colnames == written.colnames
    for name in (LABEL_COLUMN, REASON_COLUMN):
        assert table[name].tolist() == np.asarray(written[name]).astype(str).tolist()
        assert table[name].description
    assert {*table[LABEL_COLUMN].tolist()} == {"positive", "negative", "unknown"}
    known = table[LABEL_COLUMN] != "unknown"
    assert {*table[REASON_COLUMN][~known].tolist()} == {"not in the catalogue"}


def test_python_takes_another_catalogue_by_the_settings_of_the_command(
    world: dict, wise: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labels = {"table": wise["file"], "preset": "stern2012"}
    table = mmagn.load(world["run"], labels=labels).predict(world["config"])
    assert {*table[LABEL_COLUMN].tolist()} == {"positive", "negative", "unknown"}
    elsewhere = Table({"ra": [1.0], "dec": [80.0], "w1": [14.0], "w2": [13.0]})
    elsewhere.write(tmp_path / "else.csv", format="ascii.csv")
    table = mmagn.load(world["run"], labels=labels | {"table": tmp_path / "else.csv"}).predict(world["config"])
    assert {*table[LABEL_COLUMN].tolist()} == {"unknown"}
    assert f"not one of {len(table)} galaxies has a row in {tmp_path / 'else.csv'}" in caplog.text
    with pytest.raises(ValueError, match=r"labels\.catalog\.presett"):
        mmagn.load(world["run"], labels={"presett": "stern2012"})


def test_another_catalogue_has_no_rules_of_the_training_or_says_so(
    world: dict, wise: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, labels = tmp_path / "run", {"table": str(wise["file"]), "preset": "stern2012"}
    shutil.copytree(world["run"], run)
    every = {"join": "position", "columns": ("RAJ2000", "DEJ2000"), "positive": "W1mag > 0"}
    save_config(with_catalog(world["config"], table=str(wise["file"]), **every), run / "config.yaml")
    galaxies = world["config"]
    assert {*mmagn.load(run).predict(galaxies)[LABEL_COLUMN].tolist()} == {"positive", "unknown"}
    table = mmagn.load(run, labels=labels).predict(galaxies)
    assert {*table[LABEL_COLUMN].tolist()} == {"positive", "negative", "unknown"}
    assert "of the training stands above" not in caplog.text
    words = ["--run", str(run), "--out", str(tmp_path / "scores.parquet"), "--labels.catalog.preset", "stern2012"]
    assert main(["predict", *words]) == 0
    assert "labels.catalog.positive W1mag > 0 of the training stands above the preset stern2012" in caplog.text
    save_config(replace(world["config"], labels=replace(world["config"].labels, soft=True)), run / "config.yaml")
    assert LABEL_COLUMN in mmagn.load(run, labels=labels).predict(galaxies).colnames


def test_what_is_no_run_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="gone is not a run folder: there is no such folder"):
        mmagn.load(tmp_path / "gone")


def test_partitions_of_a_hats_catalogue_have_the_label_too(world: dict, wise: dict) -> None:
    catalog = CatalogConfig(table=str(wise["file"]), preset="stern2012")
    task = PartitionPredictions(
        runs=(str(world["run"]),), variant="fused", training=world["config"].training, parts="", labels=catalog
    )
    parts = object_parts(world["config"].data, world["config"].matching, "all", Counter(), 16)
    frame = task.frame(parts)
    label_of = dict(zip(frame["sdss_object_id"] + frame["hsc_object_id"], frame[LABEL_COLUMN], strict=True))
    ids = [row["sdss_object_id"] + row["hsc_object_id"] for row in wise["plain"]]
    assert [label_of[name] for name in ids] == wise["label"].tolist()
    assert LABEL_COLUMN in task.frame([GivenPart(members=())]).columns
    assert LABEL_COLUMN not in replace(task, labels=None).frame([]).columns

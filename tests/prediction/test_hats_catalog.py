"""Predictions written as a HATS catalogue by Dask are those of the table that one process writes."""

import os
import pickle
import weakref
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.table import Table

import mmagn
from mmagn.cli.prediction import predict
from mmagn.config.run_config import save_config
from mmagn.matching.objects import GivenPart, object_parts
from mmagn.prediction.decode import Decoder
from mmagn.prediction.hats_catalog import PartitionPredictions
from mmagn.surveys.config import DaskConfig
from mmagn.surveys.simulate.survey import embedded_root
from mmagn.training.config import TrainingConfig

CPU = TrainingConfig(device="cpu")

# nested_pandas 0.7 still says inplace= to pandas 3.1
pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")


def test_the_hats_catalogue_of_predictions_is_the_table_of_one_process(
    world, hats_collections, tmp_path: Path, capsys, monkeypatch
):
    import lsdb

    root = embedded_root(world["config"].data)
    data = replace(hats_collections(root, tmp_path / "hats", partition_rows=12), cache_dir=str(tmp_path / "cache"))
    config = replace(world["config"], data=data, dask=DaskConfig(workers=0))
    save_config(config, tmp_path / "config.yaml")
    command = ["--run", str(world["run"]), "--config", str(tmp_path / "config.yaml")]
    assert predict([*command, "--objects", "all", "--out", str(tmp_path / "all.parquet")]) == 0, capsys.readouterr()
    assert predict([*command, "--out", f"hats:{tmp_path / 'scores'}"]) == 0, capsys.readouterr()
    expected = Table.read(tmp_path / "all.parquet")
    expected = expected[expected["sdss_object_id"] != ""]
    expected.sort("sdss_object_id")
    text = capsys.readouterr().out
    assert f"{tmp_path / 'scores'}: {len(expected)} galaxies; could not be read: 0" in text
    catalog = lsdb.open_catalog(tmp_path / "scores")
    assert len(catalog.get_healpix_pixels()) > 1
    written = catalog.compute().sort_values("sdss_object_id")
    assert written["sdss_object_id"].tolist() == expected["sdss_object_id"].tolist()
    assert written["modalities"].tolist() == expected["modalities"].tolist()
    np.testing.assert_allclose(written["calibrated_probability"], expected["calibrated_probability"], rtol=1e-4)
    np.testing.assert_allclose(written["ra"], expected["ra_deg"])
    properties = (tmp_path / "scores" / "scores" / "hats.properties").read_text()
    assert f"mmagn={mmagn.__version__}" in properties and world["run"].name in properties and "thresh" in properties
    near = catalog.cone_search(float(expected["ra_deg"][0]), float(expected["dec_deg"][0]), 1.0).compute()
    assert near["sdss_object_id"].tolist() == [expected["sdss_object_id"][0]]
    assert predict([*command, "--out", f"hats:{tmp_path / 'scores'}"]) == 2
    assert "is not empty; a HATS catalogue needs a folder of its own" in capsys.readouterr().err
    call = PartitionPredictions.__call__

    def in_another_folder(task, frame, pixel):
        os.chdir(tmp_path / "hats")
        return call(task, frame, pixel)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(PartitionPredictions, "__call__", in_another_folder)
    assert predict([*command, "--out", "hats:again"]) == 0, capsys.readouterr()
    assert (
        lsdb.open_catalog(tmp_path / "again").compute()["sdss_object_id"].tolist()
        == catalog.compute()["sdss_object_id"].tolist()
    )

    def failing(task, frame, pixel):
        raise OSError("no space left")

    monkeypatch.setattr(PartitionPredictions, "__call__", failing)
    assert predict([*command, "--out", f"hats:{tmp_path / 'other'}"]) == 2
    assert "no space left" in capsys.readouterr().err
    assert not [path for path in tmp_path.iterdir() if "other" in path.name], "a catalogue appears whole or not at all"


def test_the_task_of_a_worker_is_sent_between_processes(world, tmp_path: Path):
    task = PartitionPredictions(runs=(str(world["run"]),), variant="fused", training=CPU, parts=str(tmp_path))
    (tmp_path / "parts-4-1.pickle").write_bytes(pickle.dumps([]))
    sent = pickle.loads(pickle.dumps(task))
    nothing = sent(None, SimpleNamespace(order=4, pixel=1))
    assert len(nothing) == 0
    assert {"ra", "dec", "calibrated_probability"} <= {*nothing.columns}
    with pytest.raises(ValueError, match=r"training\.device is cuda, but torch finds no CUDA device"):
        replace(task, training=TrainingConfig(device="cuda")).frame([])


def test_a_worker_holds_the_pixels_of_one_part_at_a_time(world, monkeypatch):
    alive: list[weakref.ref] = []
    decoded, most = Decoder.decoded, []

    def counted(decoder, part):
        result = decoded(decoder, part)
        most.append(sum(reference() is not None for reference in alive))
        alive.append(weakref.ref(result))
        return result

    monkeypatch.setattr(Decoder, "decoded", counted)
    task = PartitionPredictions(runs=(str(world["run"]),), variant="fused", training=CPU, parts="")
    parts = object_parts(world["config"].data, world["config"].matching, "pairs", Counter(), 8)
    assert len(task.frame(parts)) == sum(map(len, parts))
    assert len(parts) >= 5
    assert max(most) <= 1  # that of the part before, until the next one takes its name


def test_galaxies_that_a_worker_cannot_read_are_logged_by_reason(world, caplog):
    class Damaged(GivenPart):
        def galaxies(self, drops):
            drops["sdss: flux is not finite"] += 1
            return iter(())

    task = PartitionPredictions(runs=(str(world["run"]),), variant="fused", training=CPU, parts="")
    with caplog.at_level("WARNING", logger="mmagn"):
        assert len(task.frame([Damaged(members=()), Damaged(members=())])) == 0
    assert "dropped: 2 x sdss: flux is not finite" in caplog.text


def test_what_cannot_be_written_so_is_refused(world, capsys, tmp_path: Path):
    command = ["--run", str(world["run"]), "--out", f"hats:{tmp_path / 'scores'}"]
    assert predict(command) == 2
    assert "a HATS catalogue is made of data.source hats, not embedded" in capsys.readouterr().err
    assert predict([*command, "--data.source", "hats", "--data.spectra", "sdss,desi"]) == 2
    assert "a HATS catalogue has one survey of spectra; data.spectra has sdss, desi" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("objects", "pairs"), ("objects", "images"), ("objects", "spectra"), ("workers", "2"), ("prevalence", "0.1")),
        *(("spectrum", "spec-0295-51585-0596.fits"), ("image", "cutout.fits")),
    ],
)
def test_options_without_effect_on_a_hats_catalogue_are_refused(world, capsys, tmp_path: Path, name: str, value: str):
    command = ["--run", str(world["run"]), "--out", f"hats:{tmp_path / 'scores'}"]
    assert predict([*command, f"--{name}", value]) == 2
    assert f"--{name} is not for --out hats:FOLDER" in capsys.readouterr().err

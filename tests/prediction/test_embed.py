"""Embeddings that are written are what the head of the network sees of each pair, whatever the source."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmagn.cli.main import main
from mmagn.prediction.embed import write_embeddings
from mmagn.prediction.networks import Ensemble
from mmagn.storage.vectors import read_vectors


def test_vectors_of_a_store_are_those_of_the_survey_and_of_the_head(world: dict, tmp_path: Path, capsys) -> None:
    store, run = world["sample"].store, str(world["run"])
    assert main(["embed", "--run", run, "--out", str(tmp_path / "survey.parquet")]) == 0, capsys.readouterr().err
    stored = ["--data.source", "store", "--data.root", str(store.path)]
    assert main(["embed", "--run", run, *stored, "--out", str(tmp_path / "store.parquet")]) == 0
    assert f"store.parquet: {len(store)} vectors" in capsys.readouterr().out
    (ids, survey), (same, ours) = (read_vectors(tmp_path / f"{name}.parquet") for name in ("survey", "store"))
    assert sorted(ids) == sorted(same) == sorted(store.index["sdss_object_id"])
    np.testing.assert_allclose(survey[[ids.index(each) for each in same]], ours, atol=1e-5)
    import mmagn

    ids_of = dict(zip(same, ours, strict=True))
    np.testing.assert_allclose(
        mmagn.load(world["run"]).embed(store.pair(3)), [ids_of[str(store.index["sdss_object_id"][3])]], atol=1e-5
    )


def test_the_device_of_the_settings_is_that_of_the_network(world: dict, tmp_path: Path, monkeypatch) -> None:
    devices = []
    outputs = Ensemble.outputs
    monkeypatch.setattr("mmagn.training.device.torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(
        Ensemble,
        "outputs",
        lambda self, *given: devices.append(self.device) or outputs(replace(self, device="cpu"), *given),
    )
    for device in ("cuda", "cpu"):
        config = replace(world["config"], training=replace(world["config"].training, device=device))
        write_embeddings(config, world["run"], tmp_path / "vectors.parquet")
    assert devices[0] == "cuda" and devices[-1] == "cpu"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--out", "vectors.csv"], "vectors.csv cannot hold vectors; allowed: a name that ends in .parquet"),
        (
            ["--tensors.image_size", "48"],
            "was trained with other input (first) than these settings: tensors.image_size",
        ),
        (["--run", "hf://no-slash"], "hf://no-slash is no model repository; allowed: hf://ORG/NAME"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_pair_is_read(
    world: dict, tmp_path: Path, capsys, monkeypatch, options: list[str], sentence: str
) -> None:
    monkeypatch.setattr("mmagn.prediction.embed.object_parts", lambda *_: pytest.fail("pairs were read"))
    assert main(["embed", "--run", str(world["run"]), "--out", str(tmp_path / "vectors.parquet"), *options]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "vectors.parquet").exists()


def test_pairs_that_cannot_be_read_are_counted_by_reason(world: dict, tmp_path: Path, capsys, monkeypatch) -> None:
    import mmagn.prediction.embed as module

    def without_first(*arguments):
        parts = real(*arguments)
        arguments[3]["sdss: flux is not finite"] += 1
        return parts

    real = module.object_parts
    monkeypatch.setattr(module, "object_parts", without_first)
    write_embeddings(world["config"], world["run"], tmp_path / "vectors.parquet")
    assert "dropped: 1 x sdss: flux is not finite\n" in capsys.readouterr().out

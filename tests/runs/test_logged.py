"""Scores and embeddings of a scored run in TensorBoard, read back as its plugins read them."""

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.projector import projector_config_pb2

from mmagn.evaluation.scores import scores
from mmagn.runs.logged import SPRITE_PIXELS, ScoredNetwork, log_scored, sprite
from mmagn.runs.members import load_members
from mmagn.runs.sample import training_target
from mmagn.tensors.residency import PairInputs, batch_source


@pytest.fixture(scope="module")
def logged(world: dict, tmp_path_factory: pytest.TempPathFactory):
    """Folder of events, probabilities and scores."""
    sample, (member,) = world["sample"], load_members([world["run"]])
    config, used = member.config, member.calibrations["image+spectrum"]
    probability = used.calibration.probability(world["logits"])
    inputs = PairInputs(
        store=sample.store,
        rows=sample.rows,
        features=member.scaling.transform(*sample.features(config)),
        target=training_target(config, sample, sample.fold.train),
    )
    cache_dir = Path(config.data.cache_dir)
    tensors = batch_source(inputs, config.tensors, config.models.branches, cache_dir=cache_dir, device="cpu")
    network = ScoredNetwork(model=member.model, device="cpu", tensors=tensors, probability=probability)
    rows = sample.split == "test"
    measured = scores(sample.target[rows], probability[rows], used.threshold, config=config.evaluation)
    folder = tmp_path_factory.mktemp("events")
    log_scored([TensorBoardLogger(folder, name="", version="")], network, sample, "test", measured, 7)
    return folder, probability, measured


def test_test_scores_and_their_pr_curve_are_logged(logged) -> None:
    folder, _, measured = logged
    accumulator = EventAccumulator(str(folder)).Reload()
    for name in ("average_precision", "accuracy", "mcc"):
        (event,) = accumulator.Scalars(f"test/{name}")
        assert event.step == 7 and event.value == pytest.approx(measured[name].value, abs=1e-6)
    assert "test/precision_recall" in accumulator.PluginTagToContent("pr_curves")


def test_the_projector_has_id_class_probability_redshift_and_split_of_each_object(logged, world: dict) -> None:
    folder, probability, _ = logged
    sample = world["sample"]
    config = text_format.Parse(
        (folder / "projector_config.pbtxt").read_text(), projector_config_pb2.ProjectorConfig()
    ).embeddings[0]
    head, *rows = [line.split("\t") for line in (folder / config.metadata_path).read_text().splitlines()]
    assert head == ["id", "class", "P(AGN)", "redshift", "split"]
    assert [row[0] for row in rows] == sample.object_id.tolist()
    assert [row[1] for row in rows] == sample.bpt_class.tolist()
    np.testing.assert_allclose([float(row[2]) for row in rows], probability, atol=6e-4)
    np.testing.assert_allclose([float(row[3]) for row in rows], sample.column("redshift"), atol=6e-5)
    assert {row[4] for row in rows} == set(sample.split.tolist())
    tensors = (folder / config.tensor_path).read_text().splitlines()
    assert len(tensors) == len(rows)


def test_sprites_are_large_enough_to_recognise_a_galaxy(logged, world: dict) -> None:
    folder, *_ = logged
    (picture,) = folder.rglob("sprite.png")
    width, height = struct.unpack(">II", picture.read_bytes()[16:24])
    per_row = int(np.ceil(np.sqrt(len(world["sample"].target))))
    assert (width, height) == (per_row * SPRITE_PIXELS, per_row * SPRITE_PIXELS)
    cutout = world["sample"].store.cutout(0)
    point = np.zeros_like(cutout.flux)
    point[:, 78:80, 78:80] = 1000.0  # the source is at 78.5, where pixels count from 0
    picture = sprite(replace(cutout, flux=point)).astype(int).sum(axis=2)
    bright = picture > np.median(picture)
    rows, columns = (np.flatnonzero(bright.any(axis=axis)) for axis in (1, 0))
    assert rows.tolist() == columns.tolist() == [SPRITE_PIXELS // 2 - 1, SPRITE_PIXELS // 2], "in the middle"
    colours = sprite(world["sample"].store.cutout(0)).astype(int).sum(axis=2)
    middle = slice(SPRITE_PIXELS // 2 - 4, SPRITE_PIXELS // 2 + 4)
    assert colours[middle, middle].mean() > 2 * np.median(colours), "the galaxy is bright on a dark sky"

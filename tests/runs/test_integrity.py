"""A run folder notices damage when a file is first read, has one writer at a time, and is completed, not doubled."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmagn import pipeline
from mmagn.config.run_config import RunConfig, save_config
from mmagn.evaluation.novelty import load_novelty
from mmagn.runs.members import load_members
from mmagn.runs.resume import unfinished_run
from mmagn.storage.run_folder import RunFolder


@pytest.fixture
def sealed(world: dict, tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "run")
    shutil.copytree(world["run"], run.path)
    run.provenance.write_text("{}", encoding="utf-8")
    run.seal()
    return run


def flipped(path: Path, seed: int) -> None:
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("name", ["weights", "scaling", "calibration", "novelty", "importance", "config"])
def test_a_flipped_bit_of_any_file_of_a_network_is_refused_by_name(sealed: RunFolder, name: str) -> None:
    assert load_members([sealed.path])
    flipped(getattr(sealed, name), seed=len(name))
    with pytest.raises(ValueError, match=rf"{getattr(sealed, name).name} is damaged"):
        load_members([sealed.path])
    (sentence,) = pipeline.verify(sealed.path)
    assert getattr(sealed, name).name in sentence


def test_a_sealed_run_is_whole_until_a_file_is_missing(sealed: RunFolder) -> None:
    assert pipeline.verify(sealed.path) == []
    sealed.split.unlink()
    assert pipeline.verify(sealed.path) == [f"{sealed.split} is missing"]


def test_files_that_are_written_again_are_not_compared_with_what_they_were(sealed: RunFolder) -> None:
    sealed.unseal(sealed.calibration)
    sealed.calibration.write_text("{}", encoding="utf-8")
    assert pipeline.verify(sealed.path) == []


@pytest.mark.parametrize("content", ["", "[]", '{"files": 3}', '{"files": {"config.yaml": {"sha": 1}}}', "\x00"])
def test_a_damaged_record_of_the_run_is_one_sentence(sealed: RunFolder, content: str) -> None:
    sealed.provenance.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"run\.json is damaged"):
        load_members([sealed.path])


def test_random_damage_of_a_novelty_file_is_refused_without_a_checksum(world: dict, tmp_path: Path) -> None:
    whole = (world["run"] / "novelty.safetensors").read_bytes()
    rng, path = np.random.default_rng(0), tmp_path / "novelty.safetensors"
    refused = 0
    for _ in range(60):
        content = bytearray(whole[: rng.integers(1, len(whole))] if rng.random() < 0.3 else whole)
        content[rng.integers(len(content))] = rng.integers(256)
        path.write_bytes(bytes(content))
        try:
            load_novelty(path)
        except ValueError as error:
            assert "does not hold training embeddings" in str(error)
            refused += 1
    assert refused > 20


def test_a_second_writer_is_refused_with_one_sentence(sealed: RunFolder) -> None:
    (sealed.path / "best.ckpt").touch()
    with sealed.locked():
        with pytest.raises(ValueError, match="is being written by another process"):
            pipeline.evaluate(sealed.path)
        assert sealed.in_use()
    assert not sealed.in_use()


def test_a_killed_ablation_is_completed_in_its_own_folder(tmp_path: Path) -> None:
    config = RunConfig(name="mine", runs_dir=str(tmp_path))
    run = RunFolder.create(tmp_path, "mine")
    save_config(config, run.config)
    assert unfinished_run(config) == run
    assert unfinished_run(replace(config, seed=1)) is None
    with run.locked():
        assert unfinished_run(config) is None
    run.ablation.write_text(json.dumps({}), encoding="utf-8")
    assert unfinished_run(config) == run, "it was killed before its report"
    run.seal()
    assert unfinished_run(config) is None


def test_an_ablation_without_members_names_the_setting_that_keeps_them(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, "ablation")
    run.ablation.write_text("{}", encoding="utf-8")
    with pytest.raises(FileNotFoundError, match=r"kept no networks: the setting ablation\.members"):
        load_members([run.path])

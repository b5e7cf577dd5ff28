import json
import logging
import re
import subprocess

import numpy as np
import pytest
import torch

from mmagn.storage.checksums import seal_archive
from mmagn.storage.files import whole_file, write_json
from mmagn.storage.provenance import commit
from mmagn.storage.run_folder import RunFolder


def test_a_run_folder_is_named_by_date_and_name_and_never_taken_twice(tmp_path):
    first, second = RunFolder.create(tmp_path / "runs", "fused"), RunFolder.create(tmp_path / "runs", "fused")
    assert first.path != second.path
    assert all(re.fullmatch(r"\d{8}-\d{6}-fused(-2)?", run.path.name) for run in (first, second))


def test_a_run_folder_holds_what_its_readme_says(tmp_path):
    run = RunFolder.create(tmp_path, "x")
    things = (run.config, run.split, run.scaling, run.best, run.last, run.scores, run.predictions, run.log)
    assert [thing.relative_to(run.path).name for thing in things] == [
        "config.yaml",
        "split.parquet",
        "scaling.json",
        "best.ckpt",
        "last.ckpt",
        "scores.json",
        "predictions.parquet",
        "run.log",
    ]
    assert run.figures.is_dir()


def test_where_a_run_comes_from_is_written_down(tmp_path):
    record = json.loads(RunFolder.create(tmp_path, "x").provenance.read_text())
    assert {"commit", "uncommitted_changes", "command", "started", "python", "versions", "machine"} <= set(record)
    assert record["versions"]["torch"][0].isdigit()


def test_opening_anything_but_a_run_folder_says_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is not a run folder: there is no such folder"):
        RunFolder.open(tmp_path / "nowhere")
    run = RunFolder.create(tmp_path, "x")
    run.config.write_text("name: x")
    with pytest.raises(FileNotFoundError, match=r"lacks best\.ckpt, scaling\.json"):
        RunFolder.open(run.path, needs=("config.yaml", "best.ckpt", "scaling.json"))
    assert RunFolder.open(run.path) == run


def test_the_commit_and_its_uncommitted_changes_are_known_inside_git_only(tmp_path):
    assert commit(tmp_path) == {"commit": "unknown", "uncommitted_changes": None}
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for arguments in (["init", "-q"], [*identity, "commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True)
    clean = commit(tmp_path)
    assert re.fullmatch(r"[0-9a-f]{40}", clean["commit"])
    assert clean["uncommitted_changes"] is False
    (tmp_path / "new").touch()
    assert commit(tmp_path)["uncommitted_changes"] is True
    (tmp_path / "sub").mkdir()
    assert commit(tmp_path / "sub")["commit"] == "unknown"


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "scores.json"
    write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), whole_file(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_strict_whatever_numpy_hands_in(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": np.float32(0.5), "b": np.array([1.0, np.nan]), "c": (np.int64(3), float("inf")), "d": path})
    assert json.loads(path.read_text()) == {"a": 0.5, "b": [1.0, None], "c": [3, None], "d": str(path)}


def test_what_the_package_logs_lands_in_the_run(tmp_path):
    run = RunFolder.create(tmp_path, "x")
    logger = logging.getLogger("mmagn.training.x")
    with run.log_lines():
        logger.warning("inside")
    logger.warning("outside")
    text = run.log.read_text()
    assert "inside" in text
    assert "outside" not in text


def test_a_run_that_never_began_leaves_no_folder_and_one_that_did_keeps_it(tmp_path):
    run = RunFolder.create(tmp_path, "tiny")
    with pytest.raises(OSError, match="disk"), run.removed_if_empty():
        raise OSError("disk")
    assert list(tmp_path.iterdir()) == []
    run = RunFolder.create(tmp_path, "tiny")
    run.last.touch()
    with pytest.raises(OSError, match="disk"), run.removed_if_empty():
        raise OSError("disk")
    assert run.last.is_file()


def test_a_folder_of_another_minor_version_is_refused_in_one_sentence(tmp_path):
    run = RunFolder.create(tmp_path, "fused")
    content = json.loads(run.provenance.read_text())
    content["versions"]["mmagn"] = "0.1.0"
    run.provenance.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"was written by mmagn 0\.1\.0; mmagn .* reads run folders of its own minor"):
        RunFolder.open(run.path, needs=())


def test_a_best_checkpoint_that_no_record_seals_yet_is_verified_too(tmp_path):
    run = RunFolder.create(tmp_path, "x")
    with run.best.open("w+b") as file:
        torch.save({"weights": torch.zeros(99)}, file)
        seal_archive(file)
    assert run.damaged(checkpoints=True) == []
    content = bytearray(run.best.read_bytes())
    content[60] ^= 1
    run.best.write_bytes(content)
    assert [sentence.partition(" is damaged")[0] for sentence in run.damaged(checkpoints=True)] == [str(run.best)]

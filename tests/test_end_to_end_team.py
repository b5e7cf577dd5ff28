"""Training by two processes with the script a user runs: one run folder, and the result of one process."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mmagn.training.checkpoints import read_checkpoint

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "train.py"
SETTINGS = [
    *("--data.simulate.pairs", "80", "--data.simulate.agn_fraction", "0.4", "--data.simulate.seed", "3"),
    *("--models.branches", "[features]", "--models.dropout", "0", "--evaluation.bootstrap_draws", "50"),
    *("--training.batch_size", "10", "--training.epochs", "3", "--training.device", "cpu"),
    *("--spectroscopy.device", "cpu", "--matching.workers", "1", "--seed", "1"),
]


TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def command(folder: Path, cache: Path, launcher: list[str], *more: str) -> list[str]:
    arguments = [str(SCRIPT), *SETTINGS, "--data.cache_dir", str(cache), "--runs_dir", str(folder), *more]
    return [sys.executable, *launcher, *arguments]


def trained(folder: Path, cache: Path, launcher: list[str], *more: str) -> tuple[Path, str]:
    """Run folder and standard output of a training."""
    done = subprocess.run(
        command(folder, cache, launcher, *more),
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (run,) = folder.iterdir()
    return run, done.stdout


def test_two_processes_leave_one_run_folder_with_the_scores_of_one(tmp_path: Path) -> None:
    two, said = trained(tmp_path / "two", tmp_path / "cache", TWO)
    one, _ = trained(tmp_path / "one", tmp_path / "cache", [])
    assert said.count("run folder: ") == said.count("scores on the test split") == 1
    log = (two / "run.log").read_text(encoding="utf-8")
    assert [log.count(f"epoch {epoch}/3") for epoch in (1, 2, 3)] == [1, 1, 1]
    assert {path.name for path in two.iterdir()} == {path.name for path in one.iterdir()}
    left, right = (read_checkpoint(run / "last.ckpt") for run in (one, two))
    assert left["global_step"] == right["global_step"]
    for name, value in left["state_dict"].items():
        torch.testing.assert_close(right["state_dict"][name], value, rtol=1e-3, atol=1e-4)
    alone, shared = (json.loads((run / "scores.json").read_text(encoding="utf-8"))["scores"] for run in (one, two))
    for name in ("average_precision", "roc_auc", "brier", "log_loss"):
        assert shared[name]["value"] == pytest.approx(alone[name]["value"], rel=0.01, abs=1e-3), name


def stopped(folder: Path, cache: Path, *more: str) -> Path:
    """Run folder of a training by two processes that a queue ended by SIGTERM after its second epoch."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command(folder, cache, TWO, *more), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
    ) as process:
        while not any("epoch  2/" in log.read_text(encoding="utf-8") for log in folder.glob("*/run.log")):
            assert process.poll() is None, process.stderr and process.stderr.read().decode()
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        process.communicate()
    (run,) = folder.iterdir()
    return run


def test_two_processes_that_a_queue_stops_go_on_by_themselves_to_the_same_weights(tmp_path: Path) -> None:
    settings = ("--training.epochs", "40", "--training.patience", "40", "--training.log_every", "1")
    cut = stopped(tmp_path / "cut", tmp_path / "cache", *settings)
    before = read_checkpoint(cut / "last.ckpt")
    assert 2 <= before["epoch"] < 40
    assert not (cut / "scores.json").exists()
    again, _ = trained(tmp_path / "cut", tmp_path / "cache", TWO, *settings, "--resume", "auto")
    whole, _ = trained(tmp_path / "whole", tmp_path / "cache", TWO, *settings)
    assert again == cut
    left, right = (read_checkpoint(run / "last.ckpt") for run in (cut, whole))
    assert left["global_step"] == right["global_step"] > before["global_step"]
    assert all(torch.equal(right["state_dict"][name], value) for name, value in left["state_dict"].items())
    assert (cut / "scores.json").is_file()

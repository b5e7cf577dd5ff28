"""Training by two processes with the script a user runs: one run folder, and the result of one process."""

import json
import os
import subprocess
import sys
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


def trained(folder: Path, cache: Path, launcher: list[str]) -> tuple[Path, str]:
    """Run folder and standard output of a training."""
    arguments = [str(SCRIPT), *SETTINGS, "--data.cache_dir", str(cache), "--runs_dir", str(folder)]
    done = subprocess.run(
        [sys.executable, *launcher, *arguments],
        capture_output=True,
        text=True,
        timeout=110,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (run,) = folder.iterdir()
    return run, done.stdout


def test_two_processes_leave_one_run_folder_with_the_scores_of_one(tmp_path: Path) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    two, said = trained(tmp_path / "two", tmp_path / "cache", launcher)
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

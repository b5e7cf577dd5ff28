"""Two processes on one machine: the same training as in one."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmagn.training.checkpoints import read_checkpoint
from mmagn.training.config import TrainingConfig
from mmagn.training.process_group import ProcessGroup, joined_group, launched_group

WORKER = Path(__file__).resolve().parent.parent / "process_group_worker.py"
SLURM = {
    "SLURM_NTASKS": "8",
    "SLURM_NNODES": "2",
    "SLURM_NTASKS_PER_NODE": "4",
    "SLURM_JOB_NAME": "train",
    "SLURM_PROCID": "6",
    "SLURM_LOCALID": "2",
}


def torchrun(processes: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Start a script in several processes and wait for them."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)),
            *arguments,
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of what one process and what two processes made of the same training."""
    folders = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    for processes, folder in enumerate(folders, start=1):
        done = torchrun(processes, str(WORKER), str(folder))
        assert done.returncode == 0, done.stderr
    return folders


def test_two_processes_give_the_gradients_and_weights_of_one(pair: tuple[Path, Path]) -> None:
    one, two = (torch.load(folder / "gradients-0.pt", weights_only=True) for folder in pair)
    other = torch.load(pair[1] / "gradients-1.pt", weights_only=True)
    assert len(one) == len(two) == 14
    for alone, first, second in zip(one, two, other, strict=True):
        for name in alone:
            torch.testing.assert_close(first[name], alone[name], rtol=1e-4, atol=1e-6)
            assert torch.equal(first[name], second[name])
    left, right = (read_checkpoint(folder / "run" / "last.ckpt") for folder in pair)
    assert left["global_step"] == right["global_step"] == 14
    for name, value in left["state_dict"].items():
        torch.testing.assert_close(right["state_dict"][name], value, rtol=1e-3, atol=1e-5)


def test_scores_early_stop_and_best_epoch_are_those_of_one_process(pair: tuple[Path, Path]) -> None:
    one, two = (json.loads((folder / "result-0.json").read_text(encoding="utf-8")) for folder in pair)
    other = json.loads((pair[1] / "result-1.json").read_text(encoding="utf-8"))
    assert one.keys() == two.keys()
    for name in one:
        assert two[name] == pytest.approx(one[name], rel=1e-4), name
        assert other[name] == pytest.approx(one[name], rel=1e-4), name


def test_only_the_leading_process_logs_and_all_receive_what_it_broadcasts(pair: tuple[Path, Path]) -> None:
    received = [json.loads((pair[1] / f"received-{rank}.json").read_text(encoding="utf-8")) for rank in range(2)]
    assert received == [{"folder": "chosen by 0", "lines": 1}, {"folder": "chosen by 0", "lines": 0}]


def test_one_process_is_a_group_of_one_that_broadcasts_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SLURM:
        monkeypatch.delenv(name, raising=False)
    with joined_group(TrainingConfig()) as group:
        assert group == ProcessGroup(rank=0, local_rank=0, world=1, nodes=1)
        assert group.leads and group.broadcast("x") == "x"
    assert logging.getLogger("mmagn").level != logging.ERROR


def test_slurm_gives_rank_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    group = launched_group()
    assert (group.rank, group.local_rank, group.world, group.nodes, group.devices) == (6, 2, 8, 2, 4)
    assert not group.leads

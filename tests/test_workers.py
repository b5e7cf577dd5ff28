"""Processes that share tasks: all is done once, one that dies is replaced, what a task raises reaches the caller."""

import logging
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from mmagn.workers import done_here, shared_out


def worker(folder: Path) -> Callable[[int], int]:
    def work(task: int) -> int:
        flag = folder / f"died-{task}"
        if task == 2 and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if task == 13:
            raise ValueError("13 is not allowed")
        if task == 99:
            os._exit(3)
        return task * torch.get_num_threads()

    return work


def test_a_killed_process_loses_its_task_alone_and_it_is_done_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    done = list(shared_out(range(5), partial(worker, tmp_path), 2))
    assert sorted((each.task, each.result) for each in done) == [(task, task) for task in range(5)]
    assert caplog.messages == ["a worker ended with exit code -9 at 2, which is done again by another one"]


def test_what_a_task_raises_reaches_the_caller(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="13 is not allowed"):
        list(shared_out([1, 13], partial(worker, tmp_path), 2))


def test_a_task_that_kills_every_process_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"3 processes ended at the same task \(99\), the last with exit code 3"):
        list(shared_out([99, 1], partial(worker, tmp_path), 1))


def test_without_processes_a_task_runs_on_one_thread_too(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    assert [each.result for each in done_here([3, 4], worker(tmp_path))] == [3, 4]
    assert torch.get_num_threads() == threads

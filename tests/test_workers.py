"""Processes that share tasks: all is done once, one that dies is replaced, what a task raises reaches the caller."""

import logging
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from mmagn.workers import DeadWorkerError, run_tasks


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
        return task

    return work


def worker_that_dies_at_its_start(ballast: bytes) -> Callable[[int], int]:
    os._exit(3)


def unprepared_worker() -> Callable[[int], int]:
    raise ValueError("no basis")


def test_a_killed_process_loses_its_task_alone_and_it_is_repeated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    done = list(run_tasks(range(5), partial(worker, tmp_path), 2))
    assert sorted((each.task, each.result) for each in done) == [(task, task) for task in range(5)]
    assert caplog.messages == ["a worker died with exit code -9 at 2, which is repeated by another one"]


def test_results_come_in_the_order_of_the_tasks_where_that_is_requested(tmp_path: Path) -> None:
    done = list(run_tasks(iter(range(3, 13)), partial(worker, tmp_path), 2, ordered=True))
    assert [each.result for each in done] == list(range(3, 13))


def test_tasks_are_taken_as_workers_become_free(tmp_path: Path) -> None:
    taken = []
    results = run_tasks(
        (taken.append(task) or task for task in range(3, 10)), partial(worker, tmp_path), 1, ordered=True
    )
    next(results)
    assert len(taken) <= 3
    results.close()


def test_what_a_task_raises_reaches_the_caller(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="13 is not allowed"):
        list(run_tasks([1, 13], partial(worker, tmp_path), 2))


def test_what_the_preparation_of_a_worker_raises_reaches_the_caller() -> None:
    with pytest.raises(ValueError, match="no basis"):
        list(run_tasks([1, 2], unprepared_worker, 2))


def test_a_task_that_kills_every_worker_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeadWorkerError, match=r"2 workers died at the same task \(99\), the last with exit code 3"):
        list(run_tasks([99, 1], partial(worker, tmp_path), 1))


def test_workers_that_die_at_their_start_end_the_run_whatever_is_sent_to_them() -> None:
    with pytest.raises(DeadWorkerError, match="exit code 3"):
        list(run_tasks([1, 2], partial(worker_that_dies_at_its_start, bytes(10_000_000)), 2))


def thread_counter() -> Callable[[int], int]:
    import torch

    return lambda task: task * torch.get_num_threads()


def test_a_task_runs_on_one_thread_with_processes_and_without() -> None:
    import torch

    threads = torch.get_num_threads()
    for workers in (0, 1):
        assert [each.result for each in run_tasks([3, 4], thread_counter, workers)] == [3, 4]
    assert torch.get_num_threads() == threads

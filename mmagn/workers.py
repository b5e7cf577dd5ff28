"""The one process pool: tasks out, results in; a dead worker costs its own task alone, which is repeated once."""

import ctypes
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

ATTEMPTS = 2
"""Times that a task is given to a worker before it is reported as the one that kills workers."""
KEPT_BYTES = 1 << 30
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Numbers of the parameters in ``malloc.h`` of glibc."""

Task = TypeVar("Task")
Result = TypeVar("Result")
Prepare = Callable[[], Callable[[Task], Result]]
"""Called once in each worker; returns the function that does a task."""

logger = logging.getLogger(__name__)


class DeadWorkerError(RuntimeError):
    """Workers died repeatedly at the same task."""


@dataclass(frozen=True, kw_only=True)
class TaskResult(Generic[Task, Result]):
    """A task that was done.

    Attributes
    ----------
    task, result
        The task and what it returned.
    seconds, processor_seconds
        Wall time and processor time that it took.
    """

    task: Task
    result: Result
    seconds: float
    processor_seconds: float


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_tasks(
    tasks: Iterable[Task], prepare: Prepare[Task, Result], workers: int, *, ordered: bool = False
) -> Iterator[TaskResult[Task, Result]]:
    """Yield the result of each task as soon as it is there, computed by processes of one thread each.

    Processes are spawned and not forked, end with the process that started them, and are terminated when the
    iteration ends.

    Parameters
    ----------
    tasks
        Picklable; taken from the iterable as workers become free, two ahead for each worker.
    prepare
        Picklable; called once in each worker.
    workers
        Number of processes; 0 does the tasks one after the other in this process, on one thread as well.
    ordered
        Yield results in the order of the tasks instead of the order of completion.

    Raises
    ------
    DeadWorkerError
        Where a worker died at the same task ``ATTEMPTS`` times; names the task and the exit code.
    Exception
        What a task raised.
    """
    if workers < 1:
        yield from _serial(tasks, prepare)
        return
    pool = _Pool(prepare, workers)
    try:
        yield from pool.results(tasks, ordered)
    finally:
        pool.close()


def in_threads(work: Callable[[Task], Result], tasks: Iterable[Task], threads: int) -> Iterator[Result]:
    """Yield the result of each task in order, as many ahead of the caller as there are threads; the rest waits."""
    pool = ThreadPoolExecutor(threads)
    ahead: deque[Future[Result]] = deque()
    try:
        for task in tasks:
            ahead.append(pool.submit(work, task))
            if len(ahead) > threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread while the context lasts, as it does in a worker."""
    import torch  # only here: a worker that reads files starts sooner without it

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def keep_freed_memory() -> None:
    """Have glibc keep up to ``KEPT_BYTES`` of freed memory for later allocations; no effect with other C libraries.

    By default it returns large blocks at once (mallopt(3)), and the kernel clears every page of every batch anew.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return
    mallopt(_MMAP_THRESHOLD, KEPT_BYTES)
    mallopt(_TRIM_THRESHOLD, KEPT_BYTES)


def _serial(tasks: Iterable[Task], prepare: Prepare[Task, Result]) -> Iterator[TaskResult[Task, Result]]:
    work = prepare()
    for task in tasks:
        with one_thread():
            result, seconds, processor_seconds = _timed(task, work)
        yield TaskResult(task=task, result=result, seconds=seconds, processor_seconds=processor_seconds)


class _Pool(Generic[Task, Result]):
    """Worker processes, each served by a thread that waits for it: no worker waits for another or for the caller."""

    def __init__(self, prepare: Prepare[Task, Result], workers: int) -> None:
        self.prepare, self.closed, self.limit = prepare, False, 2 * workers
        self.tasks: queue.SimpleQueue[tuple[int, Task] | None] = queue.SimpleQueue()
        self.answers: queue.SimpleQueue[tuple[int, TaskResult[Task, Result] | Exception]] = queue.SimpleQueue()
        self.processes: dict[int, _Worker[Task, Result]] = {}
        self.threads = [threading.Thread(target=self._serve, args=(place,), daemon=True) for place in range(workers)]

    def results(self, tasks: Iterable[Task], ordered: bool) -> Iterator[TaskResult[Task, Result]]:
        """Yield results; tasks that are under way and results that wait for an earlier one are bounded together."""
        numbered = enumerate(tasks)
        given = list(islice(numbered, self.limit))
        for task in given:
            self.tasks.put(task)
        for thread in self.threads[: len(given)]:
            thread.start()
        early: dict[int, TaskResult[Task, Result]] = {}
        open_tasks, expected = len(given), 0
        while open_tasks:
            position, answer = self.answers.get()
            if isinstance(answer, Exception):
                raise answer
            early[position] = answer
            while early and (not ordered or expected in early):
                result = early.pop(expected if ordered else position)
                expected, open_tasks = expected + 1, open_tasks - 1
                for task in islice(numbered, 1):
                    self.tasks.put(task)
                    open_tasks += 1
                yield result

    def close(self) -> None:
        """Terminate the workers."""
        self.closed = True
        started = [thread for thread in self.threads if thread.ident is not None]
        for _ in started:
            self.tasks.put(None)
        while any(thread.is_alive() for thread in started):
            for worker in list(self.processes.values()):
                worker.process.terminate()
            for thread in started:
                thread.join(timeout=0.05)
        for worker in self.processes.values():
            worker.end()

    def _serve(self, place: int) -> None:
        """Give tasks to the worker of one place, and replace it where it dies."""
        for position, task in iter(self.tasks.get, None):
            answer: TaskResult[Task, Result] | Exception | None = None
            for attempt in range(1, ATTEMPTS + 1):
                if self.closed:
                    return
                try:
                    if place not in self.processes:
                        self.processes[place] = _Worker(self.prepare)
                    answer = self.processes[place].answer(task)
                except (EOFError, ConnectionError):
                    answer = self._dead(place, task, attempt)
                except Exception as error:  # such as a task that cannot be pickled: it belongs to the caller
                    answer = error
                if answer is not None:
                    break
            if answer is not None:
                self.answers.put((position, answer))

    def _dead(self, place: int, task: Task, attempt: int) -> DeadWorkerError | None:
        code = self.processes.pop(place).end()
        if self.closed:
            return None
        if attempt == ATTEMPTS:
            return DeadWorkerError(
                f"{attempt} workers died at the same task ({_short(task)}), the last with exit code {code}; "
                "is there enough memory for each of them?"
            )
        logger.warning("a worker died with exit code %s at %s, which is repeated by another one", code, _short(task))
        return None


class _Worker(Generic[Task, Result]):
    """A process and the connection to it."""

    def __init__(self, prepare: Prepare[Task, Result]) -> None:
        context = get_context("spawn")
        self.connection, child = context.Pipe()
        self.process: BaseProcess = context.Process(target=_work, args=(child,), daemon=True)
        self.process.start()
        child.close()  # else a dead process would not close the connection, and sending would wait for ever
        self._prepare: Prepare[Task, Result] | None = prepare

    def answer(self, task: Task) -> "TaskResult[Task, Result] | Exception":
        """Return the result of a task, or what it raised."""
        if self._prepare is not None:  # sent this way because arguments of a process that dies at its start block
            self.connection.send(self._prepare)
            self._prepare = None
        self.connection.send(task)
        answer = self.connection.recv()
        if isinstance(answer, Exception):
            return answer
        result, seconds, processor_seconds = answer
        return TaskResult(task=task, result=result, seconds=seconds, processor_seconds=processor_seconds)

    def end(self) -> int | None:
        """Return the exit code once the process has ended."""
        self.connection.close()
        self.process.join()
        return self.process.exitcode


def _work(connection: Connection) -> None:
    """Do what is sent until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent terminates the workers
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    for library in ("OMP", "MKL", "OPENBLAS"):
        os.environ[f"{library}_NUM_THREADS"] = "1"  # for libraries that are not loaded yet
    try:
        work = _received_work(connection)
        while True:
            connection.send(_answer(connection.recv(), work))
    except (EOFError, ConnectionError):  # the parent is gone; what a task left on disk stays
        return
    except Exception as error:  # the worker could not be prepared, or a task cannot be sent
        connection.send(error)


def _received_work(connection: Connection) -> Callable[[Any], Any]:
    prepare = connection.recv()
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    work: Callable[[Any], Any] = prepare()
    return work


def _answer(task: Task, work: Callable[[Task], Result]) -> tuple[Result, float, float] | Exception:
    try:
        return _timed(task, work)
    except Exception as error:  # it belongs to the caller
        return error


def _end_with(sentinel: int) -> None:
    """End this process with its parent, however that one ends."""
    wait([sentinel])
    os._exit(1)


def _timed(task: Task, work: Callable[[Task], Result]) -> tuple[Result, float, float]:
    """Return what a task returns, its wall time and its processor time in seconds."""
    start_s, start_processor_s = time.monotonic(), time.process_time()
    result = work(task)
    return result, time.monotonic() - start_s, time.process_time() - start_processor_s


def _short(task: object) -> str:
    text = str(task)
    return text if len(text) <= 200 else f"{text[:200]}..."

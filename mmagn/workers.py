"""Tasks shared out to processes: one that dies loses the task it was at, and that task is given out again."""

import logging
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Generic, TypeVar

import torch

ATTEMPTS = 3
"""Times that a task is given out before its processes have died too often."""

Task = TypeVar("Task")
Result = TypeVar("Result")
Worker = Callable[[Task], Result]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Done(Generic[Task, Result]):
    """A finished task.

    Attributes
    ----------
    task, result
        What was done, and what came of it.
    seconds, processor_seconds
        How long it took, and how long its process was at work.
    """

    task: Task
    result: Result
    seconds: float
    processor_seconds: float


def done_here(tasks: Sequence[Task], work: Callable[[Task], Result]) -> Iterator[Done[Task, Result]]:
    """Do one task after another in this process, on one thread as a worker does, and yield each when it is done."""
    threads = torch.get_num_threads()
    for task in tasks:
        torch.set_num_threads(1)
        try:
            done = _done(task, work)
        finally:
            torch.set_num_threads(threads)
        yield done


def shared_out(
    tasks: Sequence[Task], prepare: Callable[[], Callable[[Task], Result]], workers: int
) -> Iterator[Done[Task, Result]]:
    """Do tasks in processes of one thread each, and yield each when it is done, in whatever order that is.

    Parameters
    ----------
    tasks
        What is to be done; can be sent to another process, and so can the results.
    prepare
        Called once in each process; gives the function that does a task.
    workers
        Processes at the same time.

    Raises
    ------
    RuntimeError
        Where processes died ``ATTEMPTS`` times at the same task.
    Exception
        What a task raised.
    """
    waiting, died = deque(range(len(tasks))), Counter[int]()
    crew = [_Crew(prepare) for _ in range(min(workers, len(tasks)))]
    try:
        for member in crew:
            member.give(waiting.popleft(), tasks)
        while any(member.number is not None for member in crew):
            ready = wait([member.connection for member in crew if member.number is not None])
            for place, member in enumerate(crew):
                if member.connection not in ready or member.number is None:
                    continue
                number, member.number = member.number, None
                try:
                    found = member.connection.recv()
                except (EOFError, ConnectionError):
                    died[number] += 1
                    crew[place] = member = _replaced(member, prepare, tasks[number], died[number])
                    waiting.appendleft(number)
                else:
                    if isinstance(found, Exception):
                        raise found
                    yield found
                if waiting:
                    member.give(waiting.popleft(), tasks)
    finally:
        for member in crew:
            member.process.terminate()
        for member in crew:
            member.process.join()


class _Crew(Generic[Task, Result]):
    """A process and the number of the task that it is at, None where it has none."""

    def __init__(self, prepare: Callable[[], Callable[[Task], Result]]) -> None:
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_work, args=(theirs, prepare), daemon=True)
        self.process.start()
        theirs.close()  # else the end of the process would not end the connection
        self.number: int | None = None

    def give(self, number: int, tasks: Sequence[Task]) -> None:
        """Send a task."""
        self.number = number
        try:
            self.connection.send(tasks[number])
        except ConnectionError:
            logger.debug("worker %s was gone before it got a task", self.process.pid)  # what is received tells


def _replaced(
    member: _Crew[Task, Result], prepare: Callable[[], Callable[[Task], Result]], task: Task, died: int
) -> _Crew[Task, Result]:
    member.process.join()
    code = member.process.exitcode
    if died >= ATTEMPTS:
        raise RuntimeError(
            f"{died} processes ended at the same task ({task}), the last with exit code {code}; "
            "is there enough memory for each of them?"
        )
    logger.warning("a worker ended with exit code %s at %s, which is done again by another one", code, task)
    return _Crew(prepare)


def _work(connection: Connection, prepare: Callable[[], Callable[[Task], Result]]) -> None:
    """Do what is sent until the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the first process ends the others
    torch.set_num_threads(1)
    work = prepare()
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        try:
            answer: Done[Task, Result] | Exception = _done(task, work)
        except Exception as error:  # it belongs to the one who asked
            answer = error
        try:
            connection.send(answer)
        except ConnectionError:  # the one who asked is gone; what a task leaves on disk stays
            return


def _done(task: Task, work: Callable[[Task], Result]) -> Done[Task, Result]:
    started, used = time.monotonic(), time.process_time()
    result = work(task)
    return Done(
        task=task,
        result=result,
        seconds=time.monotonic() - started,
        processor_seconds=time.process_time() - used,
    )

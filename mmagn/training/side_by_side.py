"""Several fits on one GPU at a time: each in a thread with a stream of its own, their steps taken in turn.

The work of one small network leaves most of a GPU idle. Only the thread whose turn it is runs Python, so that all that
is global in a process (random numbers, the recording of a graph) belongs to one fit at a time; the GPU works on the
streams of all fits at once. Each fit has its own weights, graphs and random numbers: its result does not depend on
the others.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

Result = TypeVar("Result")

_thread = threading.local()
"""``turns`` of the thread, where it takes turns."""


class Turns:
    """A turn that is passed from thread to thread, in the order in which they wait for it.

    The first turn begins when all of the threads wait for it.
    """

    def __init__(self, threads: int) -> None:
        self._condition = threading.Condition()
        self._waiting: deque[object] = deque()
        self._threads, self._taken = threads, True
        self.cancelled = False

    def take(self) -> None:
        """Wait for the turn; ``CancelledError`` where the other fits have ended in an error."""
        ticket = object()
        with self._condition:
            self._waiting.append(ticket)
            if len(self._waiting) == self._threads:  # only at the start: later, one has the turn
                self._taken = False
                self._condition.notify_all()
            self._condition.wait_for(lambda: not self._taken and self._waiting[0] is ticket)
            self._waiting.popleft()
            self._taken = True
        if self.cancelled:
            raise CancelledError

    def give(self) -> None:
        """Let the next thread have the turn."""
        with self._condition:
            self._taken = False
            self._condition.notify_all()


class CancelledError(Exception):
    """The fit is no longer wanted."""


def pass_turn() -> None:
    """Let the other fits continue, where there are any, and return at the next turn."""
    turns: Turns | None = getattr(_thread, "turns", None)
    if turns is not None:
        turns.give()
        turns.take()


def wait_for_device(device: torch.device) -> None:
    """Wait until a GPU has done all work of this fit, while the other fits continue; returns at once on a CPU."""
    if device.type != "cuda":
        return
    arrived = torch.cuda.current_stream(device).record_event()
    while getattr(_thread, "turns", None) is not None and not arrived.query():
        pass_turn()
    arrived.synchronize()


def side_by_side(fits: Sequence[Callable[[], Result]], at_once: int) -> list[Result]:
    """Run fits in ``at_once`` threads that take turns, by :func:`pass_turn`, and return their results in order.

    The first exception of any fit is raised; the others are cancelled.
    """
    count = min(at_once, len(fits))
    turns, left = Turns(count), deque(enumerate(fits))
    results: dict[int, Result] = {}
    errors: list[BaseException] = []

    def work() -> None:
        _thread.turns = turns
        try:
            turns.take()
            try:
                while left:
                    number, fit = left.popleft()
                    results[number] = fit()
            except BaseException as error:
                errors.append(error)
                turns.cancelled = True
            finally:
                turns.give()
        except CancelledError:
            turns.give()

    threads = [threading.Thread(target=work, name=f"fit-{number}") for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException:  # Ctrl-C
        turns.cancelled = True
        for thread in threads:
            thread.join()
        raise
    for error in errors:
        if not isinstance(error, CancelledError):
            raise error
    return [results[number] for number in range(len(fits))]

"""Ctrl-C and SIGTERM while training: taken note of, and acted upon where nothing is lost."""

import logging
import signal
import threading
from types import FrameType
from typing import Any, Literal

StopSignal = Literal["interrupt", "sigterm"]

logger = logging.getLogger(__name__)


class TrainingStopped(Exception):  # noqa: N818 it is no error
    """A signal stopped training; its position was kept."""

    def __init__(self, signal: StopSignal) -> None:
        super().__init__(signal)
        self.signal = signal


class StopSignals:
    """Takes note of Ctrl-C and SIGTERM between :meth:`install` and :meth:`restore`; a second Ctrl-C stops at once.

    ``received`` is the signal that came, None before.
    """

    def __init__(self) -> None:
        self.received: StopSignal | None = None
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        """Take the place of the handlers there were; only the main thread of a process may."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._receive)

    def restore(self) -> None:
        """Give their place back to the handlers there were."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received == "interrupt":
            raise KeyboardInterrupt
        self.received = "interrupt" if number == signal.SIGINT else "sigterm"
        again = "; Ctrl-C again stops at once" if number == signal.SIGINT else ""
        logger.info("training stops with a checkpoint after this step%s", again)

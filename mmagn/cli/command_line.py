"""What every command shares: its exit code, and one sentence for whatever goes wrong."""

import errno
import logging
import os
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import wraps
from pathlib import Path

from mmagn.storage.version import __version__
from mmagn.surveys.config import DataConfig

TRACEBACK_VARIABLE = "MMAGN_TRACEBACK"
"""Environment variable that shows the traceback behind a one-sentence error."""


def command(run: Callable[[Sequence[str]], int | None]) -> Callable[[Sequence[str]], int]:
    """Return a command that answers its arguments with an exit code, see :func:`exit_code`."""

    @wraps(run)
    def answered(arguments: Sequence[str]) -> int:
        return exit_code(lambda: run(arguments))

    return answered


def exit_code(action: Callable[[], int | None]) -> int:
    """Run a command's action and return its exit code.

    What the action returns, or 0; 2 with one sentence on standard error where the input or a setting is at fault
    (``ValueError``, ``OSError``); 130 on Ctrl-C; 1 on any other exception, which is a defect of mmagn, with one
    sentence that names the file of its traceback.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for talkative in ("urllib3", "httpx", "httpx2", "matplotlib.font_manager"):
        logging.getLogger(talkative).setLevel(logging.ERROR)
    try:
        return action() or 0
    except (ValueError, OSError) as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        sys.stderr.write(f"error: {' '.join(str(error).split())}{_hint(error)}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        text = " ".join(f"{type(error).__name__}: {error}".split())
        sys.stderr.write(f"error: mmagn failed unexpectedly ({text[:300]}); the traceback is in {_traceback_file()}\n")
        return 1


def _hint(error: Exception) -> str:
    """Which setting helps where the default cache folder cannot be written."""
    denied = isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
    cache = Path(DataConfig().cache_dir).expanduser()
    if not denied or not isinstance(error, OSError) or not isinstance(error.filename, str | Path):
        return ""
    path = Path(error.filename)
    related = path == cache or cache in path.parents or path in cache.parents
    return "; set data.cache_dir to a folder that can be written" if related else ""


def _traceback_file() -> Path:
    """Write the current exception with its circumstances to a new file, and return its path."""
    stem = f"mmagn-{datetime.now().astimezone():%Y%m%d-%H%M%S}-"
    with tempfile.NamedTemporaryFile("w", prefix=stem, suffix=".log", delete=False, encoding="utf-8") as file:
        file.write(f"mmagn {__version__}, Python {sys.version}\n{shlex.join(sys.argv)}\n\n{traceback.format_exc()}")
    return Path(file.name)

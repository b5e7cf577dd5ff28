"""Storage of studies: a local file, or a database that many machines share."""

import shutil
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from sqlalchemy.exc import ArgumentError, IntegrityError, ProgrammingError, SQLAlchemyError

from mmagn.config.run_config import RunConfig

CONNECT_SECONDS = 20
"""Longest wait for a connection or for a lock of a local file."""
MAX_RETRIES = 3
"""Number of repeats of a trial whose worker died."""
DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
"""Dialect and driver of the plain names."""


def storage_url(config: RunConfig) -> str:
    """Return the URL of the database of studies; by default a file in ``data.cache_dir``."""
    url = config.search.storage
    if not url:
        return f"sqlite:///{Path(config.data.cache_dir).expanduser().resolve() / 'searches.db'}"
    scheme, separator, rest = url.partition("://")
    return DRIVERS.get(scheme, scheme) + separator + rest


@contextmanager
def study_storage(config: RunConfig) -> Iterator[RDBStorage]:
    """Give the database of studies, with tables created where it is empty; connections are closed at the end.

    Running trials send heartbeats; a trial without one is repeated by the next worker that starts a trial.

    Raises
    ------
    ValueError
        Where the URL is invalid, its driver is not installed, or the database is of another version of Optuna.
    ConnectionError
        Where the database cannot be reached.
    """
    url = storage_url(config)
    if url.startswith("sqlite:///"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    storage = _storage(url, config.search.heartbeat_s)
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _storage(url: str, heartbeat_s: int) -> RDBStorage:
    try:
        return _made(url, heartbeat_s)
    except (IntegrityError, ProgrammingError):  # another worker made the same tables in this moment
        return _made(url, heartbeat_s)


def _made(url: str, heartbeat_s: int) -> RDBStorage:
    waiting = {"timeout": CONNECT_SECONDS} if url.startswith("sqlite") else {"connect_timeout": CONNECT_SECONDS}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return RDBStorage(
                url,
                engine_kwargs={"connect_args": waiting, "pool_pre_ping": True},
                heartbeat_interval=heartbeat_s,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=MAX_RETRIES),
            )
    except ImportError as error:
        raise ValueError(
            f"search.storage {url} needs a driver that is not installed; for PostgreSQL: pip install 'mmagn[postgres]'"
        ) from error
    except (ArgumentError, RuntimeError) as error:
        raise ValueError(f"search.storage {url}: {_first_line(error)}") from error
    except (IntegrityError, ProgrammingError):
        raise
    except SQLAlchemyError as error:
        raise ConnectionError(f"search.storage {url} cannot be reached: {_first_line(error)}") from error


def dashboard_command(config: RunConfig) -> list[str]:
    """Return the command that shows the studies of this storage in a browser."""
    return ["optuna-dashboard", storage_url(config)]


def show_dashboard(config: RunConfig) -> str:
    """Serve the dashboard of the storage until it is interrupted; return instructions where it is not installed.

    Raises
    ------
    ValueError
        Where the dashboard ends with an error.
    """
    command = dashboard_command(config)
    if shutil.which(command[0]) is None:
        return f"optuna-dashboard is not installed: pip install optuna-dashboard, then {' '.join(command)}"
    with study_storage(config):
        pass
    if code := subprocess.run(command, check=False).returncode:
        raise ValueError(f"{' '.join(command)} ended with exit code {code}")
    return ""


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]

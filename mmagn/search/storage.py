"""Storage of studies: a local file, or a database that many machines share."""

import shutil
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock
from optuna.exceptions import ExperimentalWarning, StorageInternalError
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
        Where the database cannot be reached, or the connection is lost within the context.
    """
    url = storage_url(config)
    with _created_once(url):
        storage = _storage(url, config.search.heartbeat_s)
    try:
        yield storage
    except (SQLAlchemyError, StorageInternalError) as error:
        reason = _first_line(error.__cause__ or error)
        raise ConnectionError(
            f"search.storage {url}: the connection was lost ({reason}); the study is kept, the same command resumes it"
        ) from error
    finally:
        with suppress(SQLAlchemyError):
            storage.remove_session()
            storage.engine.dispose()


@contextmanager
def _created_once(url: str) -> Iterator[None]:
    """Let one process at a time create the tables of a local file; a database server does this by itself."""
    if not url.startswith("sqlite:///"):
        yield
        return
    path = Path(url.removeprefix("sqlite:///"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        yield


def _storage(url: str, heartbeat_s: int) -> RDBStorage:
    try:
        return _connected(url, heartbeat_s)
    except (IntegrityError, ProgrammingError):  # another worker created the same tables at the same time
        return _connected(url, heartbeat_s)


def _connected(url: str, heartbeat_s: int) -> RDBStorage:
    connect_args = {"timeout": CONNECT_SECONDS} if url.startswith("sqlite") else {"connect_timeout": CONNECT_SECONDS}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return RDBStorage(
                url,
                engine_kwargs={"connect_args": connect_args, "pool_pre_ping": True},
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

    ``ValueError`` where it ends with an error.
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

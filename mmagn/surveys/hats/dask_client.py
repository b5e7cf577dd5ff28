"""The Dask cluster behind ``data.source`` hats: one that runs already, or processes of this machine."""

import logging
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from mmagn.surveys.config import DaskConfig
from mmagn.surveys.damage import UnavailableError

CONNECT_SECONDS = 30
TASKS_PER_WORKER = 3
"""Tasks in progress for each worker: one that it works on, one that waits, one whose result is sent back."""


def optional_module(name: str) -> Any:
    """Return a module of the optional extra ``hats``.

    Raises ``ValueError`` where it is not installed; the message states how to install it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # lsdb sets an option of pandas that pandas 3 deprecates
            return import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(f"data.source hats needs: pip install 'mmagn[hats]' (no module {error.name})") from error


@contextmanager
def dask_client(config: DaskConfig) -> Iterator[Any]:
    """Yield the client of a cluster, which Dask uses inside the block; None where threads do the work.

    Raises ``ValueError`` where the extra is not installed, the scheduler does not answer or no worker starts.
    """
    distributed = optional_module("distributed")
    logging.getLogger("distributed").setLevel(logging.WARNING)  # logs every connection otherwise
    if config.scheduler is not None:
        try:
            client = distributed.Client(config.scheduler, timeout=CONNECT_SECONDS)
        except (OSError, ValueError) as error:
            raise ValueError(f"dask.scheduler {config.scheduler} does not answer: {error}") from error
        with client:
            yield client
    elif config.workers == 0:
        yield None
    else:
        with _local_cluster(distributed, config) as cluster, distributed.Client(cluster) as client:
            yield client


def _local_cluster(distributed: Any, config: DaskConfig) -> Any:
    """Return a cluster of processes of this machine."""
    try:
        return distributed.LocalCluster(
            n_workers=config.workers,
            threads_per_worker=1,
            memory_limit=int(config.memory_gb * 1e9),
            dashboard_address=":0",  # any free port: its usual one may belong to another cluster of this machine
            scheduler_kwargs={"dashboard": False},
        )
    except (OSError, RuntimeError) as error:
        raise UnavailableError(
            f"the workers of the Dask cluster (dask.workers) did not start: {error}; the same command resumes"
        ) from error


def computed(tasks: Sequence[Any]) -> Iterator[Any]:
    """Yield the results of Dask tasks in order, a bounded number of them in progress."""
    distributed = optional_module("distributed")
    try:
        client = distributed.default_client()
    except ValueError:  # no cluster: one after the other, here
        yield from (task.compute(scheduler="synchronous") for task in tasks)
        return
    at_once = TASKS_PER_WORKER * max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
    in_progress: deque[Any] = deque()
    for task in tasks:
        in_progress.append(client.compute(task))
        if len(in_progress) >= at_once:
            yield in_progress.popleft().result()
    while in_progress:
        yield in_progress.popleft().result()

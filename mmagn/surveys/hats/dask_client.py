"""The Dask cluster behind ``data.source`` hats: one that runs already, or processes of this machine."""

import logging
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from mmagn.surveys.hats.config import DaskConfig

CONNECT_SECONDS = 30
TASKS_PER_WORKER = 3
"""Tasks under way for each worker: one that it works on, one that waits, one whose result is sent back."""


def optional_module(name: str) -> Any:
    """Return a module of the optional extra ``hats``.

    Raises
    ------
    ValueError
        Where it is not installed; the sentence says how to install it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # lsdb sets an option of pandas that pandas 3 deprecates
            return import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(f"data.source hats needs: pip install 'mmagn[hats]' (no module {error.name})") from error


@contextmanager
def dask_client(config: DaskConfig) -> Iterator[Any]:
    """Give the client of a cluster, which Dask uses for all work inside the block; None where threads do the work.

    Raises
    ------
    ValueError
        Where the extra is not installed or the scheduler does not answer.
    """
    distributed = optional_module("distributed")
    logging.getLogger("distributed").setLevel(logging.WARNING)  # says of every connection that it was made
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
        memory_bytes = int(config.memory_gb * 1e9)
        with (
            distributed.LocalCluster(
                n_workers=config.workers,
                threads_per_worker=1,
                memory_limit=memory_bytes,
                dashboard_address=":0",  # any free port: its usual one may belong to another cluster of this machine
                scheduler_kwargs={"dashboard": False},
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield client


def computed(tasks: Sequence[Any]) -> Iterator[Any]:
    """Yield the results of Dask tasks in order, a bounded number of them under way."""
    distributed = optional_module("distributed")
    try:
        client = distributed.default_client()
    except ValueError:  # no cluster: one after the other, here
        yield from (task.compute(scheduler="synchronous") for task in tasks)
        return
    at_once = TASKS_PER_WORKER * max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
    under_way: deque[Any] = deque()
    for task in tasks:
        under_way.append(client.compute(task))
        if len(under_way) >= at_once:
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()

"""Shards written as Arrow files, several at the same time, each whole or not there, so that a stopped run goes on.

A file depends on nothing but its shard: not on how many processes write, nor on which is first. What was found while
writing it stands in a record beside it; a shard with a record is never read again.
"""

import json
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmagn.matching.rows import pair_features, pair_row, rows_batch
from mmagn.matching.shards import PairShard, shard_pairs
from mmagn.surveys.reader import SurveyReader

ROWS_PER_BATCH = 32
PAIRS_PER_PROCESS = 250
"""Pairs that are stored in the time a process needs to start; fewer are not worth one."""
TAKEN_AHEAD = 2
"""Shards that another process has before it, so that it never waits for this one."""
_UNFINISHED = ".part"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class ShardTask:
    """A shard to write.

    Attributes
    ----------
    folder, number
        Where, and which: the file is ``pairs-NUMBER.arrow``.
    shard, reader
        Which pairs, and where they come from.
    image_dtype
        Number type of image flux and ivar.
    """

    folder: Path
    number: int
    shard: PairShard
    reader: SurveyReader
    image_dtype: str

    @property
    def path(self) -> Path:
        """The Arrow file."""
        return self.folder / f"pairs-{self.number:05d}.arrow"


@dataclass(frozen=True, kw_only=True)
class ShardRecord:
    """What is known of a written shard.

    Attributes
    ----------
    file
        Name of the Arrow file; there is none where ``pairs`` is 0.
    shard
        ``PairShard.fingerprint``.
    size_bytes
        Size of the file.
    pairs
        Pairs in it.
    drops
        Pairs left out, by reason.
    lost
        A sentence for each pair left out.
    changed
        Pixels that the number type could not hold, by what happened to them.
    """

    file: str
    shard: str
    size_bytes: int
    pairs: int
    drops: dict[str, int]
    lost: list[str]
    changed: dict[str, int]


def write_shards(tasks: Sequence[ShardTask], workers: int) -> Iterator[ShardRecord]:
    """Yield the record of every shard as soon as it is written, those that an earlier run has written first.

    Parameters
    ----------
    tasks
        Shards, all into one folder that no other run writes to.
    workers
        Most processes at the same time, this one among them; few pairs are written by this one alone.
    """
    left = []
    for task in tasks:
        record = _written(task)
        if record is None:
            left.append(task)
        else:
            yield record
    workers = min(workers, len(left), sum(len(task.shard) for task in left) // PAIRS_PER_PROCESS)
    if workers < 2:
        yield from map(write_shard, left)
        return
    for record in _written_by_processes(left, workers):
        left = [task for task in left if task.path.name != record.file]
        yield record
    yield from map(write_shard, left)


def write_shard(task: ShardTask) -> ShardRecord:
    """Write one shard and return its record; the file is there whole or not at all."""
    drops: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    lost: list[str] = []
    features = pair_features(task.image_dtype)
    rows = (pair_row(pair, task.image_dtype, changed) for pair in shard_pairs(task.shard, task.reader, drops, lost))
    stored = 0
    unfinished = task.path.with_suffix(_UNFINISHED)
    try:
        with unfinished.open("wb") as file:
            with pa.ipc.new_stream(file, features.arrow_schema) as stream:
                for chunk in _chunks(rows, ROWS_PER_BATCH):
                    stream.write_batch(rows_batch(chunk, features))
                    stored += len(chunk)
            file.flush()
            os.fsync(file.fileno())
        size_bytes = unfinished.stat().st_size
        if stored:
            unfinished.replace(task.path)
    finally:
        unfinished.unlink(missing_ok=True)
    record = ShardRecord(
        file=task.path.name,
        shard=task.shard.fingerprint,
        size_bytes=size_bytes,
        pairs=stored,
        drops=dict(drops),
        lost=lost,
        changed=dict(changed),
    )
    told = task.path.with_suffix(".json")
    told.with_suffix(_UNFINISHED).write_text(json.dumps(asdict(record), indent=1), encoding="utf-8")
    told.with_suffix(_UNFINISHED).replace(told)
    return record


def remove_unfinished(folder: Path) -> bool:
    """Remove what a stopped run left half-written in a folder; return whether whole shards are there."""
    for path in folder.glob(f"*{_UNFINISHED}"):
        path.unlink()
    return any(folder.glob("pairs-*.json"))


def remove_records(folder: Path) -> None:
    """Remove the records of a folder, once the store tells what they tell."""
    for path in folder.glob("pairs-*.json"):
        path.unlink()


def _written(task: ShardTask) -> ShardRecord | None:
    """Return the record of a shard that an earlier run has written whole, or None."""
    try:
        record = ShardRecord(**json.loads(task.path.with_suffix(".json").read_text(encoding="utf-8")))
        size_bytes = task.path.stat().st_size if record.pairs else record.size_bytes
    except (OSError, ValueError, TypeError):
        return None
    same = (record.file, record.shard, record.size_bytes) == (task.path.name, task.shard.fingerprint, size_bytes)
    return record if same else None


def _written_by_processes(tasks: Sequence[ShardTask], workers: int) -> Iterator[ShardRecord]:
    """Yield records of shards as they are finished; where a process dies, not all of them.

    This process is one of the workers: while others start and are given shards from the front, it takes them
    from the back. Processes are started anew and not forked, so that threads of this one cannot stop them.
    """
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers - 1, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker)
    try:
        left = deque(tasks)
        taken: set[Future[ShardRecord]] = set()
        while left or taken:
            while len(left) > 1 and len(taken) < TAKEN_AHEAD * (workers - 1):
                taken.add(pool.submit(write_shard, left.popleft()))
            if left:
                yield write_shard(left.pop())
                done = {future for future in taken if future.done()}
            else:
                done = wait(taken, return_when=FIRST_COMPLETED).done
            taken -= done
            for future in done:
                yield future.result()
    except BrokenProcessPool:
        _log.warning("a process that stored pairs has died (too little memory?); the rest is stored by one process")
        remove_unfinished(tasks[0].folder)
    except BaseException:
        for worker in set(multiprocessing.active_children()) - others:
            worker.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Let a worker die at once on Ctrl-C, and with the process that started it, however that one ends."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def _chunks(rows: Iterable[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    chunk: list[dict[str, Any]] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk

"""Shards written as Arrow files, several at the same time, each whole or not at all, so that a stopped run resumes.

A file depends on nothing but its shard: not on the number of processes, nor on their order. What was lost while
writing it stands in a record beside it; a shard with a record is never read again.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa

from mmagn.matching.rows import pair_features, pair_row, rows_batch
from mmagn.matching.shards import PairShard, shard_pairs
from mmagn.storage.checksums import StoredFile, check_file, stored_file
from mmagn.storage.files import whole_file, write_json
from mmagn.surveys.reader import SurveyReader
from mmagn.workers import run_tasks

ROWS_PER_BATCH = 32
PAIRS_PER_PROCESS = 250
"""Pairs that are stored in the time a process needs to start; fewer are not worth one."""
_UNFINISHED = ".part"


@dataclass(frozen=True, kw_only=True, eq=False)
class ShardTask:
    """A shard to write, as the file ``pairs-NUMBER.arrow`` of a folder."""

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
    file, written
        Name of the Arrow file, its size and checksum; there is none where ``pairs`` is 0.
    shard
        ``PairShard.fingerprint``.
    pairs, drops, lost
        Pairs in it; pairs left out, by reason, and a sentence for each of them.
    changed
        Pixels that the number type could not hold, by what happened to them.
    """

    file: str
    shard: str
    written: StoredFile | None
    pairs: int
    drops: dict[str, int]
    lost: list[str]
    changed: dict[str, int]


def write_shards(tasks: Sequence[ShardTask], workers: int) -> Iterator[ShardRecord]:
    """Yield the record of every shard as soon as it is written, those that an earlier run has written first.

    All go into one folder that no other run writes to, by at most ``workers`` processes; few pairs are written by
    this one.
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
    for done in run_tasks(left, _writer, workers):
        yield done.result


def _writer() -> Callable[[ShardTask], ShardRecord]:
    """Return what writes shards in a worker."""
    return write_shard


def write_shard(task: ShardTask) -> ShardRecord:
    """Write one shard and return its record; the file is there whole or not at all."""
    drops: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    lost: list[str] = []
    features = pair_features(task.image_dtype)
    rows = (pair_row(pair, task.image_dtype, changed) for pair in shard_pairs(task.shard, task.reader, drops, lost))
    stored = 0
    with whole_file(task.path) as part, pa.ipc.new_stream(str(part), features.arrow_schema) as stream:
        while chunk := list(islice(rows, ROWS_PER_BATCH)):
            stream.write_batch(rows_batch(chunk, features))
            stored += len(chunk)
    if not stored:
        task.path.unlink()
    record = ShardRecord(
        file=task.path.name,
        shard=task.shard.fingerprint,
        written=stored_file(task.path) if stored else None,
        pairs=stored,
        drops=dict(drops),
        lost=lost,
        changed=dict(changed),
    )
    write_json(task.path.with_suffix(".json"), asdict(record))
    return record


def remove_unfinished(folder: Path) -> bool:
    """Remove what a stopped run left half-written in a folder; return whether whole shards are there."""
    for path in folder.glob(f"*{_UNFINISHED}"):
        path.unlink()
    return any(folder.glob("pairs-*.json"))


def remove_records(folder: Path) -> None:
    """Remove the records of a folder, once the description of the store holds their content."""
    for path in folder.glob("pairs-*.json"):
        path.unlink()


def _written(task: ShardTask) -> ShardRecord | None:
    """Return the record of a shard that an earlier run has written whole, or None."""
    try:
        content = json.loads(task.path.with_suffix(".json").read_text(encoding="utf-8"))
        written = None if content["written"] is None else StoredFile(**content["written"])
        record = ShardRecord(**{**content, "written": written})
        if written is not None:
            check_file(task.path, written)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return record if (record.file, record.shard) == (task.path.name, task.shard.fingerprint) else None

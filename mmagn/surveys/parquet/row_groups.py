"""Chosen rows of Parquet files: only the row groups that hold them are read, and of these only the columns requested.

A column may be a field of a struct, ``image.flux``: its bytes are then read without those of the other fields.
"""

import weakref
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from threading import Event
from typing import Any, Generic, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mmagn.surveys.damage import DAMAGE, damage_text
from mmagn.surveys.reader import Record, row_records
from mmagn.surveys.screen import file_name

TAIL_BYTES = 1 << 15
"""First guess at the length of a footer."""
STREAM_BYTES = 1 << 20
"""Bytes of a column read ahead from a disk."""
AHEAD_BYTES = 3 << 27
"""Row groups that are fetched before they are needed, compressed and decoded."""


class ParquetFile(Hashable, Protocol):
    """A Parquet file at any place."""

    @property
    def name(self) -> str:
        """Path, for messages."""

    @property
    def fetches(self) -> int:
        """Row groups to fetch at the same time; 0 reads them one after the other, as from a disk."""

    def footer(self) -> pq.FileMetaData:
        """Return the description of the columns and row groups."""

    def open(self, stop: Event) -> Any:
        """Return a new binary file object; ``stop`` ends its waits."""


@dataclass(frozen=True, slots=True)
class LocalParquet:
    """A Parquet file on a disk."""

    name: str
    fetches: int = 0

    def footer(self) -> pq.FileMetaData:
        """Return the description of the columns and row groups."""
        return read_footer(self.open(Event()), Path(self.name).stat().st_size)

    def open(self, stop: Event) -> Any:  # noqa: ARG002 - a disk does not ask to wait
        """Return a new binary file object."""
        return Path(self.name).open("rb")


@dataclass(frozen=True, slots=True)
class Payload(Generic[Record]):
    """What is read of a row.

    Attributes
    ----------
    survey
        ``sdss``, ``desi`` or ``hsc``, as reasons name it.
    columns
        Columns, a field of a struct as ``image.flux``; those that a file does not have are passed over.
    from_row
        Record of a row of a batch; raises ``ValueError`` with the reason where there is none.
    rows_at_once
        Rows decoded together.
    of_file
        Takes the place of ``from_row`` where a row can only be read with what the rest of its file says.
    needless
        A column that is not read of row groups where a function of its least and its greatest value is true.
    """

    survey: str
    columns: tuple[str, ...]
    from_row: Callable[[pa.RecordBatch, int], Record]
    rows_at_once: int
    of_file: Callable[[ParquetFile], Callable[[pa.RecordBatch, int], Record]] | None = None
    needless: tuple[str, Callable[[Any, Any], bool]] | None = None


def read_footer(file: Any, size_bytes: int) -> pq.FileMetaData:
    """Return the description of an open Parquet file, and close the file.

    Magic and length are checked first: Arrow may end the process on a footer that is none. Raises ``ValueError`` if the
    file is no whole Parquet file.
    """
    with file:
        start = max(0, size_bytes - TAIL_BYTES)
        file.seek(start)
        tail = file.read(size_bytes - start)
        needed = int.from_bytes(tail[-8:-4], "little") + 8
        if len(tail) < 12 or tail[-4:] != b"PAR1" or needed > size_bytes - 4:
            raise ValueError("it is no whole Parquet file")
        if needed > len(tail):
            file.seek(size_bytes - needed)
            tail = file.read(needed - len(tail)) + tail
    try:
        return pq.read_metadata(pa.BufferReader(tail))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"its footer is damaged: {error}") from error


def column_names(schema: pa.Schema) -> frozenset[str]:
    """Return the columns of a file, the fields of a struct as ``image.flux`` too."""
    fields = {f"{each.name}.{field.name}" for each in schema if pa.types.is_struct(each.type) for field in each.type}
    return frozenset(schema.names) | fields


def check_needed(place: str, present: frozenset[str], needed: Mapping[str, str]) -> None:
    """Raise ValueError, naming the column and its purpose, where a file of a place lacks one that is needed."""
    for column, purpose in needed.items():
        if column not in present:
            listed = ", ".join(sorted(name for name in present if "." not in name)[:12])
            hint = "; a catalogue or preview without positions cannot be matched" if purpose == "position" else ""
            raise ValueError(
                f"{place} has no column {column}, which is needed for the {purpose}{hint}; its columns: {listed}"
            )


def read_columns(file: ParquetFile, groups: Sequence[int], names: Sequence[str]) -> pa.Table:
    """Return whole columns of some row groups."""
    with file.open(Event()) as opened:
        parquet = pq.ParquetFile(opened, metadata=file.footer(), pre_buffer=True)
        return parquet.read_row_groups(list(groups), columns=list(names), use_threads=False)


def parquet_records(
    file: ParquetFile, rows: NDArray[np.int64], payload: Payload[Record]
) -> Iterator[tuple[int, Record | str]]:
    """Yield (row, record, or the reason why there is none) of each wanted row, ascending; ``rows`` are in any order.

    A row group that cannot be decoded costs its own rows. The first row groups of a remote file are fetched from this
    call on, not only when the first record is taken. Raises ``OSError`` or ``UnavailableError`` where the file cannot
    be read now.
    """
    wanted = np.unique(np.asarray(rows, dtype=np.int64))
    return _records(_Fetches(file, wanted, payload) if file.fetches else None, file, wanted, payload)


def _records(
    fetches: "_Fetches | None", file: ParquetFile, wanted: NDArray[np.int64], payload: Payload[Record]
) -> Iterator[tuple[int, Record | str]]:
    damage = (*DAMAGE, pa.ArrowException)
    try:
        try:
            parts = _parts(file, wanted, payload) if fetches is None else fetches.parts()
            from_row = payload.from_row if payload.of_file is None else payload.of_file(file)
        except damage as error:
            reason = f"{payload.survey}: file {file_name(file.name)} is left out, {damage_text(error)}"
            yield from ((row, reason) for row in wanted.tolist())
            return
        for part in parts:
            batches = _opened(file, part, payload, Event()) if fetches is None else fetches.batches()
            places = _places(batches, part.rows - part.start)
            yield from row_records(payload.survey, file.name, part.rows, places, lambda at: from_row(*at), damage)
    finally:
        if fetches is not None:
            fetches.close()


@dataclass(frozen=True, slots=True)
class _Part:
    """What is read of a row group: its number, its first row, the wanted rows of the file, the columns."""

    group: int
    start: int
    rows: NDArray[np.int64]
    columns: list[str]


def _parts(file: ParquetFile, wanted: NDArray[np.int64], payload: Payload[Any]) -> list[_Part]:
    footer = file.footer()
    starts = np.cumsum([0, *(footer.row_group(group).num_rows for group in range(footer.num_row_groups))])
    group_of = np.searchsorted(starts, wanted, side="right") - 1
    present = column_names(footer.schema.to_arrow_schema())
    if payload.needless is not None and payload.needless[0] not in present:
        raise ValueError(f"it has no column {payload.needless[0]}")
    columns = [name for name in payload.columns if name in present]
    return [
        _Part(group, int(starts[group]), wanted[group_of == group], _needed(footer, group, columns, payload))
        for group in np.unique(group_of).tolist()
    ]


def _needed(footer: pq.FileMetaData, group: int, columns: list[str], payload: Payload[Any]) -> list[str]:
    """Return the columns of a row group that are read."""
    if payload.needless is None:
        return columns
    name, needless = payload.needless
    (chunk,) = column_chunks(footer, group, [name])
    known = chunk.statistics
    if known is None or not known.has_min_max or known.null_count != 0 or not needless(known.min, known.max):
        return columns
    return [column for column in columns if column != name]


def column_chunks(footer: pq.FileMetaData, group: int, columns: Sequence[str]) -> list[pq.ColumnChunkMetaData]:
    """Return what the footer states of some columns of a row group, each field of a struct by itself."""
    described = footer.row_group(group)
    chunks = map(described.column, range(described.num_columns))
    names = tuple(f"{name}." for name in columns)
    return [chunk for chunk in chunks if f"{chunk.path_in_schema}.".startswith(names)]


class _Fetches:
    """Row groups of a remote file, fetched in threads ahead of the caller from now on."""

    def __init__(self, file: ParquetFile, wanted: NDArray[np.int64], payload: Payload[Any]) -> None:
        stop, pool = Event(), ThreadPoolExecutor(file.fetches + 1, thread_name_prefix="row-groups")

        def fetch(part: _Part) -> Future[Iterator[pa.RecordBatch]]:
            return pool.submit(_started, file, part, payload, stop)

        def begin() -> tuple[list[_Part], deque[Future[Iterator[pa.RecordBatch]]], Iterator[_Part]]:
            parts = _parts(file, wanted, payload)
            most = max((_memory_bytes(file, part) for part in parts), default=1)
            ahead = min(max(1, AHEAD_BYTES // max(1, most)), file.fetches)
            return parts, deque(map(fetch, parts[:ahead])), iter(parts[ahead:])

        self._stop, self._pool, self._fetch, self._begun = stop, pool, fetch, pool.submit(begin)
        weakref.finalize(self, _end, stop, pool)

    def parts(self) -> list[_Part]:
        """Return what is read of the file."""
        return self._begun.result()[0]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the batches of the next one of the parts."""
        _, waiting, left = self._begun.result()
        present = waiting.popleft()
        waiting.extend(map(self._fetch, islice(left, 1)))
        yield from present.result()

    def close(self) -> None:
        """End all fetches, and their waits for a hub."""
        _end(self._stop, self._pool)
        self._pool.shutdown(wait=True)


def _end(stop: Event, pool: ThreadPoolExecutor) -> None:
    stop.set()  # so that nobody waits for a hub after a failure or Ctrl-C
    pool.shutdown(wait=False, cancel_futures=True)


def _places(batches: Iterator[pa.RecordBatch], wanted: NDArray[np.int64]) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Yield (batch, row of the batch) of the wanted rows of a row group."""
    first = 0
    for batch in batches:
        low, high = np.searchsorted(wanted, [first, first + batch.num_rows])
        for row in wanted[low:high].tolist():
            yield batch, row - first
        first += batch.num_rows
        if first > wanted[-1]:
            return


def _started(file: ParquetFile, part: _Part, payload: Payload[Any], stop: Event) -> Iterator[pa.RecordBatch]:
    """Return the batches of a row group whose bytes have arrived and whose first batch is decoded."""
    batches = _opened(file, part, payload, stop)
    first = next(batches, None)
    return batches if first is None else chain([first], batches)


def _opened(file: ParquetFile, part: _Part, payload: Payload[Any], stop: Event) -> Iterator[pa.RecordBatch]:
    remote = file.fetches > 0  # a remote file is decoded in threads of its own
    with file.open(stop) as opened:
        parquet = pq.ParquetFile(
            opened, metadata=file.footer(), pre_buffer=remote, buffer_size=0 if remote else STREAM_BYTES
        )
        yield from parquet.iter_batches(
            payload.rows_at_once, row_groups=[part.group], columns=part.columns, use_threads=not remote
        )


def _memory_bytes(file: ParquetFile, part: _Part) -> int:
    """Return the bytes of some columns of a row group, compressed and decoded."""
    chunks = column_chunks(file.footer(), part.group, part.columns)
    return sum(chunk.total_compressed_size + chunk.total_uncompressed_size for chunk in chunks)

"""Parquet files of a hub repository, read by byte ranges: the footer, then the wanted columns of one row group.

A row group is fetched in pieces by several connections at once into a sparse map of its file, from which Arrow decodes
it batch by batch: nothing but the wanted columns of wanted row groups moves, and one row group is held at a time.
"""

import mmap
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mmagn.surveys.hub.client import HubClient

TAIL_BYTES = 1 << 15
"""First guess at the length of a footer."""
PIECE_BYTES = 1 << 23
"""Most bytes of one request, so that several connections share a row group."""
HOLE_BYTES = 1 << 13
"""Bytes between two wanted ranges that are cheaper to fetch than a second request."""
KEPT_BYTES = 1 << 28
"""Compressed row groups of one repository that are kept because the next call often wants them again."""
KEPT_FOOTERS = 2048
_PARTITION = re.compile(r"(?:(?P<catalog>.*)/)?dataset/Norder=\d+/Dir=\d+/Npix=\d+(?:/[^/]+)?(?:\.parquet)")
_FILE_TEXT = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)@(?P<commit>[^/]+)/(?P<path>.+)#(?P<size_bytes>\d+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class HubFile:
    """One file of a dataset repository at a commit; its text says all, so that any process can read it.

    Attributes
    ----------
    repository, commit, path
        Where it is.
    size_bytes
        Its size.
    """

    repository: str
    commit: str
    path: str
    size_bytes: int

    def __str__(self) -> str:
        return f"{self.repository}@{self.commit}/{self.path}#{self.size_bytes}"

    @classmethod
    def from_text(cls, text: str) -> "HubFile":
        """Return the file of a text made by ``str``.

        Raises
        ------
        ValueError
            If the text was not.
        """
        match = _FILE_TEXT.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is no file of a hub; expected ORG/NAME@COMMIT/PATH#BYTES")
        named = match.groupdict()
        return cls(
            repository=named["repository"],
            commit=named["commit"],
            path=named["path"],
            size_bytes=int(named["size_bytes"]),
        )


def catalog_files(client: HubClient, repository: str, revision: str) -> tuple[HubFile, ...]:
    """Return the Parquet files of the one catalogue of a repository, by path, without its margin.

    A repository in HATS layout is a collection that may also hold a margin; any other one is taken whole.

    Raises
    ------
    ValueError
        If the hub or the repository cannot be read, or it holds no Parquet file, or more than one catalogue.
    """
    commit = client.commit(repository, revision)
    sizes = client.files(repository, commit)
    partitions: dict[str, list[str]] = {}
    for path in sorted(sizes):
        if match := _PARTITION.fullmatch(path):
            partitions.setdefault(match["catalog"] or "", []).append(path)
    if partitions:
        paths = partitions[_primary(client, repository, commit, sizes, sorted(partitions))]
    else:
        paths = sorted(path for path in sizes if path.endswith(".parquet"))
    if not paths:
        raise ValueError(f"the dataset repository {repository} at {commit} holds no Parquet file")
    return tuple(HubFile(repository=repository, commit=commit, path=path, size_bytes=sizes[path]) for path in paths)


def _primary(client: HubClient, repository: str, commit: str, sizes: Mapping[str, int], catalogs: Sequence[str]) -> str:
    """Return the folder of the catalogue itself where a collection also holds margins."""
    if "collection.properties" in sizes:
        told = client.text(repository, commit, "collection.properties")
        named = re.search(r"^hats_primary_table_url\s*=\s*(\S+)\s*$", told, re.MULTILINE)
        if named and named[1].strip("/") in catalogs:
            return named[1].strip("/")
    main = [name for name in catalogs if not any(name.startswith(f"{other}_") for other in catalogs)]
    if "" in catalogs:
        return ""
    if len(main) > 1:
        raise ValueError(
            f"the dataset repository {repository} holds {len(main)} catalogues ({', '.join(main)}) and no "
            "collection.properties that says which one is meant"
        )
    return main[0]


class HubParquet:
    """Parquet files of a hub, through one connection; footers and the last row groups are kept.

    Parameters
    ----------
    client
        Connection to the hub.
    """

    def __init__(self, client: HubClient) -> None:
        self.client = client
        self._footers: OrderedDict[HubFile, pq.FileMetaData] = OrderedDict()
        self._kept: OrderedDict[tuple[HubFile, int, tuple[str, ...]], tuple[mmap.mmap, int]] = OrderedDict()
        self._lock = Lock()

    def footer(self, file: HubFile) -> pq.FileMetaData:
        """Return the description of a file: its columns, row groups and where their bytes lie.

        Raises
        ------
        ValueError
            If the file is no Parquet file, or the hub fails.
        """
        with self._lock:
            if file in self._footers:
                return self._footers[file]
        start = max(0, file.size_bytes - TAIL_BYTES)
        tail = self._read(file, start, file.size_bytes)
        needed = int.from_bytes(tail[-8:-4], "little") + 8
        if len(tail) < 12 or tail[-4:] != b"PAR1" or needed > file.size_bytes:
            raise ValueError(f"{file.repository} {file.path} is no whole Parquet file")
        if needed > len(tail):
            tail = self._read(file, file.size_bytes - needed, start) + tail
        try:
            footer = pq.read_metadata(pa.BufferReader(tail))
        except (pa.ArrowInvalid, OSError) as error:
            raise ValueError(f"{file.repository} {file.path} has a damaged footer: {error}") from error
        with self._lock:
            self._footers[file] = footer
            while len(self._footers) > KEPT_FOOTERS:
                self._footers.popitem(last=False)
        return footer

    def columns(self, file: HubFile, groups: Sequence[int], names: Sequence[str]) -> pa.Table:
        """Return whole columns of some row groups of a file."""
        footer = self.footer(file)
        ranges = [part for group in groups for part in _ranges(footer, group, names)]
        source = self._mapped(file, _joined(ranges))
        return _opened(source, footer).read_row_groups(list(groups), columns=list(names), use_threads=False)

    def rows(
        self, file: HubFile, wanted: NDArray[np.int64], names: Sequence[str], rows_at_once: int
    ) -> Iterator[tuple[int, pa.RecordBatch, int]]:
        """Yield (row of the file, batch, row of the batch) of the wanted rows, ascending, one row group at a time.

        Raises
        ------
        ValueError
            If the hub fails, or a row group cannot be decoded.
        """
        footer = self.footer(file)
        lengths = [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]
        starts = np.cumsum([0, *lengths])
        group_of = np.searchsorted(starts, wanted, side="right") - 1
        for group in np.unique(group_of).tolist():
            inside = wanted[group_of == group] - starts[group]
            source = self._row_group(file, group, tuple(names))
            batches = _opened(source, footer).iter_batches(
                rows_at_once, row_groups=[group], columns=list(names), use_threads=False
            )
            first = 0
            for batch in batches:
                for row in inside[(inside >= first) & (inside < first + batch.num_rows)].tolist():
                    yield int(starts[group]) + row, batch, row - first
                first += batch.num_rows
                if first > inside[-1]:
                    break

    def group_bytes(self, file: HubFile, group: int, names: Sequence[str]) -> int:
        """Return the compressed bytes of some columns of a row group."""
        return sum(stop - start for start, stop in _ranges(self.footer(file), group, names))

    def _row_group(self, file: HubFile, group: int, names: tuple[str, ...]) -> mmap.mmap:
        key = (file, group, names)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][0]
        ranges = _joined(_ranges(self.footer(file), group, names))
        size = sum(stop - start for start, stop in ranges)
        self._make_room(file.repository, size)
        source = self._mapped(file, ranges)
        with self._lock:
            self._kept[key] = (source, size)
        return source

    def _make_room(self, repository: str, size: int) -> None:
        """Forget the oldest row groups of a repository until a new one fits."""
        with self._lock:
            of_repository = [key for key in self._kept if key[0].repository == repository]
            total = size + sum(self._kept[key][1] for key in of_repository)
            for key in of_repository:
                if total <= KEPT_BYTES:
                    break
                total -= self._kept.pop(key)[1]

    def _mapped(self, file: HubFile, ranges: Sequence[tuple[int, int]]) -> mmap.mmap:
        """Return a map as long as the file that holds the given byte ranges; the rest takes no memory."""
        source = mmap.mmap(-1, file.size_bytes)
        view = memoryview(source)
        self.client.in_parallel(
            [
                partial(self.client.read_into, view[start:stop], file.repository, file.commit, file.path, start)
                for start, stop in _pieces(ranges)
            ]
        )
        return source

    def _read(self, file: HubFile, start: int, stop: int) -> bytearray:
        return self.client.read(file.repository, file.commit, file.path, start, stop)


def _opened(source: mmap.mmap, footer: pq.FileMetaData) -> pq.ParquetFile:
    return pq.ParquetFile(pa.BufferReader(pa.py_buffer(source)), metadata=footer)


def _ranges(footer: pq.FileMetaData, group: int, names: Sequence[str]) -> list[tuple[int, int]]:
    """Return the byte ranges of the wanted columns (all parts of a nested one) of a row group."""
    described = footer.row_group(group)
    ranges = []
    for number in range(described.num_columns):
        column = described.column(number)
        if any(column.path_in_schema == name or column.path_in_schema.startswith(f"{name}.") for name in names):
            start = column.data_page_offset
            if column.has_dictionary_page and column.dictionary_page_offset is not None:
                start = min(start, column.dictionary_page_offset)
            ranges.append((start, start + column.total_compressed_size))
    return ranges


def _joined(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return ranges in order, those with no more than a small hole between them as one."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if joined and start - joined[-1][1] <= HOLE_BYTES:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return joined


def _pieces(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return ranges cut into pieces of at most ``PIECE_BYTES``."""
    return [
        (place, min(place + PIECE_BYTES, stop)) for start, stop in ranges for place in range(start, stop, PIECE_BYTES)
    ]

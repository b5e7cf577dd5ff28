"""Wanted rows of an HDF5 dataset in one pass: every chunk inflated once, a bounded number of rows in memory.

Published images are compressed in chunks that span tens of rows but only a corner of one band, so the wanted rows
are taken one row-block of chunks at a time. Plain gzip chunks, with or without the shuffle filter, are read straight
from their offsets in the file and inflated in threads, outside HDF5's global lock; any other layout goes
through h5py, one slab per block, which inflates each chunk once as well.
"""

import math
import os
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mmagn.surveys.reader import in_advance

try:
    import deflate
except ImportError:  # libdeflate is not built for every machine; the standard library reads the same format
    deflate = None  # type: ignore[assignment]

BLOCK_BYTES = 128 * 2**20
"""Most bytes of wanted rows of one dataset in one block; two blocks are under way at once."""
PART_BYTES = 2**29
"""Most bytes of one row, and of one chunk, of a dataset."""
CHUNKS_PER_TASK = 16

_DAMAGE: tuple[type[Exception], ...] = (zlib.error,) if deflate is None else (zlib.error, deflate.DeflateError)
_GZIP = (h5py.h5z.FILTER_DEFLATE,)
_SHUFFLE_GZIP = (h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE)


def wanted_rows(dataset: h5py.Dataset, rows: NDArray[np.int64], pool: Executor) -> Iterator[NDArray[Any]]:
    """Yield the wanted rows of a dataset one by one, in the byte order of the file.

    While the caller works on one block of rows, the next one is already being inflated.

    Parameters
    ----------
    dataset
        (row, ...) of any layout.
    rows
        (wanted,) ascending, without repetition, all below ``len(dataset)``.
    pool
        Threads that read and inflate; they must end before the file is closed.

    Raises
    ------
    ValueError
        If a chunk is damaged; the sentence names dataset and chunk.
    OSError
        If HDF5 cannot read the dataset.
    """
    for part, shape in (("row", dataset.shape[1:]), ("chunk", dataset.chunks or ())):
        if math.prod(shape) * dataset.dtype.itemsize > PART_BYTES:
            raise ValueError(f"{dataset.name}: one {part} takes more than {PART_BYTES / 1e9:.2g} GB")
    chunks = _gzip_chunks(dataset, rows)
    started = (
        pool.submit(_slab, dataset, block).result if chunks is None else _inflating(dataset, chunks, block, pool)
        for block in _row_blocks(dataset, rows)
    )
    for result in in_advance(started):
        yield from result()
        del result  # so that its rows are let go before another block is started


def _row_blocks(dataset: h5py.Dataset, rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield the wanted rows, split where a row-block of chunks begins or, without chunks, where rows are skipped."""
    row_bytes = math.prod(dataset.shape[1:]) * dataset.dtype.itemsize
    most = max(1, BLOCK_BYTES // max(1, row_bytes))
    group = rows // dataset.chunks[0] if dataset.chunks else rows - np.arange(len(rows))
    for block in np.split(rows, np.flatnonzero(np.diff(group)) + 1):
        for start in range(0, len(block), most):
            yield block[start : start + most]


def _slab(dataset: h5py.Dataset, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Return rows of one block through h5py, as one contiguous selection."""
    slab: NDArray[Any] = dataset[rows[0] : rows[-1] + 1]
    return slab if len(slab) == len(rows) else slab[rows - rows[0]]


@dataclass(frozen=True, kw_only=True, slots=True)
class _GzipChunks:
    """Where the chunks of a dataset lie in its file, and how to inflate them."""

    name: str
    descriptor: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    shuffled: bool
    stored: Mapping[int, Sequence[h5py.h5d.StoreInfo]]


def _gzip_chunks(dataset: h5py.Dataset, rows: NDArray[np.int64]) -> _GzipChunks | None:
    """Return where the chunks lie that hold wanted rows, or None where h5py has to read the dataset."""
    file = dataset.file
    plist = dataset.id.get_create_plist()
    filters = tuple(plist.get_filter(index)[0] for index in range(plist.get_nfilters()))
    plain_file = file.driver == "sec2" and file.userblock_size == 0
    if dataset.chunks is None or filters not in (_GZIP, _SHUFFLE_GZIP) or not plain_file:
        return None
    starts = set((rows // dataset.chunks[0] * dataset.chunks[0]).tolist())
    stored: defaultdict[int, list[h5py.h5d.StoreInfo]] = defaultdict(list)

    def keep(chunk: h5py.h5d.StoreInfo) -> None:
        if chunk.chunk_offset[0] in starts:
            stored[chunk.chunk_offset[0]].append(chunk)

    dataset.id.chunk_iter(keep)
    return _GzipChunks(
        name=dataset.name,
        descriptor=file.id.get_vfd_handle(),
        shape=dataset.chunks,
        dtype=dataset.dtype,
        shuffled=filters == _SHUFFLE_GZIP,
        stored=stored,
    )


def _inflating(
    dataset: h5py.Dataset, chunks: _GzipChunks, rows: NDArray[np.int64], pool: Executor
) -> Callable[[], NDArray[Any]]:
    """Start to inflate one block of wanted rows; the result returns them once every chunk is in place."""
    start = int(rows[0]) // chunks.shape[0] * chunks.shape[0]
    stored = chunks.stored.get(start, ())
    values = np.full((len(rows), *dataset.shape[1:]), dataset.fillvalue, dtype=dataset.dtype)
    tasks = [
        pool.submit(_fill, chunks, stored[first : first + CHUNKS_PER_TASK], rows - start, values)
        for first in range(0, len(stored), CHUNKS_PER_TASK)
    ]

    def result() -> NDArray[Any]:
        for task in tasks:
            task.result()
        return values

    return result


def _fill(
    chunks: _GzipChunks, stored: Sequence[h5py.h5d.StoreInfo], rows_in_chunk: NDArray[np.int64], values: NDArray[Any]
) -> None:
    """Put the wanted rows of some chunks of one row-block where they belong in ``values``."""
    for chunk in stored:
        corner = chunk.chunk_offset[1:]
        ends = map(int.__add__, corner, chunks.shape[1:])
        part = values[(slice(None), *map(slice, corner, ends))]
        inside = tuple(map(slice, part.shape[1:]))
        part[...] = _chunk_values(chunks, chunk)[:, *inside][rows_in_chunk]


def inflated(data: bytes | bytearray, size: int) -> bytes | bytearray:
    """Return what a gzip chunk of HDF5 held, ``size`` bytes; libdeflate is the fastest at floats and at masks."""
    return zlib.decompress(data, bufsize=size) if deflate is None else deflate.zlib_decompress(data, size)


def _chunk_values(chunks: _GzipChunks, chunk: h5py.h5d.StoreInfo) -> NDArray[Any]:
    """Return the values of one chunk."""
    data: bytes | bytearray = os.pread(chunks.descriptor, chunk.size, chunk.byte_offset)
    size = math.prod(chunks.shape) * chunks.dtype.itemsize
    # HDF5 sets a bit for each filter of the row that a chunk skipped; the shuffle comes before gzip.
    skipped = chunk.filter_mask
    if not skipped & (0b10 if chunks.shuffled else 0b01):
        try:
            data = inflated(data, size)
        except _DAMAGE as damage:
            raise ValueError(f"{chunks.name} is damaged in the chunk at {chunk.chunk_offset}: {damage}") from damage
    if len(data) != size:
        raise ValueError(f"{chunks.name} is damaged in the chunk at {chunk.chunk_offset}: wrong length")
    if chunks.shuffled and not skipped & 0b01:
        planes = np.frombuffer(data, dtype=np.uint8).reshape(chunks.dtype.itemsize, -1)
        data = planes.T.tobytes()
    return np.frombuffer(data, dtype=chunks.dtype).reshape(chunks.shape)

"""Wanted rows of an HDF5 dataset in one pass: every chunk inflated once, a bounded number of rows in memory.

Published images are compressed in chunks that span tens of rows but only a corner of one band, so the wanted rows
are taken one row-block of chunks at a time. Plain gzip chunks, with or without the shuffle filter, are read
as they are stored and inflated in threads, outside HDF5's global lock; any other layout goes through h5py, one slab
per block, which inflates each chunk once as well.
"""

import itertools
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

try:
    from isal.isal_zlib import decompress, error

    DAMAGE: type[Exception] = error  # type: ignore[assignment]  # the stub calls the class an instance
except ImportError:  # ISA-L is not built for every machine; the standard library reads the same format
    decompress = zlib.decompress

    DAMAGE = zlib.error

BLOCK_BYTES = 64 * 2**20
"""Most bytes of wanted rows of one dataset in one block; two blocks are under way at once."""
CHUNKS_PER_TASK = 16

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
        Threads that read and inflate.

    Raises
    ------
    ValueError
        If a chunk is damaged; the sentence names dataset and chunk.
    OSError
        If HDF5 cannot read the dataset.
    """
    pending: Future[NDArray[Any]] | _Inflating | None = None
    for block in _row_blocks(dataset, rows):
        following = _Inflating(dataset, block, pool) if _is_gzip(dataset) else pool.submit(_slab, dataset, block)
        if pending is not None:
            yield from pending.result()
        pending = following
    if pending is not None:
        yield from pending.result()


def _row_blocks(dataset: h5py.Dataset, rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield the wanted rows, split where a new row-block of chunks begins or, without chunks, where rows are skipped.

    A block of more than ``BLOCK_BYTES`` is split further, at the price of inflating its chunks again.
    """
    row_bytes = int(np.prod(dataset.shape[1:], dtype=np.int64)) * dataset.dtype.itemsize
    most = max(1, BLOCK_BYTES // max(1, row_bytes))
    group = rows // dataset.chunks[0] if dataset.chunks else rows - np.arange(len(rows))
    for block in np.split(rows, np.flatnonzero(np.diff(group)) + 1):
        for start in range(0, len(block), most):
            yield block[start : start + most]


def _slab(dataset: h5py.Dataset, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Return rows of one block through h5py, as one contiguous selection."""
    slab: NDArray[Any] = dataset[rows[0] : rows[-1] + 1]
    return slab if len(slab) == len(rows) else slab[rows - rows[0]]


def _filters(dataset: h5py.Dataset) -> tuple[int, ...]:
    """Return the codes of the filters that each chunk went through, in the order of writing."""
    plist = dataset.id.get_create_plist()
    return tuple(plist.get_filter(index)[0] for index in range(plist.get_nfilters()))


def _is_gzip(dataset: h5py.Dataset) -> bool:
    """Return whether this module can inflate the chunks itself."""
    return dataset.chunks is not None and _filters(dataset) in (_GZIP, _SHUFFLE_GZIP)


class _Inflating:
    """One block of wanted rows on its way from gzip chunks, named and used like a future."""

    def __init__(self, dataset: h5py.Dataset, rows: NDArray[np.int64], pool: Executor) -> None:
        first, *steps = dataset.chunks
        row_start = int(rows[0]) // first * first
        self._values = np.full((len(rows), *dataset.shape[1:]), dataset.fillvalue, dtype=dataset.dtype)
        corners = list(itertools.product(*map(range, itertools.repeat(0), dataset.shape[1:], steps)))
        self._tasks = [
            pool.submit(_fill, dataset, corners[start : start + CHUNKS_PER_TASK], rows, row_start, self._values)
            for start in range(0, len(corners), CHUNKS_PER_TASK)
        ]

    def result(self) -> NDArray[Any]:
        """Return the rows once every chunk is in place."""
        for task in self._tasks:
            task.result()
        return self._values


def _fill(
    dataset: h5py.Dataset,
    corners: Sequence[tuple[int, ...]],
    rows: NDArray[np.int64],
    row_start: int,
    values: NDArray[Any],
) -> None:
    """Put the wanted rows of some chunks, all beginning at ``row_start``, where they belong in ``values``."""
    shuffled = _filters(dataset) == _SHUFFLE_GZIP
    for corner in corners:
        chunk = _chunk(dataset, (row_start, *corner), shuffled)
        if chunk is not None:
            ends = map(int.__add__, corner, dataset.chunks[1:])
            part = values[(slice(None), *map(slice, corner, ends))]
            inside = tuple(map(slice, part.shape[1:]))
            part[...] = chunk[:, *inside][rows - row_start]


def _chunk(dataset: h5py.Dataset, corner: tuple[int, ...], shuffled: bool) -> NDArray[Any] | None:
    """Return one chunk, inflated, or None where the file stores none (its values are the fill value).

    Raises
    ------
    ValueError
        If the stored bytes are no gzip stream of the right length.
    """
    if dataset.id.get_chunk_info_by_coord(corner).byte_offset is None:
        return None
    skipped, data = dataset.id.read_direct_chunk(corner)
    size = int(np.prod(dataset.chunks)) * dataset.dtype.itemsize
    if not skipped & (0b10 if shuffled else 0b1):
        try:
            data = decompress(data, bufsize=size)
        except DAMAGE as damage:
            raise ValueError(f"{dataset.name} is damaged in the chunk at {corner}: {damage}") from damage
    if len(data) != size:
        raise ValueError(f"{dataset.name} is damaged in the chunk at {corner}: {len(data)} bytes instead of {size}")
    if shuffled and not skipped & 0b1:
        planes = np.frombuffer(data, dtype=np.uint8).reshape(dataset.dtype.itemsize, -1)
        data = np.ascontiguousarray(planes.T)
    return np.frombuffer(data, dtype=dataset.dtype).reshape(dataset.chunks)

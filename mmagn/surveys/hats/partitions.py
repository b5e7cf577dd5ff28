"""Pixels of chosen rows of one partition of a HATS catalogue, straight from the row groups that hold them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets.features import features
from numpy.typing import NDArray

from mmagn.surveys.damage import DAMAGE
from mmagn.surveys.hats.dask_client import optional_module
from mmagn.surveys.reader import Record, row_records

_ARRAY_TYPES = tuple(f"Array{axes}DExtensionType" for axes in (2, 3, 4, 5))
_READING_LISTS = Lock()

STREAM_BYTES = 1 << 20
"""Bytes of a column read ahead from a disk."""
REMOTE_STREAM_BYTES = 8 << 20
"""Bytes of a column asked for at once from a server."""


@dataclass(frozen=True, slots=True)
class PartitionColumns:
    """What is read of a partition: survey name, column names and how many rows at once."""

    instrument: str
    names: tuple[str, ...]
    rows_at_once: int


def partition_records(
    path: str, rows: NDArray[np.int64], columns: PartitionColumns, from_row: Callable[[pa.RecordBatch, int], Record]
) -> Iterator[tuple[int, Record | str]]:
    """Yield (row, record, or the reason why there is none) of each wanted row of a partition, ascending."""
    wanted = np.unique(np.asarray(rows, dtype=np.int64))
    places = ((batch, place) for _, batch, place in _wanted_rows(path, wanted, columns))
    damage = (*DAMAGE, pa.ArrowException)
    return row_records(columns.instrument, path, wanted, places, lambda place: from_row(*place), damage)


def _wanted_rows(
    path: str, wanted: NDArray[np.int64], columns: PartitionColumns
) -> Iterator[tuple[int, pa.RecordBatch, int]]:
    """Yield (row, batch, place in the batch); row groups without a wanted row are not read."""
    start = 0
    for part in _parquet_files(path):
        remote = part.protocol not in ("", "file")
        # The columns of a row group are read in turns; a cache of fsspec would read ahead anew at each turn.
        with part.open("rb", **({"cache_type": "none"} if remote else {})) as opened:
            file = pq.ParquetFile(opened, buffer_size=REMOTE_STREAM_BYTES if remote else STREAM_BYTES, pre_buffer=False)
            present = [name for name in columns.names if name in file.schema_arrow.names]
            for group in range(file.num_row_groups):
                end = start + file.metadata.row_group(group).num_rows
                if np.searchsorted(wanted, start) < np.searchsorted(wanted, end):
                    batches = file.iter_batches(columns.rows_at_once, row_groups=[group], columns=present)
                    for batch in batches:
                        low, high = np.searchsorted(wanted, [start, start + batch.num_rows])
                        for row in wanted[low:high].tolist():
                            yield row, batch, row - start
                        start += batch.num_rows
                start = end


def _parquet_files(path: str) -> list[Any]:
    """Return the file of a partition, or the files where a partition is a folder, in the order LSDB reads them."""
    upath = optional_module("upath").UPath(path)
    return sorted(upath.glob("*.parquet")) if path.endswith("/") or upath.is_dir() else [upath]


@contextmanager
def arrays_as_lists() -> Iterator[None]:
    """Have schemas read in this context hold nested lists where ``datasets`` has registered array types of its own.

    The converter of the published catalogues types images with them. LSDB cannot open a catalogue with such a type,
    even where no column of it is asked for.
    """
    with _READING_LISTS:
        for name in _ARRAY_TYPES:
            pa.unregister_extension_type(f"{features.__name__}.{name}")
        try:
            yield
        finally:
            for axes, name in enumerate(_ARRAY_TYPES, start=2):
                pa.register_extension_type(getattr(features, name)((1,) * axes, "int64"))

"""Vectors of objects, such as the embeddings of a foundation model, in Parquet files: an id and a vector a row."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mmagn.storage.files import whole_file
from mmagn.storage.table_reading import read_table

Vectors = NDArray[np.float32]
ID_COLUMNS = ("id", "object_id", "sdss_object_id", "hsc_object_id", "targetid")
VECTOR_COLUMN = "embedding"


def write_vectors(path: Path, ids: Sequence[str], vectors: NDArray[np.float32]) -> None:
    """Write ids (object,) and vectors (object, length) as the columns ``id`` and ``embedding`` of a Parquet file.

    Raises ``ValueError`` where the name of the file does not end in .parquet.
    """
    check_vector_file(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).ravel())
    column = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    with whole_file(path) as part:
        pq.write_table(pa.table({"id": pa.array(list(ids), pa.string()), VECTOR_COLUMN: column}), part)


def check_vector_file(path: Path) -> None:
    """Raise ``ValueError`` where no vectors are written under the name of a file."""
    if path.suffix != ".parquet":
        raise ValueError(f"{path.name} cannot hold vectors; allowed: a name that ends in .parquet")


def read_vectors(path: Path) -> tuple[list[str], Vectors]:
    """Return ids (row,) and vectors (row, length), NaN where one is missing or not finite.

    They are read from a Parquet file, or a folder of such files (HATS), with one column of ids (one of ``ID_COLUMNS``)
    and one of lists of numbers of one length. Raises ``ValueError`` where it is no such table, or an id comes twice:
    one sentence with the path.
    """
    table = read_table(path)
    by_name = {name.lower(): name for name in table.colnames}
    id_name = next((by_name[name] for name in ID_COLUMNS if name in by_name), None)
    matrices = [name for name in table.colnames if table[name].ndim == 2]
    chosen = [name for name in matrices if name.lower() == VECTOR_COLUMN] or matrices
    if id_name is None or len(chosen) != 1:
        raise ValueError(
            f"{path} has no column of ids ({', '.join(ID_COLUMNS)}) and one of vectors (lists of equal length); "
            f"it has {', '.join(table.colnames)}"
        )
    ids = [str(each).strip() for each in np.ma.filled(np.ma.asarray(table[id_name]).astype(np.str_), "").tolist()]
    (twice, count), *_ = Counter(ids).most_common(1) or [("", 0)]
    if count > 1:
        raise ValueError(f"{path} has the id {twice} more than once")
    with np.errstate(over="ignore"):
        vectors = np.ma.filled(np.ma.asarray(table[chosen[0]]).astype(np.float32), np.nan)
    vectors[~np.isfinite(vectors).all(axis=1)] = np.nan
    return ids, vectors


@dataclass(frozen=True, kw_only=True, eq=False)
class VectorTable:
    """Vectors by id: the row of each id, and (row, length) vectors, NaN where one is missing."""

    path: Path
    row_of: Mapping[str, int]
    vectors: Vectors

    @property
    def length(self) -> int:
        """Length of each vector."""
        return int(self.vectors.shape[1])

    def of(self, *ids: Sequence[str]) -> Vectors:
        """Return the vector (object, length) of each object, NaN where there is none.

        ``ids`` are (object,) ids of one kind after another, such as those of spectra and of images; of each object the
        first that the table has counts.
        """
        rows = np.full(len(ids[0]), -1, dtype=np.int64)
        for kind in ids:
            rows = np.where(rows < 0, [self.row_of.get(str(name), -1) for name in kind], rows)
        return np.where(rows[:, None] >= 0, self.vectors[rows], np.float32(np.nan))


def vector_table(file: str) -> VectorTable:
    """Return the vectors of ``data.embeddings``, see :func:`read_vectors`; read once while the file stays the same."""
    if not file:
        raise ValueError("models.branches has embedding, but data.embeddings names no file of vectors; name it")
    path = Path(file).expanduser()
    return _read_once(path, path.stat().st_mtime_ns if path.exists() else 0)


@lru_cache(maxsize=1)
def _read_once(path: Path, changed_ns: int) -> VectorTable:  # noqa: ARG001 another file of the same name is read anew
    ids, vectors = read_vectors(path)
    return VectorTable(path=path, row_of={name: row for row, name in enumerate(ids)}, vectors=vectors)


def vectors_of(file: str, *ids: Sequence[str]) -> Vectors:
    """Return the vector (object, length) of each object, as :meth:`VectorTable.of`.

    Raises ``ValueError`` where not one object has a vector.
    """
    table = vector_table(file)
    vectors = table.of(*ids)
    if not np.isfinite(vectors).any():
        examples = ", ".join(str(kind[0]) for kind in ids if len(kind))
        raise ValueError(
            f"{table.path} has no vector for any of {len(vectors)} objects: its first id is "
            f"{next(iter(table.row_of), 'none')}; allowed: ids such as {examples}"
        )
    return vectors

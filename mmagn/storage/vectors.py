"""Vectors of objects, such as the embeddings of a foundation model, in Parquet files: an id and a vector a row."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mmagn.records import Floats
from mmagn.storage.files import whole_file
from mmagn.storage.table_reading import read_table

ID_COLUMNS = ("id", "object_id", "sdss_object_id", "hsc_object_id", "targetid")
VECTOR_COLUMN = "embedding"


def write_vectors(path: Path, ids: Sequence[str], vectors: NDArray[np.float32]) -> None:
    """Write ids (object,) and vectors (object, length) as the columns ``id`` and ``embedding`` of a Parquet file.

    Raises
    ------
    ValueError
        Where the name of the file does not end in .parquet.
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


def read_vectors(path: Path) -> tuple[list[str], Floats]:
    """Return ids (row,) and vectors (row, length), NaN where one is missing or not finite.

    Parameters
    ----------
    path
        Parquet file, or folder of such files (HATS), with one column of ids (one of ``ID_COLUMNS``) and one of lists of
        numbers of one length.

    Raises
    ------
    ValueError
        Where it is no such table, or an id comes twice: one sentence with the path.
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
    if len(set(ids)) < len(ids):
        twice = next(each for each in sorted(ids) if ids.count(each) > 1)
        raise ValueError(f"{path} has the id {twice} more than once")
    vectors = np.ma.filled(np.ma.asarray(table[chosen[0]], dtype=np.float64), np.nan)
    vectors[~np.isfinite(vectors).all(axis=1)] = np.nan
    return ids, vectors


def vectors_of(path: Path, *ids: Sequence[str]) -> Floats:
    """Return the vector (object, length) of each object, NaN where there is none.

    Parameters
    ----------
    path
        As of :func:`read_vectors`.
    ids
        (object,) ids of one kind after another, such as those of spectra and of images; the first kind that a row of
        the table has counts.

    Raises
    ------
    ValueError
        Where not one object has a vector.
    """
    names, vectors = read_vectors(path)
    row_of = {name: row for row, name in enumerate(names)}
    for kind in ids:
        rows = np.array([row_of.get(str(name), -1) for name in kind], dtype=np.int64)
        if (rows >= 0).any():
            wanted = np.where(rows[:, None] >= 0, vectors[rows], np.nan)
            if np.isfinite(wanted).any():
                return np.asarray(wanted)
    examples = ", ".join(str(kind[0]) for kind in ids if len(kind))
    raise ValueError(
        f"{path} has no vector for any of {len(ids[0])} objects: its first id is {names[0] if names else 'none'}; "
        f"allowed: ids such as {examples}"
    )

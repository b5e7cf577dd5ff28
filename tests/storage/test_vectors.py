"""Files of vectors: read as they were written, looked up by id, and refused where they hold none."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmagn.storage.vectors import read_vectors, vectors_of, write_vectors


def test_vectors_come_back_as_they_were_written(tmp_path: Path) -> None:
    vectors = np.random.default_rng(4).normal(size=(5, 3)).astype(np.float32)
    write_vectors(tmp_path / "vectors.parquet", list("abcde"), vectors)
    ids, again = read_vectors(tmp_path / "vectors.parquet")
    assert ids == list("abcde")
    np.testing.assert_array_equal(again, vectors)
    wanted = vectors_of(str(tmp_path / "vectors.parquet"), ["d", "x", "y"], ["b", "b", "z"])
    np.testing.assert_array_equal(wanted[:2], vectors[[3, 1]])
    assert np.isnan(wanted[2]).all()
    write_vectors(tmp_path / "vectors.parquet", ["d"], vectors[:1])
    np.testing.assert_array_equal(vectors_of(str(tmp_path / "vectors.parquet"), ["d"]), vectors[:1])
    folder = tmp_path / "catalog" / "dataset" / "Norder=0"
    folder.mkdir(parents=True)
    table = pa.table({"TARGETID": [7, 8], "aion": pa.array([[1.0, 2.0], None])})
    pq.write_table(table, folder / "Npix=0.parquet")
    of_hats = vectors_of(str(tmp_path / "catalog"), ["7", "8"])
    np.testing.assert_array_equal(of_hats, [[1, 2], [np.nan, np.nan]])


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"id": ["a", "a"], "embedding": [[1.0], [2.0]]}, "the id a more than once"),
        ({"id": ["a", "b"], "embedding": [[1.0], [2.0, 3.0]]}, "one of vectors"),
        ({"name": ["a", "b"], "embedding": [[1.0], [2.0]]}, "no column of ids"),
        ({"id": ["a", "b"], "one": [[1.0], [2.0]], "two": [[1.0], [2.0]]}, "one of vectors"),
        ({"id": ["a", "b"], "embedding": [[1.0], [2.0]]}, "no vector for any of 1 objects: its first id is a"),
    ],
)
def test_a_table_without_vectors_for_the_objects_is_refused(tmp_path: Path, columns: dict, sentence: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "vectors.parquet")
    with pytest.raises(ValueError, match=sentence):
        vectors_of(str(tmp_path / "vectors.parquet"), ["c"])


def test_a_branch_of_vectors_without_a_file_names_the_setting() -> None:
    with pytest.raises(ValueError, match=r"models\.branches has embedding, but data\.embeddings names no file"):
        vectors_of("", ["1"])

"""Rows of a dataset come out equal whatever its layout, and each chunk is inflated once."""

import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mmagn.surveys.hdf5 import chunks
from mmagn.surveys.hdf5.chunks import wanted_rows

SHAPE = (83, 3, 10, 12)
CHUNKS = (19, 1, 4, 5)
CHUNKS_OF_A_BLOCK = 3 * 3 * 3
WANTED = np.array([0, 1, 18, 19, 40, 41, 82])
VALUES = np.random.default_rng(2).integers(0, 50, SHAPE).astype("f4")


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(3) as threads:
        yield threads


def written(path: Path, values: Any = VALUES, **options: Any) -> h5py.Dataset:
    with h5py.File(path, "w") as file:
        file.create_dataset("image", data=values, **options)
    return h5py.File(path, "r")["image"]


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "gzip", "chunks": CHUNKS},
        {"compression": "gzip", "chunks": CHUNKS, "shuffle": True},
        {"compression": "gzip", "chunks": CHUNKS, "fletcher32": True},
        {"compression": "lzf", "chunks": CHUNKS},
        {"chunks": CHUNKS},
        {"chunks": (1, 3, 10, 12), "compression": "gzip"},
        {"chunks": True, "compression": "gzip"},
        {},
    ],
    ids=lambda options: "-".join(map(str, options)) or "contiguous",
)
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "?"])
@pytest.mark.parametrize("rows", [WANTED, np.arange(83), np.array([57]), np.array([], dtype=np.int64)], ids=len)
def test_rows_equal_those_of_h5py(tmp_path, pool, options, dtype, rows):
    values = VALUES.astype(dtype)
    with written(tmp_path / "a.hdf5", values, **options).file as file:
        found = list(wanted_rows(file["image"], rows, pool))
    assert len(found) == len(rows)
    np.testing.assert_array_equal(np.array(found).reshape(-1, *SHAPE[1:]), values[rows])


def test_rows_of_one_dimension(tmp_path, pool):
    with written(tmp_path / "a.hdf5", np.arange(40), chunks=(7,), compression="gzip").file as file:
        assert [int(value) for value in wanted_rows(file["image"], np.array([3, 20, 39]), pool)] == [3, 20, 39]


@pytest.mark.parametrize(("rows", "blocks"), [(WANTED, 4), (np.arange(83), 5), (np.array([57]), 1)])
def test_each_needed_chunk_is_inflated_once(tmp_path, pool, monkeypatch, rows, blocks):
    seen: list[bytes] = []

    def counted(data: bytes, size: int) -> bytes:
        seen.append(data)
        return zlib.decompress(data, bufsize=size)

    monkeypatch.setattr(chunks, "inflated", counted)
    with written(tmp_path / "a.hdf5", chunks=CHUNKS, compression="gzip").file as file:
        list(wanted_rows(file["image"], rows, pool))
    assert len(seen) == blocks * CHUNKS_OF_A_BLOCK


def test_any_other_layout_is_read_once_a_block(tmp_path, pool, monkeypatch):
    blocks: list[int] = []
    slab = chunks._slab

    def counted(dataset: h5py.Dataset, rows: Any) -> Any:
        blocks.append(len(rows))
        return slab(dataset, rows)

    monkeypatch.setattr(chunks, "_slab", counted)
    with written(tmp_path / "a.hdf5", chunks=CHUNKS, compression="lzf").file as file:
        list(wanted_rows(file["image"], WANTED, pool))
    assert blocks == [3, 1, 2, 1]


def test_adjacent_rows_without_chunks_are_one_slice(tmp_path, pool, monkeypatch):
    blocks: list[int] = []
    monkeypatch.setattr(chunks, "_slab", lambda _, rows: blocks.append(len(rows)) or np.zeros(len(rows)))
    with written(tmp_path / "a.hdf5").file as file:
        list(wanted_rows(file["image"], WANTED, pool))
    assert blocks == [2, 2, 2, 1]


@pytest.mark.parametrize("options", [{"chunks": CHUNKS, "compression": "gzip"}, {}], ids=["gzip", "contiguous"])
def test_rows_held_at_a_time_are_bounded(tmp_path, pool, monkeypatch, options):
    row_bytes = VALUES[0].nbytes
    monkeypatch.setattr(chunks, "BLOCK_BYTES", 5 * row_bytes)
    rows = np.arange(83)
    with written(tmp_path / "a.hdf5", **options).file as file:
        assert max(len(block) for block in chunks._row_blocks(file["image"], rows)) == 5
        np.testing.assert_array_equal(list(wanted_rows(file["image"], rows, pool)), VALUES)


def test_chunk_that_was_never_written_holds_the_fill_value(tmp_path, pool):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        image = file.create_dataset("image", SHAPE, "f4", chunks=CHUNKS, compression="gzip", fillvalue=-7)
        image[:19] = VALUES[:19]
    with h5py.File(tmp_path / "a.hdf5") as file:
        first, last = wanted_rows(file["image"], np.array([2, 60]), pool)
    np.testing.assert_array_equal(first, VALUES[2])
    assert (last == -7).all()


@pytest.mark.parametrize(
    ("shuffle", "skipped"), [(False, 0b1), (True, 0b10), (True, 0b01), (True, 0b11)], ids=lambda value: str(value)
)
def test_filters_that_hdf5_skipped_for_a_chunk_are_not_undone(tmp_path, pool, shuffle, skipped):
    values = VALUES[:2, 0]
    deflate, shuffled = (not skipped & 0b10, not skipped & 0b01) if shuffle else (False, False)
    data = values.view(np.uint8).reshape(-1, 4).T.tobytes() if shuffled else values.tobytes()
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        image = file.create_dataset(
            "image", values.shape, "f4", chunks=values.shape, compression="gzip", shuffle=shuffle
        )
        image.id.write_direct_chunk((0, 0, 0), zlib.compress(data) if deflate else data, filter_mask=skipped)
    with h5py.File(tmp_path / "a.hdf5") as file:
        np.testing.assert_array_equal(list(wanted_rows(file["image"], np.arange(2), pool)), values)


@pytest.mark.parametrize("data", [b"no gzip stream", zlib.compress(b"too short"), zlib.compress(bytes(4000))[:-5]])
@pytest.mark.parametrize("library", ["libdeflate", "standard"])
def test_damaged_chunk_is_named(tmp_path, pool, monkeypatch, data: bytes, library: str):
    if library == "standard":
        monkeypatch.setattr(chunks, "deflate", None)
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        image = file.create_dataset("image", (10, 100), "f4", chunks=(5, 100), compression="gzip")
        image[:] = 1
        image.id.write_direct_chunk((5, 0), data)
    with h5py.File(tmp_path / "a.hdf5") as file:
        rows = wanted_rows(file["image"], np.arange(10), pool)
        assert [next(rows)[0] for _ in range(5)] == [1] * 5
        with pytest.raises(ValueError, match=r"/image is damaged in the chunk at \(5, 0\)"):
            next(rows)


def test_standard_library_inflates_the_same(tmp_path, pool, monkeypatch):
    with written(tmp_path / "a.hdf5", chunks=CHUNKS, compression="gzip").file as file:
        usual = list(wanted_rows(file["image"], WANTED, pool))
        monkeypatch.setattr(chunks, "deflate", None)
        np.testing.assert_array_equal(list(wanted_rows(file["image"], WANTED, pool)), usual)


def test_file_behind_a_user_block_is_read_by_h5py(tmp_path, pool):
    with h5py.File(tmp_path / "a.hdf5", "w", userblock_size=512) as file:
        file.create_dataset("image", data=VALUES, chunks=CHUNKS, compression="gzip")
    with h5py.File(tmp_path / "a.hdf5") as file:
        np.testing.assert_array_equal(list(wanted_rows(file["image"], WANTED, pool)), VALUES[WANTED])

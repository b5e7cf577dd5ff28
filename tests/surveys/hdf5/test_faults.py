"""A fault of a file is named and the file left out, or the run stops; nothing is read as something else."""

import errno
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import healpy
import numpy as np
import pytest

from mmagn.records import Catalog
from mmagn.surveys.config import DataConfig
from mmagn.surveys.damage import UnavailableError
from mmagn.surveys.hdf5 import chunks, rows
from mmagn.surveys.hdf5.reader import Hdf5Reader
from mmagn.surveys.reader import usable

CELL, OTHER_CELL = 1106, 1107
OBJECTS = 4


@pytest.fixture(scope="module")
def sound_tree(v1_tree, tmp_path_factory) -> Path:
    """Four objects of both surveys in each of two cells."""
    objects = []
    for cell in (CELL, OTHER_CELL):
        ra_deg, dec_deg = healpy.pix2ang(16, cell, nest=True, lonlat=True)
        objects += [
            {"object_id": 10 * cell + number, "ra": ra_deg + number / 60, "dec": dec_deg} for number in range(OBJECTS)
        ]
    root: Path = v1_tree(tmp_path_factory.mktemp("sound"), sdss=objects, hsc=objects)
    return root


@pytest.fixture
def tree(sound_tree, tmp_path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(sound_tree, tmp_path / "tree"))


def file_of(root: Path, survey: str, cell: int = CELL) -> Path:
    return next(root.glob(f"{survey}/*/healpix={cell}/*.hdf5"))


def change(path: Path, column: str, values: Any) -> None:
    """Put another column in the place of one, uncompressed."""
    with h5py.File(path, "a") as file:
        if column in file:
            del file[column]
        file[column] = values


def stored(path: Path, column: str) -> Any:
    with h5py.File(path) as file:
        return file[column][:]


def reader(root: Path, **settings: Any) -> Hdf5Reader:
    return Hdf5Reader(data=DataConfig(source="hdf5", root=str(root), **settings))


def catalog(root: Path, survey: str, drops: Counter[str]) -> Catalog:
    return reader(root).read_sdss_catalog(drops) if survey == "sdss" else reader(root).read_hsc_catalog(drops)


def only_reason(root: Path, survey: str) -> str:
    """The reason why the file of the first cell is left out while the other is read."""
    drops: Counter[str] = Counter()
    assert set(catalog(root, survey, drops).healpix.tolist()) == {OTHER_CELL}
    ((reason, _),) = drops.items()
    assert f"healpix={CELL}/001-of-001.hdf5 is left out, " in reason
    return reason


@pytest.mark.parametrize(
    ("survey", "column", "values", "reason"),
    [
        ("sdss", "object_id", np.arange(OBJECTS) + 2.99e17, "object_id is of type float64; allowed: integer or text"),
        ("hsc", "object_id", np.arange(OBJECTS, dtype="f4"), "object_id is of type float32; allowed: integer or text"),
        ("hsc", "object_id", np.arange(OBJECTS).reshape(-1, 1), r"object_id has 2 axes; expected \(row\)"),
        ("sdss", "object_id", np.full((OBJECTS, 1), b"299"), r"object_id has 2 axes; expected \(row\)"),
        ("sdss", "ra", np.zeros((OBJECTS, 1)), r"ra has 2 axes"),
        ("sdss", "Z", np.full(OBJECTS, b"0.1"), r"Z is of type \|S3; allowed: a number"),
        ("sdss", "CLASS", np.full((OBJECTS, 1), b"QSO"), r"CLASS has 2 axes; expected \(row\)"),
        ("sdss", "ZWARNING", np.zeros(OBJECTS - 1), "it has 3 rows of ZWARNING but 4 of object_id"),
        ("hsc", "g_cmodel_mag", np.zeros(OBJECTS + 1), "it has 5 rows of g_cmodel_mag but 4 of object_id"),
        ("sdss", "spectrum_mask", np.zeros((OBJECTS, 199), bool), "199 pixels of spectrum_mask but 200 of spectrum_fl"),
        ("sdss", "spectrum_mask", np.full((OBJECTS, 200), 16), "spectrum_mask holds 16; allowed: bool, or 0 and 1"),
        ("sdss", "spectrum_mask", np.zeros((OBJECTS, 200)), "spectrum_mask is of type float64; allowed: bool, or int"),
        (
            "hsc",
            "image_mask",
            np.full((OBJECTS, 5, 160, 160), 32, "i2"),
            "image_mask holds 32; allowed: bool, or 0 and",
        ),
        (
            "hsc",
            "image_mask",
            np.ones((OBJECTS, 160, 160), bool),
            r"image_mask has 3 axes; expected \(row, 5, 160",
        ),
        (
            "hsc",
            "image_array",
            np.ones((OBJECTS, 5, 160, 159), "f4"),
            r"shape \(4, 5, 160, 159\); expected \(row, 5",
        ),
        ("hsc", "image_band", np.tile(np.arange(5), (OBJECTS, 1)), "image_band is of type int64; allowed: text"),
    ],
)
def test_a_column_of_another_type_rank_or_length_leaves_its_file_out_by_name(tree, survey, column, values, reason):
    change(file_of(tree, survey), column, values)

    assert re.search(reason, only_reason(tree, survey))


@pytest.mark.parametrize(
    "moved",
    [
        lambda ra, dec: (np.radians(ra), np.radians(dec)),
        lambda ra, dec: tuple(healpy.Rotator(coord=["C", "G"])(ra, dec, lonlat=True)),
    ],
    ids=["radians", "galactic"],
)
def test_positions_elsewhere_than_their_cell_are_refused(tree, moved):
    path = file_of(tree, "sdss")
    ra_deg, dec_deg = moved(stored(path, "ra"), stored(path, "dec"))
    change(path, "ra", np.mod(ra_deg, 360))
    change(path, "dec", dec_deg)
    assert "4 of 4 positions lie outside the HEALPix cell that is stated for them" in only_reason(tree, "sdss")


def test_a_stray_position_is_kept(tree):
    path = file_of(tree, "hsc")
    change(path, "dec", stored(path, "dec") + np.array([0, 0, 0, 20]))
    drops: Counter[str] = Counter()
    assert len(catalog(tree, "hsc", drops)) == 2 * OBJECTS
    assert not drops


def test_missing_ids_are_dropped_and_counted(tree):
    change(file_of(tree, "sdss"), "object_id", np.array([b"  1", b"  ", b"", b"2"]))
    drops: Counter[str] = Counter()
    assert len(catalog(tree, "sdss", drops)) == 2 + OBJECTS
    assert drops == {"sdss: object_id is missing": 2}


def test_bad_optional_values_lose_no_object(tree):
    change(file_of(tree, "sdss"), "ZWARNING", np.array([0, np.nan, 4, np.nan]))
    change(file_of(tree, "hsc"), "g_cmodel_mag", np.array([b"20.5", b"--", b"", b"21"]))
    drops: Counter[str] = Counter()
    spectra = [
        spectrum for _, spectrum in usable(reader(tree).read_spectra(str(file_of(tree, "sdss")), np.arange(4)), drops)
    ]
    cutouts = [
        cutout for _, cutout in usable(reader(tree).read_cutouts(str(file_of(tree, "hsc")), np.arange(4)), drops)
    ]
    assert [spectrum.zwarning for spectrum in spectra] == [0, 0, 4, 0]
    np.testing.assert_array_equal([cutout.magnitude[0] for cutout in cutouts], [20.5, np.nan, np.nan, 21])
    assert not drops


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_a_file_that_cannot_be_read_now_stops_the_run(tree, monkeypatch, code):
    whole = h5py.File

    def failing(path: Path, *arguments: Any) -> h5py.File:
        if f"healpix={CELL}" in str(path):
            raise OSError(code, "Unable to open file")
        return whole(path, *arguments)

    path = str(file_of(tree, "hsc"))
    monkeypatch.setattr(rows.h5py, "File", failing)
    drops: Counter[str] = Counter()
    with pytest.raises(OSError, match="Unable to open file"):
        catalog(tree, "hsc", drops)
    with pytest.raises(OSError, match="Unable to open file"):
        list(reader(tree).read_cutouts(path, np.arange(4)))


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_a_folder_that_cannot_be_listed_now_stops_the_run(tree, monkeypatch, code):
    def failing(path: Any, listed: Callable[[Any], Any]) -> Any:
        if f"healpix={CELL}" in str(path):
            raise OSError(code, "cannot list")
        return listed(path)

    for name in ("listdir", "scandir"):  # versions of Python differ in which one they use
        monkeypatch.setattr(os, name, partial(failing, listed=getattr(os, name)))
    with pytest.raises(OSError, match="cannot list"):
        catalog(tree, "hsc", Counter())


@pytest.mark.parametrize("error", [KeyError("unable to open object"), RuntimeError("bad heap"), TypeError("no type")])
def test_damage_that_h5py_reports_in_any_way_leaves_the_file_out(tree, monkeypatch, error):
    whole = rows.wanted_rows

    def failing(dataset: h5py.Dataset, *arguments: Any) -> Any:
        if dataset.name == "/image_ivar":
            raise error
        return whole(dataset, *arguments)

    monkeypatch.setattr(rows, "wanted_rows", failing)
    records = list(reader(tree).read_cutouts(str(file_of(tree, "hsc")), np.arange(4)))
    reason = f"hsc: file hsc/pdr3_dud_22.5/healpix={CELL}/001-of-001.hdf5 is left out, {error.args[0]}"
    assert records == [(row, reason) for row in range(4)]


def test_bytes_flipped_in_a_header_are_a_sentence(tree):
    path = file_of(tree, "sdss")
    content = bytearray(path.read_bytes())
    for place in range(600, 4000, 7):
        content[place] ^= 0xFF
    path.write_bytes(content)
    assert "is left out" in only_reason(tree, "sdss")


@pytest.mark.parametrize("survey", ["sdss", "hsc"])
def test_no_damage_of_a_file_is_more_than_a_sentence(tree, survey):
    path = file_of(tree, survey)
    sound = path.read_bytes()
    random = np.random.default_rng(7)
    for number in range(25):
        content = bytearray(sound)
        for place in random.integers(0, 20_000 if number % 2 else len(sound), 12):
            content[place] ^= 1 << int(random.integers(8))
        path.write_bytes(content[: random.integers(1, len(sound))] if number % 5 == 0 else content)
        drops: Counter[str] = Counter()
        found = catalog(tree, survey, drops)
        rows = np.arange(OBJECTS)
        read = reader(tree).read_spectra if survey == "sdss" else reader(tree).read_cutouts
        assert len(list(read(str(path), rows))) == OBJECTS
        assert OTHER_CELL in found.healpix


def test_a_small_column_that_inflates_beyond_all_bounds_is_not_read(tree, monkeypatch):
    monkeypatch.setattr(rows, "PLAIN_BYTES", 2**16)
    path = file_of(tree, "sdss")
    change(path, "CLASS", np.full(OBJECTS, b"GALAXY", dtype="S20000"))
    assert "its column CLASS takes 8e-05 GB; allowed: 6.6e-05 GB" in only_reason(tree, "sdss")


@pytest.mark.parametrize("dtype", [h5py.string_dtype(), h5py.vlen_dtype(np.dtype("u1"))], ids=["text", "bytes"])
def test_long_values_of_variable_length_are_not_read_without_a_bound(tree, monkeypatch, dtype):
    monkeypatch.setattr(rows, "PLAIN_BYTES", 2**16)
    path = file_of(tree, "sdss")
    value = "G" * 20_000 if h5py.check_string_dtype(dtype) else np.zeros(20_000, "u1")
    with h5py.File(path, "a") as file:
        del file["CLASS"]
        column = file.create_dataset("CLASS", OBJECTS, dtype)
        for row in range(OBJECTS):
            column[row] = value
    assert "its column CLASS takes 8e-05 GB; allowed: 6.6e-05 GB" in only_reason(tree, "sdss")


def test_short_texts_of_variable_length_are_read(tree):
    change(file_of(tree, "sdss"), "CLASS", ["GALAXY", "QSO", "STAR", ""])
    drops: Counter[str] = Counter()
    read = reader(tree).read_spectra(str(file_of(tree, "sdss")), np.arange(OBJECTS))
    assert [spectrum.spectral_class for _, spectrum in usable(read, drops)] == ["GALAXY", "QSO", "STAR", ""]


def test_a_chunk_beyond_all_bounds_is_not_inflated(tree, monkeypatch):
    monkeypatch.setattr(chunks, "PART_BYTES", 1000)
    records = list(reader(tree).read_cutouts(str(file_of(tree, "hsc")), np.arange(4)))
    assert all("one row takes more than" in str(reason) for _, reason in records)


def test_a_missing_filter_is_named_and_stops_the_run(tree, monkeypatch):
    available = h5py.h5z.filter_avail
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: code != h5py.h5z.FILTER_DEFLATE and available(code))
    with pytest.raises(UnavailableError, match=r"\w+ is compressed with the HDF5 filter 1 .*hdf5plugin"):
        catalog(tree, "hsc", Counter())

"""A store is what the stream is, opens everywhere, is whole or not there, and is never taken for another."""

import json
import os
import pickle
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import astropy.units as u
import datasets
import numpy as np
import pyarrow as pa
import pytest
from filelock import FileLock

from mmagn.matching import shard_files
from mmagn.matching import store as store_module
from mmagn.matching.config import MatchingConfig
from mmagn.matching.index import NoPairsError
from mmagn.matching.pairs import iter_pairs, open_pairs
from mmagn.matching.store import open_store, pair_store, verify_store
from mmagn.records import INDEX_COLUMNS
from mmagn.storage import checksums
from mmagn.surveys.config import DataConfig

PAIRS = 20


@pytest.fixture(scope="module")
def store(survey, tmp_path_factory):
    """A store that tests may read but not change."""
    folder = tmp_path_factory.mktemp("stores")
    config = DataConfig(source="hdf5", root=str(survey), cache_dir=str(folder / "cache"))
    return pair_store(config, MatchingConfig(), folder / "store")


@pytest.fixture
def own_store(store, tmp_path):
    """A copy of the store that a test may damage."""
    return shutil.copytree(store.path, tmp_path / "own")


def test_the_store_holds_what_the_stream_gives(data, store):
    stream = list(open_pairs(data, MatchingConfig()))
    assert len(store) == len(stream) == PAIRS
    for number, row in enumerate(stream):
        pair = store.pair(number)
        assert (pair.spectrum.object_id, pair.cutout.object_id) == (row["sdss_object_id"], row["hsc_object_id"])
        np.testing.assert_array_equal(pair.cutout.flux.reshape(-1), row["image_flux"])
        np.testing.assert_array_equal(pair.cutout.ivar.reshape(-1), row["image_ivar"])
        np.testing.assert_array_equal(pair.spectrum.flux, row["spectrum_flux"])
        np.testing.assert_array_equal(pair.cutout.magnitude, row["magnitude"])
        assert pair.separation_arcsec == row["separation_arcsec"]


def test_every_row_is_there_when_batches_are_smaller_than_the_store(data, tmp_path, monkeypatch):
    monkeypatch.setattr(shard_files, "ROWS_PER_BATCH", 3)
    store = pair_store(data, MatchingConfig(), tmp_path / "store")
    ids = [store.spectrum(number).object_id for number in range(len(store))]
    assert len(set(ids)) == PAIRS
    assert ids == store.index["sdss_object_id"].tolist()
    assert len(datasets.load_from_disk(str(store.path))) == PAIRS


def test_images_are_views_of_the_file_and_cannot_be_written(store):
    flux, ivar = store.image(3)
    assert flux.shape == ivar.shape == (5, 160, 160)
    assert not flux.flags.owndata
    assert not flux.flags.writeable
    np.testing.assert_array_equal(flux, store.cutout(3).flux)


def test_datasets_opens_the_store(store):
    dataset = datasets.load_from_disk(str(store.path)).with_format("numpy")
    assert len(dataset) == PAIRS
    row = dataset[7]
    np.testing.assert_array_equal(row["image_flux"].reshape(5, 160, 160), store.cutout(7).flux)
    assert row["sdss_object_id"] == store.spectrum(7).object_id


def test_the_index_is_a_table_with_units(store):
    index = store.index
    assert tuple(index.colnames[: len(INDEX_COLUMNS)]) == INDEX_COLUMNS
    assert index["sdss_ra_deg"].unit == u.deg
    assert index["separation_arcsec"].unit == u.arcsec
    assert set(index["survey"]) == {"sdss", "boss"}
    np.testing.assert_allclose(index["i_magnitude"], 20.0)
    assert index["healpix"].dtype == np.int64


def test_the_report_is_kept_with_the_store(store):
    assert (store.report["pairs"], store.report["pairs_stored"]) == (PAIRS, PAIRS)
    assert "pairs within 1 arcsec: 20 of 24 spectra and 24 HSC images" in store.report_text


def test_float16_halves_the_images_and_keeps_validity(data, store, tmp_path):
    half = pair_store(data, MatchingConfig(image_dtype="float16"), tmp_path / "half")
    assert half.image(0)[0].dtype == np.float16
    assert half.cutout(0).flux.dtype == np.float32
    for number in range(PAIRS):
        exact, rounded = store.cutout(number), half.cutout(number)
        np.testing.assert_allclose(rounded.flux, exact.flux, rtol=1e-3)
        np.testing.assert_array_equal(rounded.valid, exact.valid)
    size, half_size = (
        sum(file.stat().st_size for file in folder.glob("*.arrow")) for folder in (store.path, half.path)
    )
    assert half_size < 0.55 * size
    stream = open_pairs(data, MatchingConfig(image_dtype="float16")).with_format("arrow")
    np.testing.assert_array_equal(
        next(iter(stream))["image_flux"].chunk(0).values.to_numpy(), half.image(0)[0].reshape(-1)
    )


def test_a_second_call_takes_the_store_as_it_is(data, store, monkeypatch):
    monkeypatch.setattr(store_module, "pair_index", None)
    assert pair_store(data, MatchingConfig(), store.path).fingerprint == store.fingerprint


@pytest.mark.parametrize(
    ("data_change", "matching_change", "sentence"),
    [
        ({}, {"radius_arcsec": 2.0}, r"made with matching\.radius_arcsec 1\.0, and 2\.0 is requested"),
        ({}, {"image_dtype": "float16"}, r'made with matching\.image_dtype "float32", and "float16" is requested'),
        ({"redshift_max": 0.9}, {}, r"made with data\.redshift_max 1\.2, and 0\.9 is requested"),
        ({"spectra": ("sdss",)}, {}, r"made with data\.spectra"),
    ],
)
def test_a_store_of_other_settings_is_refused_by_name(data, store, data_change, matching_change, sentence):
    with pytest.raises(ValueError, match=sentence):
        pair_store(replace(data, **data_change), MatchingConfig(**matching_change), store.path)


def test_a_store_of_other_source_files_is_refused_by_name(data, survey, tmp_path):
    copy = shutil.copytree(survey, tmp_path / "copy")
    moved = replace(data, root=str(copy))
    store = pair_store(moved, MatchingConfig(), tmp_path / "store")
    assert pair_store(data, MatchingConfig(), store.path).fingerprint == store.fingerprint
    file = sorted(copy.glob("sdss/boss/*/*.hdf5"))[0]
    os.utime(file, (1, 1))
    with pytest.raises(ValueError, match=f"source files changed: {file.relative_to(copy)} has another size or version"):
        pair_store(moved, MatchingConfig(), store.path)


def test_without_a_folder_each_setting_has_its_own_store(data):
    first, second = (pair_store(data, MatchingConfig(radius_arcsec=radius)) for radius in (1.0, 0.35))
    assert first.path != second.path
    assert (len(first), len(second)) == (20, 12)
    assert pair_store(data, MatchingConfig()).path == first.path


def test_a_source_that_is_a_store_asks_only_for_what_shapes_it(store):
    config = DataConfig(source="store", root=str(store.path), redshift_max=0.5)
    assert len(pair_store(config, MatchingConfig())) == PAIRS
    stream = open_pairs(config, MatchingConfig())
    assert [row["sdss_object_id"] for row in stream] == store.index["sdss_object_id"].tolist()
    for opened in (pair_store, open_pairs):
        with pytest.raises(ValueError, match=r"made with matching\.radius_arcsec 1\.0, and 3\.0 is requested"):
            opened(config, MatchingConfig(radius_arcsec=3.0))


def flipped(path, place):
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 0x10
    path.write_bytes(content)


def read_whole(folder):
    store = open_store(folder)
    for number in range(len(store)):
        store.pair(number)
    return store.index, store.positions("sdss"), store.dataset()


@pytest.mark.parametrize(
    "name",
    ["pairs-00000.arrow", "pairs-00003.arrow", "state.json", "dataset_info.json", "positions.parquet", "mmagn.json"],
)
def test_no_flipped_bit_of_a_store_passes(own_store, name):
    path = own_store / name
    sound = path.read_bytes()
    for place in np.random.default_rng(3).integers(0, len(sound), 8):
        flipped(path, int(place))
        with pytest.raises(ValueError, match=re.escape(name)):
            read_whole(own_store)
        path.write_bytes(sound)
        os.utime(path, ns=(int(place), int(place)))
    read_whole(own_store)


def test_verifying_lists_every_damaged_file(own_store):
    assert verify_store(own_store) == []
    flipped(own_store / "pairs-00001.arrow", 5_000_000)
    os.truncate(own_store / "pairs-00002.arrow", 1000)
    (own_store / "positions.parquet").unlink()
    damaged = verify_store(own_store)
    assert [Path(sentence.split()[0]).name for sentence in damaged] == [
        "pairs-00001.arrow",
        "pairs-00002.arrow",
        "positions.parquet",
    ]
    assert "sha256 differs" in damaged[0]
    assert "is damaged: 1000 bytes of" in damaged[1]
    assert damaged[2].endswith("is missing")


def test_a_process_compares_a_file_with_its_checksum_once_and_again_after_a_change(own_store, monkeypatch):
    compared = []
    whole = checksums.stored_file
    monkeypatch.setattr(checksums, "stored_file", lambda path: compared.append(path.name) or whole(path))
    open_store(own_store).pair(0)
    assert compared == ["state.json", "pairs-00000.arrow"]
    open_store(own_store).pair(1)
    assert len(compared) == 2
    os.utime(own_store / "pairs-00000.arrow", ns=(1, 1))
    open_store(own_store).pair(0)
    assert compared[2:] == ["pairs-00000.arrow"]


@pytest.mark.parametrize(
    "selection",
    [
        {"redshift_max": 0.105},
        {"redshift_min": 0.055, "redshift_max": 0.155},
        {"spectra": ("boss",)},
        {"cells": None},
    ],
    ids=["below", "between", "survey", "cell"],
)
def test_a_store_selects_the_pairs_that_its_surveys_would_give(data, store, selection):
    if "cells" in selection:
        selection = {"cells": (int(store.index["healpix"][0]),)}
    expected = [pair.spectrum.object_id for pair in iter_pairs(replace(data, **selection), MatchingConfig())]
    assert 0 < len(expected) < PAIRS
    of_store = DataConfig(source="store", root=str(store.path), **selection)
    selected = pair_store(of_store, MatchingConfig())
    assert [selected.pair(number).spectrum.object_id for number in range(len(selected))] == expected
    assert selected.index["sdss_object_id"].tolist() == expected
    assert [row["sdss_object_id"] for row in open_pairs(of_store, MatchingConfig())] == expected
    assert pickle.loads(pickle.dumps(selected)).spectrum(0).object_id == expected[0]
    assert selected.fingerprint != store.fingerprint
    assert f"pairs selected: {len(expected)}" in selected.report_text


def test_pairs_of_a_survey_that_is_not_named_are_left_out_with_a_warning(store, caplog):
    pair_store(DataConfig(source="store", root=str(store.path), spectra=("sdss",)), MatchingConfig())
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "survey is not in data.spectra sdss" in caplog.text


def test_a_selection_without_a_pair_says_why(store):
    config = DataConfig(source="store", root=str(store.path), redshift_min=0.5)
    with pytest.raises(
        NoPairsError, match=r"no pair that is selected among 20: 20 x redshift is outside data\.redshift_m"
    ):
        pair_store(config, MatchingConfig())


def test_a_second_writer_waits_for_the_first_whatever_its_cache_folder(data, tmp_path, caplog):
    caplog.set_level("INFO")
    out = tmp_path / "store"
    lock = FileLock(tmp_path / ".store.lock")
    lock.acquire()
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(
            pair_store, replace(data, cache_dir=str(tmp_path / "other")), MatchingConfig(workers=1), out
        )
        while "waiting for another process" not in caplog.text:
            assert not other.done()
            time.sleep(0.01)
        assert not out.exists()
        lock.release()
        assert len(other.result()) == PAIRS


def test_a_folder_that_is_no_store_says_so(data, tmp_path):
    with pytest.raises(FileNotFoundError, match="missing is missing"):
        open_store(tmp_path / "missing")
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("keep")
    for config in (data, DataConfig(source="store", root=str(full))):
        with pytest.raises(ValueError, match=r"full is no store of pairs: it has no mmagn\.json"):
            pair_store(config, MatchingConfig(), full)
    assert (full / "mine.txt").read_text() == "keep"


def test_an_empty_folder_may_become_the_store(data, tmp_path):
    (tmp_path / "empty").mkdir()
    assert len(pair_store(data, MatchingConfig(), tmp_path / "empty")) == PAIRS


def test_a_damaged_store_says_so(own_store):
    (own_store / "mmagn.json").write_text("{}")
    with pytest.raises(ValueError, match="cannot be read as the description of a store"):
        open_store(own_store)


def test_a_truncated_file_says_so(own_store):
    os.truncate(own_store / "pairs-00002.arrow", 100_000)
    with pytest.raises(ValueError, match=r"pairs-00002\.arrow cannot be read"):
        open_store(own_store)


def test_a_file_cut_between_two_batches_says_so(data, tmp_path, monkeypatch):
    monkeypatch.setattr(shard_files, "ROWS_PER_BATCH", 1)
    file = pair_store(data, MatchingConfig(), tmp_path / "store").path / "pairs-00001.arrow"
    with pa.OSFile(str(file)) as whole, pa.ipc.open_stream(whole) as reader:
        schema, batches = reader.schema, list(reader)
    with pa.OSFile(str(file), "wb") as short, pa.ipc.new_stream(short, schema) as writer:
        for batch in batches[:3]:
            writer.write_batch(batch)
    with pytest.raises(ValueError, match="holds 18 pairs of the 20 that were stored"):
        open_store(tmp_path / "store")


def test_a_store_of_another_format_is_refused(own_store):
    described = json.loads((own_store / "mmagn.json").read_text())
    (own_store / "mmagn.json").write_text(json.dumps({**described, "format": 99}))
    with pytest.raises(ValueError, match="store format 99; this version reads 4"):
        open_store(own_store)


def test_a_store_travels_to_another_process(store):
    again = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(again.cutout(5).flux, store.cutout(5).flux)


def test_a_number_beyond_the_store_is_refused(store):
    for number in (-1, PAIRS):
        with pytest.raises(IndexError, match="allowed: 0 to 19"):
            store.pair(number)


def test_the_real_spectra_make_a_store(real_tree, tmp_path):
    config = DataConfig(source="hdf5", root=str(real_tree), cache_dir=str(tmp_path))
    store = pair_store(config, MatchingConfig())
    assert len(store) >= 20
    assert all(np.isfinite(store.cutout(number).flux).all() for number in range(len(store)))

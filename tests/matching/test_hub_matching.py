"""Pairs from a hub: the pairs of the tree, the bytes of their row groups, and no pair lost or doubled by a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from mmagn.matching.config import MatchingConfig
from mmagn.matching.index import pair_index
from mmagn.matching.pairs import open_pairs
from mmagn.matching.provenance import read_provenance
from mmagn.matching.store import pair_store
from mmagn.surveys.config import DataConfig
from mmagn.surveys.hub import client as hub_client
from mmagn.surveys.hub.files import HubFile

STREAM = """
import json, os, sys, time
from mmagn.matching.config import MatchingConfig
from mmagn.matching.pairs import open_pairs
from mmagn.surveys.config import DataConfig

pairs = open_pairs(DataConfig(source="hub", cache_dir=sys.argv[1]), MatchingConfig())
with open(sys.argv[2], "w") as rows_file:
    for row in pairs:
        line = {"id": str(row["sdss_object_id"]), "state": pairs.state_dict()}
        rows_file.write(json.dumps(line) + "\\n")
        rows_file.flush()
        time.sleep(0.05)
"""
STORE = """
import sys
from pathlib import Path
from mmagn.cli.command_line import exit_code
from mmagn.matching.config import MatchingConfig
from mmagn.matching.store import pair_store
from mmagn.surveys.config import DataConfig

data = DataConfig(source="hub", cache_dir=sys.argv[1])
sys.exit(exit_code(lambda: pair_store(data, MatchingConfig(), Path(sys.argv[2]))))
"""
PIXELS = ("image_flux", "image_ivar", "spectrum_wavelength_angstrom", "spectrum_flux", "spectrum_ivar")


@pytest.fixture
def tree_data(hub_tree, tmp_path):
    return DataConfig(source="hdf5", root=str(hub_tree), spectra=("sdss",), cache_dir=str(tmp_path / "cache"))


def rows_by_id(data, matching):
    return {str(row["sdss_object_id"]): row for row in open_pairs(data, matching)}


def test_hub_and_tree_give_the_same_pairs(hub_data, tree_data):
    matching = MatchingConfig()
    hub_rows, expected = rows_by_id(hub_data, matching), rows_by_id(tree_data, matching)
    assert hub_rows.keys() == expected.keys()
    assert len(hub_rows) > 10
    for object_id, row in hub_rows.items():
        other = expected[object_id]
        assert row["hsc_object_id"] == other["hsc_object_id"]
        assert abs(row["separation_arcsec"] - other["separation_arcsec"]) < 1e-6
        assert row["healpix"] == other["healpix"]
        for name in PIXELS:
            assert np.asarray(row[name]).tobytes() == np.asarray(other[name]).tobytes()


def test_bytes_moved_are_those_of_the_row_groups_that_hold_the_pairs(hub, hub_data, hub_folder, record_property):
    matching = MatchingConfig()
    pairs = list(open_pairs(hub_data, matching))
    moved = hub.bytes_sent
    index = pair_index(hub_data, matching)
    groups = set()
    for catalog, members in ((index.sdss, index.matches.left_index), (index.hsc, index.matches.right_index)):
        for member in members:
            file = HubFile.from_text(catalog.files[catalog.file_index[member]])
            path = hub_folder / file.repository / file.path
            groups.add((path, int(catalog.row[member]) // pq.read_metadata(path).row_group(0).num_rows))
    needed = sum(compressed_bytes(path, group) for path, group in groups)
    record_property("bytes moved / bytes of the row groups", f"{len(pairs)} pairs: {moved / needed:.3f}")
    assert moved <= 1.1 * needed


def compressed_bytes(path, group):
    described = pq.read_metadata(path).row_group(group)
    return sum(described.column(number).total_compressed_size for number in range(described.num_columns))


def test_a_killed_stream_goes_on_without_a_pair_lost_or_doubled(hub, hub_data, tmp_path):
    rows_file = tmp_path / "rows.jsonl"
    script = [sys.executable, "-c", STREAM, hub_data.cache_dir, str(rows_file)]
    process = subprocess.Popen(script, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        while not (rows_file.is_file() and rows_file.read_text().count("\n") >= 6):
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    earlier = [json.loads(line) for line in rows_file.read_text().splitlines(keepends=True) if line.endswith("\n")]
    hub.forget()
    pairs = open_pairs(hub_data, MatchingConfig())
    assert not hub.ranges, "the index was kept"
    pairs.load_state_dict(earlier[-1]["state"])
    rest = [str(row["sdss_object_id"]) for row in pairs]
    whole = [str(row["sdss_object_id"]) for row in open_pairs(hub_data, MatchingConfig())]
    assert [line["id"] for line in earlier] + rest == whole
    assert len(set(whole)) == len(whole)


def test_a_store_that_a_run_makes_for_itself_moves_no_usable_noise_and_has_the_same_valid_pixels(
    hub, hub_data, tmp_path
):
    moved, stores = [], []
    for out in (tmp_path / "store", None):
        hub_client._client.cache_clear()
        hub.forget()
        stores.append(pair_store(hub_data, MatchingConfig(workers=1), out))
        moved.append(hub.bytes_sent)
    assert moved[1] < moved[0]
    assert stores[1].settings["data.image_noise"] is False
    for number in range(len(stores[0])):
        kept, own = (store.cutout(number) for store in stores)
        assert kept.flux.tobytes() == own.flux.tobytes()
        assert np.array_equal(kept.valid, own.valid)


def test_a_store_from_the_hub_records_its_commits_and_is_found_again(hub, hub_data, tmp_path):
    out = tmp_path / "store"
    store = pair_store(hub_data, MatchingConfig(), out)
    commits = {hub.commit(repository) for repository in (hub_data.hub.sdss, hub_data.hub.hsc)}
    assert {source.version for source in read_provenance(out).sources} == commits
    hub.forget()
    assert len(pair_store(hub_data, MatchingConfig(), out)) == len(store)
    assert not hub.ranges


def test_a_store_stopped_by_the_hub_leaves_no_store_and_goes_on_later(hub, hub_data, tmp_path):
    out = tmp_path / "store"
    impatient = replace(hub_data, hub=replace(hub_data.hub, retries=0))
    pair_index(hub_data, MatchingConfig())
    downloads = []

    def fault(path):
        downloads.append(path)
        return "500" if len(downloads) > 8 else None

    hub.fault = fault
    with pytest.raises(ValueError, match=r"gave no answer .* the same command resumes"):
        pair_store(impatient, MatchingConfig(), out)
    assert not out.exists()
    hub.fault = lambda _: None
    store = pair_store(hub_data, MatchingConfig(), out)
    ids = store.index["sdss_object_id"]
    assert len(set(ids)) == len(ids) == len(pair_index(hub_data, MatchingConfig()).matches)
    assert list(Path(tmp_path).glob(".store.partial-*")) == []


def test_ctrl_c_does_not_wait_for_a_hub_that_asks_to_wait(hub, hub_data, tmp_path, monkeypatch):
    monkeypatch.setattr("hub_server.RETRY_AFTER_S", 600)
    hub.fault = lambda path: "429" if path.endswith(".parquet") else None
    script = [sys.executable, "-c", STORE, hub_data.cache_dir, str(tmp_path / "store")]
    process = subprocess.Popen(script, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert any("next attempt in 600.0 s" in line for line in process.stderr)
    process.send_signal(signal.SIGINT)
    with process:
        message = process.stderr.read()
    assert process.returncode == 130
    assert message.endswith("interrupted\n")
    assert not (tmp_path / "store").exists()

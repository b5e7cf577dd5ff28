"""A store does not depend on how many processes write it, nor on how often it was stopped on the way."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmagn.matching import save, shard_files
from mmagn.matching import store as store_module
from mmagn.matching.config import MatchingConfig
from mmagn.matching.index import NoPairsError
from mmagn.matching.shard_files import write_shard
from mmagn.matching.store import pair_store
from mmagn.surveys.config import DataConfig
from mmagn.surveys.hdf5.reader import Hdf5Reader

PAIRS = 20
SHARDS = 4
SCRIPT = textwrap.dedent(
    """
    import os, sys, time
    from dataclasses import dataclass
    from pathlib import Path

    from mmagn.matching import shard_files, store
    from mmagn.matching.config import MatchingConfig
    from mmagn.surveys.config import DataConfig
    from mmagn.surveys.hdf5.reader import Hdf5Reader

    root, cache, out, workers, STUCK = sys.argv[1:]

    @dataclass(frozen=True, kw_only=True)
    class StuckReader(Hdf5Reader):
        '''Reads all files but one, in the middle of which it stays.'''

        def read_cutouts(self, path, rows):
            folder = Path(self.data.cache_dir)
            (folder / f"process-{os.getpid()}").touch()
            for number, record in enumerate(super().read_cutouts(path, rows)):
                if number == 2 and Path(path).parent.name == STUCK:
                    (folder / "stuck").touch()
                    time.sleep(1e6)
                yield record

    if __name__ == "__main__":
        shard_files.PAIRS_PER_PROCESS = 1
        store.survey_reader = lambda data: StuckReader(data=data)
        store.pair_store(
            DataConfig(source="hdf5", root=root, cache_dir=cache), MatchingConfig(workers=int(workers)), Path(out)
        )
    """
)


def files_of(store):
    return {path.name: path.read_bytes() for path in store.path.iterdir() if path.name != "positions.parquet"}


def names_in(folder):
    """Names in a folder but that of the lock, which stays."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_any_number_of_processes_writes_the_same_bytes(data, tmp_path, monkeypatch):
    monkeypatch.setattr(shard_files, "PAIRS_PER_PROCESS", 1)
    one, two = (pair_store(data, MatchingConfig(workers=workers), tmp_path / f"with-{workers}") for workers in (1, 2))
    assert files_of(one) == files_of(two)
    assert sum(name.endswith(".arrow") for name in files_of(one)) == SHARDS


def test_a_small_survey_is_stored_without_another_process(data, tmp_path, monkeypatch):
    monkeypatch.setattr(shard_files, "run_tasks", None)
    assert len(pair_store(data, MatchingConfig(workers=8), tmp_path / "store")) == PAIRS


class KillingReader(Hdf5Reader):
    """Kills its process at the first file with cutouts that it reads."""

    def read_cutouts(self, path, rows):
        flag = Path(self.data.cache_dir) / "killed"
        if not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read_cutouts(path, rows)


def test_a_worker_that_dies_costs_time_and_no_pair(data, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(shard_files, "PAIRS_PER_PROCESS", 1)
    monkeypatch.setattr(store_module, "survey_reader", lambda data: KillingReader(data=data))
    cached = replace(data, cache_dir=str(tmp_path))
    store = pair_store(cached, MatchingConfig(workers=2), tmp_path / "store")
    assert len(set(store.index["sdss_object_id"])) == PAIRS
    assert "a worker died with exit code -9" in caplog.text


@pytest.mark.parametrize(("workers", "blow"), [(1, signal.SIGKILL), (2, signal.SIGKILL), (2, signal.SIGINT)])
def test_a_stopped_run_goes_on_where_it_stopped(data, tmp_path, monkeypatch, workers, blow):
    script, stores = tmp_path / "script.py", tmp_path / "stores"
    script.write_text(SCRIPT)
    cache = tmp_path / "cache"
    cache.mkdir()
    cells = sorted(Path(data.root).glob("hsc/*/*"), key=lambda folder: int(folder.name.removeprefix("healpix=")))
    arguments = [str(data.root), str(cache), str(stores / "store"), str(workers), cells[2].name]
    run = subprocess.Popen([sys.executable, script, *arguments], stderr=subprocess.PIPE)
    others = 2 if workers == 1 else SHARDS - 1  # one process is stuck in the third shard, another goes on
    wait_until(lambda: (cache / "stuck").exists() and len(list(stores.glob(".store.*/pairs-*.json"))) == others)
    run.send_signal(blow)
    run.communicate()
    assert not (stores / "store").exists()
    (partial,) = stores.glob(".store.partial-*")
    assert len(list(partial.glob("*.arrow"))) == others
    done = {path.name: path.stat().st_mtime_ns for path in partial.glob("*.arrow")}
    processes = [int(path.name.split("-")[1]) for path in cache.glob("process-*")]
    wait_until(lambda: not any(alive(process) for process in processes))

    written = []
    monkeypatch.setattr(shard_files, "write_shard", lambda task: written.append(task.path.name) or write_shard(task))
    store = pair_store(data, MatchingConfig(), stores / "store")
    assert sorted([*done, *written]) == [f"pairs-{number:05d}.arrow" for number in range(SHARDS)]
    assert {name: (store.path / name).stat().st_mtime_ns for name in done} == done
    assert names_in(stores) == ["store"]
    whole = pair_store(data, MatchingConfig(), tmp_path / "whole")
    assert files_of(store) == files_of(whole)


def wait_until(condition):
    while not condition():
        time.sleep(0.02)


def alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_damaged_shard_of_a_stopped_run_is_written_again(data, tmp_path, monkeypatch):
    stop_after(monkeypatch, 2, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        pair_store(data, MatchingConfig(), tmp_path / "stores" / "store")
    monkeypatch.undo()
    (partial,) = (tmp_path / "stores").glob(".store.partial-*")
    os.truncate(partial / "pairs-00000.arrow", 1000)
    assert len(pair_store(data, MatchingConfig(), tmp_path / "stores" / "store")) == PAIRS


def test_shards_of_other_settings_are_not_taken(data, tmp_path, monkeypatch):
    stop_after(monkeypatch, 2, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        pair_store(data, MatchingConfig(image_dtype="float16"), tmp_path / "stores" / "store")
    monkeypatch.undo()
    assert pair_store(data, MatchingConfig(), tmp_path / "stores" / "store").image(0)[0].dtype == np.float32
    assert names_in(tmp_path / "stores") == ["store"]


def stop_after(monkeypatch, shards, fault):
    left = iter(range(shards))

    def stopping(task):
        if next(left, None) is None:
            raise fault
        return write_shard(task)

    monkeypatch.setattr(shard_files, "write_shard", stopping)


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), OSError(errno.EIO, "read error")])
def test_a_run_stopped_in_its_first_shard_leaves_nothing(data, tmp_path, monkeypatch, fault):
    def broken(shard, reader, drops, lost):
        raise fault
        yield

    monkeypatch.setattr(shard_files, "shard_pairs", broken)
    with pytest.raises(type(fault)):
        pair_store(data, MatchingConfig(), tmp_path / "stores" / "store")
    assert names_in(tmp_path / "stores") == []


def test_a_disk_that_fills_says_how_much_more_is_needed_and_keeps_what_is_whole(data, tmp_path, monkeypatch):
    stop_after(monkeypatch, 3, OSError(errno.ENOSPC, "No space left on device"))
    stores = tmp_path / "stores"
    with pytest.raises(ValueError, match=r"needs about 0\.0055 GB more and the disk has .* waits in .*partial-"):
        pair_store(data, MatchingConfig(), stores / "store")
    (partial,) = stores.glob(".store.partial-*")
    assert [name for name in names_in(partial) if name.endswith(".arrow")] == [
        f"pairs-{number:05d}.arrow" for number in range(3)
    ]
    monkeypatch.undo()
    assert len(pair_store(data, MatchingConfig(), stores / "store")) == PAIRS


def test_a_disk_that_is_too_small_is_not_written_to(data, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(save.shutil, "disk_usage", lambda _: usage(10, 10, 0))
    with pytest.raises(ValueError, match=r"needs about 0\.022 GB and the disk has 0 GB free"):
        pair_store(data, MatchingConfig(), tmp_path / "stores" / "store")
    assert names_in(tmp_path / "stores") == []


def test_a_store_without_a_usable_pair_is_not_written(v1_tree, tmp_path):
    masked = np.zeros((5, 160, 160), dtype=bool)
    position = {"ra": 10.0, "dec": 1.0}
    v1_tree(
        tmp_path / "tree", sdss=[{"object_id": 1, **position}], hsc=[{"object_id": 2, "image_mask": masked, **position}]
    )
    config = DataConfig(source="hdf5", root=str(tmp_path / "tree"), cache_dir=str(tmp_path / "cache"))
    with pytest.raises(NoPairsError, match="none of the 1 matched pairs is usable: 1 x hsc"):
        pair_store(config, MatchingConfig(), tmp_path / "stores" / "store")
    assert names_in(tmp_path / "stores") == []


def test_a_lost_pair_is_counted_and_named(v1_tree, tmp_path):
    sdss = [{"object_id": 100 + n, "ra": 10.0 + n / 60, "dec": 1.0} for n in range(4)]
    hsc = [{"object_id": 200 + n, "ra": 10.0 + n / 60, "dec": 1.0} for n in range(4)]
    hsc[1]["image_mask"] = np.zeros((5, 160, 160), dtype=bool)
    sdss[3]["spectrum_ivar"] = np.zeros(200)
    v1_tree(tmp_path / "tree", sdss=sdss, hsc=hsc)
    config = DataConfig(source="hdf5", root=str(tmp_path / "tree"), cache_dir=str(tmp_path / "cache"))
    store = pair_store(config, MatchingConfig(), tmp_path / "store")
    assert store.index["sdss_object_id"].tolist() == ["100", "102"]
    assert store.report["pair_drops"] == {"hsc: image has no valid pixel": 1, "sdss: spectrum has no valid pixel": 1}
    spectrum, image = store.report["pairs_lost"]
    assert spectrum.startswith("SDSS 103 with HSC 203, row 3 of sdss/sdss/healpix=")
    assert image.startswith("SDSS 101 with HSC 201, row 1 of hsc/pdr3_dud_22.5/healpix=")
    assert image.endswith(": hsc: image has no valid pixel")
    assert f"lost: {image}" in store.report_text


def test_pairs_of_one_file_are_cut_into_shards_of_bounded_size(data, tmp_path, monkeypatch):
    monkeypatch.setattr("mmagn.matching.shards.PAIRS_PER_SHARD", 2)
    store = pair_store(data, MatchingConfig(), tmp_path / "store")
    assert len(list(store.path.glob("*.arrow"))) == 3 * SHARDS
    assert len(set(store.index["sdss_object_id"])) == PAIRS

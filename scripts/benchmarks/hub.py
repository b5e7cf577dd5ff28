"""Pairs from a hub with latency into tensors, relative to decoding the same row groups from a disk.

The hub is a process of this machine. Where its cores are busy, what it and the client need to move the bytes takes time
from the decoding, which a hub elsewhere and its latency would not: the processor times tell.
"""

import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import torch

from benchmarks.pair_survey import write_survey
from mmagn.matching.config import MatchingConfig
from mmagn.matching.index import pair_index
from mmagn.matching.shards import PairShard, pair_shards, shard_pairs
from mmagn.surveys.config import DataConfig, HubConfig
from mmagn.surveys.hats.reader import HatsReader
from mmagn.surveys.hub import client
from mmagn.surveys.hub.files import HubFile
from mmagn.surveys.hub.reader import HubReader
from mmagn.surveys.reader import SurveyReader, in_advance

sys.path.append(str(Path(__file__).parents[2] / "tests"))  # the converter and the hub of the tests

CELL_ROWS = 300
GOAL = 0.9


def hub_benchmark(*, pairs: int, latency_ms: float, repeats: int, seed: int) -> None:
    """Print pairs per second of both and their ratio, the median of some runs by turns, and processor times."""
    from hats_files import write_hats

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cells = -(-pairs // CELL_ROWS)
        write_survey(folder / "tree", files=cells, rows=min(pairs, CELL_ROWS), matched=1.0, seed=seed)
        for kind, repository in (("sdss", HubConfig.sdss), ("hsc", HubConfig.hsc)):
            write_hats(folder / "tree", kind, folder / "hub" / repository)
        shutil.rmtree(folder / "tree")
        parent, child = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        server = context.Process(target=_serve, args=(folder / "hub", latency_ms / 1000, child), daemon=True)
        server.start()
        os.environ |= {"HF_ENDPOINT": parent.recv(), "no_proxy": "127.0.0.1,localhost"}
        data = DataConfig(source="hub", cache_dir=str(folder / "cache"))
        started = time.perf_counter()
        shards = pair_shards(pair_index(data, MatchingConfig()))
        print(f"index and match: {time.perf_counter() - started:.1f} s")
        local = [_local(shard, folder / "hub") for shard in shards]
        rates: dict[str, list[float]] = {"hub": [], "disk": []}
        process = psutil.Process(server.pid)
        places = {"hub": (shards, HubReader(data=data)), "disk": (local, HatsReader(data=replace(data, source="hats")))}
        for _ in range(repeats):
            client._client.cache_clear()  # what an earlier run has read is not kept
            for place, (parts, reader) in places.items():
                own, served = time.process_time(), sum(process.cpu_times()[:2])
                rates[place].append(_pairs_per_second(parts, reader))
                own, served = time.process_time() - own, sum(process.cpu_times()[:2]) - served
                print(f"{place}: {rates[place][-1]:.1f} pairs/s, processor time {own:.1f} s, of the hub {served:.1f} s")
        server.terminate()
    ratios = [hub / disk for hub, disk in zip(rates["hub"], rates["disk"], strict=True)]
    for place, values in rates.items():
        print(f"{place}: {statistics.median(values):.1f} pairs/s")
    print(
        f"hub relative to disk: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); goal {GOAL}"
    )


def _serve(folder: Path, latency_s: float, connection: Connection) -> None:
    from hub_server import hub_server

    with hub_server(folder) as hub:
        hub.latency_s = latency_s
        connection.send(hub.url)
        time.sleep(1e6)


def _local(shard: PairShard, folder: Path) -> PairShard:
    """Return a shard whose files are those behind the hub."""

    def path(text: str) -> str:
        file = HubFile.from_text(text)
        return str(folder / file.repository / file.path)

    return replace(shard, hsc_file=path(shard.hsc_file), sdss_files=tuple(map(path, shard.sdss_files)))


def _pairs_per_second(shards: Sequence[PairShard], reader: SurveyReader) -> float:
    started, count = time.perf_counter(), 0
    drops: Counter[str] = Counter()
    for stream in in_advance(shard_pairs(shard, reader, drops) for shard in shards):
        for pair in stream:
            views = (pair.cutout.flux, pair.cutout.ivar, pair.spectrum.flux, pair.spectrum.ivar)
            count += len([torch.from_numpy(view) for view in views]) // len(views)
    return count / (time.perf_counter() - started)

"""Matching and the store of pairs against their goals: storing, matching, reading, memory."""

import os
import platform
import resource
import shutil
import tempfile
import threading
import time
import zlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from benchmarks.pair_survey import HSC_FOLDER, write_survey

from mmagn.matching.config import MatchingConfig
from mmagn.matching.sky import sky_matches
from mmagn.matching.store import PairStore, pair_store
from mmagn.surveys.config import DataConfig
from mmagn.surveys.hdf5 import read_hsc_catalog
from mmagn.surveys.hsc import PIXEL_COLUMNS

Row = tuple[str, str, str]
SMALL_OBJECTS, LARGE_OBJECTS = 475_000, 4_000_000
READ_PAIRS = 4000


def machine() -> str:
    """Return processor, cores and load in one line."""
    names = [line for line in _lines_of(Path("/proc/cpuinfo")) if line.startswith("model name")]
    cpu = names[0].split(":")[1].strip() if names else platform.processor()
    return f"{cpu}, {os.cpu_count()} cores (load {os.getloadavg()[0]:.1f}), {platform.system()}"


def pair_benchmark(files: int, repeats: int, workers: int, seed: int, astropy: bool) -> None:
    """Measure every goal on ``files`` cells of 300 rows, a fifth of them matched, and print goal and figure."""
    print(f"machine: {machine()}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="mmagn-benchmark-"))
    try:
        pairs = write_survey(folder / "tree", files=files, rows=300, matched=0.2, seed=seed)
        data = DataConfig(source="hdf5", root=str(folder / "tree"), cache_dir=str(folder / "cache"))
        rows = _storing(data, folder, pairs, repeats, workers)
        rows += _reading(folder / "store-0")
        shutil.rmtree(folder)
        rows += _matching(seed, repeats, astropy)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    width = max(len(row[0]) for row in rows)
    print(f"\n{'what':{width}}  {'goal':>14}  measured")
    for what, goal, measured in rows:
        print(f"{what:{width}}  {goal:>14}  {measured}")


def _storing(data: DataConfig, folder: Path, pairs: int, repeats: int, workers: int) -> list[Row]:
    """Store and inflate by turns, so that other work on the machine weighs on both."""
    matching = MatchingConfig(image_dtype="float16", workers=workers)
    store_seconds, zlib_seconds, peaks = [], [], []
    for repeat in range(repeats):
        zlib_seconds.append(_inflating_seconds(data, pairs))
        with PeakMemory() as memory:
            began = time.perf_counter()
            stored = len(pair_store(data, matching, folder / f"store-{repeat}"))
            store_seconds.append(time.perf_counter() - began)
        peaks.append(memory.peak_bytes)
        if stored != pairs:
            raise RuntimeError(f"{stored} pairs stored of {pairs}")
        if repeat:
            shutil.rmtree(folder / f"store-{repeat}")
    with PeakMemory() as dense:
        pair_store(replace(data), replace(matching, image_dtype="float32"), folder / "store-float32")
    shutil.rmtree(folder / "store-float32")
    ratios = [plain / stored for plain, stored in zip(zlib_seconds, store_seconds, strict=True)]
    told = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    return [
        ("inflating every needed chunk, plain zlib, one core", "", f"{pairs / np.median(zlib_seconds):.0f} pairs/s"),
        (f"store from v1 HDF5, float16, {workers} processes", "", f"{pairs / np.median(store_seconds):.0f} pairs/s"),
        ("  over plain zlib", ">= 1.5 x", f"{np.median(ratios):.2f} x ({told})"),
        ("  peak memory of all processes", "<= 2 GB", f"{max(peaks) / 1e9:.2f} GB; {dense.peak_bytes / 1e9:.2f} float32"),
    ]


def _inflating_seconds(data: DataConfig, pairs: int) -> float:
    """Return the time one core takes to read and inflate, once, each chunk that holds pixels of a matched row."""
    began = time.perf_counter()
    for path in sorted((Path(str(data.root)) / HSC_FOLDER).glob("*/*.hdf5")):
        with h5py.File(path, "r") as file, path.open("rb") as raw:
            for name in PIXEL_COLUMNS:
                chunks: list[Any] = []
                file[name].id.chunk_iter(chunks.append)
                for chunk in chunks:  # a fifth of the rows at random leaves no row-block of chunks without one
                    raw.seek(chunk.byte_offset)
                    zlib.decompress(raw.read(chunk.size))
    return time.perf_counter() - began


def _reading(path: Path) -> list[Row]:
    """Read pairs of a store in random order, first once so that they are in the page cache."""
    store = PairStore(path)
    order = np.random.default_rng(0).integers(0, len(store), READ_PAIRS)
    began = time.perf_counter()
    for number in range(len(store)):
        store.image(number)[0].sum(dtype=np.float32)
    rows = []
    for what, read in (("views", _read_views), ("float32 copies", _read_copies)):
        rates = []
        for _ in range(3):
            began = time.perf_counter()
            with ProcessThreads(2) as threads:
                threads.run(read, store, order)
            rates.append(READ_PAIRS / (time.perf_counter() - began))
        rows.append((f"shuffled pairs of a float16 store, 2 threads, {what}", ">= 5000 /s", f"{max(rates):.0f} /s"))
    return rows

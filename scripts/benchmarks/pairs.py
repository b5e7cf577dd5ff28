"""Matching and the store of pairs against their goals: storing, matching, reading, memory."""

import os
import platform
import resource
import shutil
import tempfile
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from astropy.coordinates import SkyCoord

from benchmarks.pair_survey import HSC_FOLDER, write_survey
from mmagn.matching.config import MatchingConfig
from mmagn.matching.sky import sky_matches
from mmagn.matching.store import PairStore, pair_store
from mmagn.surveys.config import DataConfig
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
        rows += _reading(folder / "store")
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
    plain, stored = [], []
    peaks = []
    for _ in range(repeats):
        plain.append(_seconds(partial(_inflate, data)))
        shutil.rmtree(folder / "store", ignore_errors=True)
        with PeakMemory() as memory:
            stored.append(_seconds(partial(pair_store, data, matching, folder / "store")))
        peaks.append(memory.peak_bytes)
    if len(PairStore(folder / "store")) != pairs:
        raise RuntimeError(f"{len(PairStore(folder / 'store'))} pairs stored of {pairs}")
    with PeakMemory() as wide:
        pair_store(data, replace(matching, image_dtype="float32"), folder / "store-float32")
    shutil.rmtree(folder / "store-float32")
    (plain_wall, plain_processor), (wall, processor) = (np.transpose(measured) for measured in (plain, stored))
    figures = ", ".join(f"{ratio:.2f}" for ratio in plain_wall / wall)
    return [
        ("inflating every needed chunk, plain zlib, one core", "", f"{pairs / np.median(plain_wall):.0f} pairs/s"),
        (f"store from v1 HDF5, float16, {workers} processes", "", f"{pairs / np.median(wall):.0f} pairs/s"),
        ("  over plain zlib", ">= 1.5 x", f"{np.median(plain_wall / wall):.2f} x ({figures})"),
        ("  processor time, zlib over store", "", f"{np.median(plain_processor / processor):.2f} x"),
        ("  peak memory of all processes", "<= 2 GB", f"{max(peaks) / 1e9:.2f} GB"),
        ("  the same as float32", "<= 2 GB", f"{wide.peak_bytes / 1e9:.2f} GB"),
    ]


def _seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Return wall time and processor time, that of the processes it started and awaited included."""
    began, used = time.perf_counter(), sum(os.times()[:4])
    work()
    return time.perf_counter() - began, sum(os.times()[:4]) - used


def _inflate(data: DataConfig) -> None:
    """Read and inflate once, on one core, each chunk that holds pixels of a matched row."""
    for path in sorted((Path(str(data.root)) / HSC_FOLDER).glob("*/*.hdf5")):
        with h5py.File(path, "r") as file, path.open("rb") as raw:
            for name in PIXEL_COLUMNS:
                chunks: list[Any] = []
                file[name].id.chunk_iter(chunks.append)
                for chunk in chunks:  # a fifth of the rows at random leaves no row-block of chunks without one
                    raw.seek(chunk.byte_offset)
                    zlib.decompress(raw.read(chunk.size))


def _reading(path: Path) -> list[Row]:
    """Read pairs of a store in random order from the page cache: as they lie there, and widened to float32."""
    store = PairStore(path)
    order = np.random.default_rng(0).integers(0, len(store), READ_PAIRS).tolist()

    def as_stored(number: int) -> None:
        for values in store.image(number):
            values.copy()
        spectrum = store.spectrum(number)
        np.stack([spectrum.flux, spectrum.ivar])

    rows = []
    for what, read in (("float16 images", as_stored), ("whole pairs as float32", store.pair)):
        rates = []
        for _ in range(4):  # the first one fills the page cache
            began = time.perf_counter()
            with ThreadPoolExecutor(2) as threads:
                list(threads.map(partial(_read_all, read), (order[::2], order[1::2])))
            rates.append(READ_PAIRS / (time.perf_counter() - began))
        rows.append((f"shuffled reading, 2 threads, {what}", ">= 5000 /s", f"{np.median(rates[1:]):.0f} /s"))
    return rows


def _read_all(read: Callable[[int], object], numbers: list[int]) -> None:
    for number in numbers:
        read(number)


def _matching(seed: int, repeats: int, astropy: bool) -> list[Row]:
    """Match in a process of its own, so that its memory is counted alone."""
    seconds, peaks, theirs = [], [], []
    for _ in range(repeats):
        for one_way in (False, True) if astropy else (False,):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                took, peak_bytes = pool.submit(_matched, seed, one_way).result()
            (theirs if one_way else seconds).append(took)
            peaks += [] if one_way else [peak_bytes]
    what = f"reciprocal match of {LARGE_OBJECTS / 1e6:g} M x {SMALL_OBJECTS / 1e3:g} k positions"
    figures = ", ".join(f"{value:.1f}" for value in seconds)
    rows = [
        (what, "<= 10 s", f"{np.median(seconds):.1f} s ({figures})"),
        ("  peak memory", "<= 2 GB", f"{max(peaks) / 1e9:.2f} GB"),
    ]
    if astropy:
        figures = ", ".join(f"{value:.1f}" for value in theirs)
        rows.append(("  one way by astropy match_to_catalog_sky", "", f"{np.median(theirs):.1f} s ({figures})"))
    return rows


def _matched(seed: int, one_way: bool) -> tuple[float, int]:
    """Return seconds and peak memory of a match; half of the small side has a counterpart 0.1 arcsec away."""
    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(100, 260, LARGE_OBJECTS), np.degrees(np.arcsin(rng.uniform(0, 0.9, LARGE_OBJECTS)))
    small_ra, small_dec = (
        rng.uniform(100, 260, SMALL_OBJECTS),
        np.degrees(np.arcsin(rng.uniform(0, 0.9, SMALL_OBJECTS))),
    )
    both = SMALL_OBJECTS // 2
    small_ra[:both], small_dec[:both] = ra[:both], dec[:both] + 0.1 / 3600
    if one_way:
        small, large = SkyCoord(small_ra, small_dec, unit="deg"), SkyCoord(ra, dec, unit="deg")
        began = time.perf_counter()
        small.match_to_catalog_sky(large)
    else:
        began = time.perf_counter()
        found = len(sky_matches(ra, dec, small_ra, small_dec, 1.0))
        if not both <= found < 1.01 * both:
            raise RuntimeError(f"{found} pairs found of {both}")
    took = time.perf_counter() - began
    return took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class PeakMemory:
    """Most memory that this process and its children held together while the block ran, shared pages counted once."""

    def __enter__(self) -> "PeakMemory":
        self.peak_bytes = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            self.peak_bytes = max(self.peak_bytes, sum(map(_held_bytes, [os.getpid(), *_children()])))


def _children() -> list[int]:
    return [int(name) for file in Path("/proc/self/task").glob("*/children") for name in file.read_text().split()]


def _held_bytes(process: int) -> int:
    """Return the anonymous memory of a process; pages of mapped files belong to the system and can be dropped."""
    for line in _lines_of(Path(f"/proc/{process}/status")):
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    return 0


def _lines_of(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []

"""Spectra of a HATS catalogue measured on a local Dask cluster: speed, memory of a worker, a worker that is killed.

With ``galaxies``, predictions for images and spectra instead: memory of a worker.
"""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from astropy.table import Table

from mmagn.surveys.config import SimulateConfig
from mmagn.surveys.hats.catalogs import described_hats
from mmagn.surveys.simulate.sky import drawn_sky
from mmagn.surveys.simulate.survey import write_spectra, write_survey

sys.path.append(str(Path(__file__).parents[2] / "tests"))  # the converter of the tests

SCRIPTS = Path(__file__).parents[1]
CELL_SPECTRA = 1250
PARTITION_ROWS = 1500
POLL_S = 0.1
NOTHING = ("nothing but the interpreter", "pass")
IMPORTS = (
    ("Dask and LSDB, which start a worker", "import distributed.worker, lsdb"),
    ("reading a catalogue", "import mmagn.surveys.hats.reader"),
    ("matching", "import mmagn.matching.hats_matching, mmagn.matching.shards"),
    ("measuring (torch)", "import mmagn.surveys.hats.reader, mmagn.measurement.table"),
    ("predicting (torch, timm)", "import mmagn.prediction.hats_catalog"),
)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A command that ended: wall time, processor time of all its processes, largest memory of a worker, its table."""

    wall_s: float
    processor_s: float
    peak_bytes: int
    table: Table

    def __str__(self) -> str:
        """Return the figures."""
        return (
            f"{len(self.table)} spectra in {self.wall_s:.0f} s ({self.processor_s:.0f} s of processor time), "
            f"{self.peak_bytes / 1e9:.2f} GB in the largest worker"
        )


def scale_benchmark(*, spectra: int, galaxies: int, workers: int, seed: int) -> None:
    """Print the figures; exit with 1 where the table of a run with a killed worker is another."""
    if galaxies:
        _predictions(galaxies, workers, seed)
        return
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; processor time of imports in a new process:")
    interpreter_s = _import_s(NOTHING[1])
    for what, code in IMPORTS:
        print(f"  {what}: {_import_s(code) - interpreter_s:.1f} s")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        few, many = (_catalog(folder / str(count), count, seed) for count in (spectra // 4, spectra))
        small = _measured(few, folder / "few.parquet", workers)
        print(f"{workers} workers, {small}")
        large = _measured(many, folder / "many.parquet", workers)
        print(f"{workers} workers, {large}")
        more = len(large.table) - len(small.table)
        print(
            f"each further spectrum: {more / (large.wall_s - small.wall_s):.0f} spectra/s, "
            f"{more / (large.processor_s - small.processor_s):.0f} per second of processor time"
        )
        killed = _measured(many, folder / "killed.parquet", workers, kill_after_s=large.wall_s / 2)
        print(f"{workers} workers, one killed: {killed}")
        same = _same(killed.table, large.table)
        print(f"table of the run with a killed worker: {'the same' if same else 'ANOTHER'}")
    raise SystemExit(not same)


def _import_s(code: str) -> float:
    """Return the processor time of a new process that runs some code, the least of two."""
    times = []
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return min(times)


def _catalog(folder: Path, spectra: int, seed: int) -> Path:
    """Return a HATS collection of simulated SDSS spectra, as many of them in each cell whatever their number."""
    from hats_files import write_hats

    started = time.perf_counter()
    cells = max(1, min(64, spectra // CELL_SPECTRA))
    sky = drawn_sky(SimulateConfig(pairs=spectra, unmatched=0.0, cells=cells, seed=seed)).sdss[:spectra]
    sky["survey"] = "sdss"
    write_spectra(folder / "tree", sky, seed)
    path = write_hats(folder / "tree", "sdss", folder / "hats" / "sdss", partition_rows=PARTITION_ROWS)
    partitions = len([*path.glob("mmu_sdss_sdss/dataset/**/Npix=*.parquet")])
    print(f"{spectra} spectra in {partitions} partitions, written in {time.perf_counter() - started:.0f} s")
    return path


def _predictions(galaxies: int, workers: int, seed: int) -> None:
    """Print time and memory of ``mmagn predict --out hats:`` at two sizes, by a network after one epoch."""
    from hats_files import write_hats

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = ["--data.simulate.pairs", "200", "--data.cache_dir", str(folder / "cache")]
        training = [*settings, "--training.epochs", "1", "--runs_dir", str(folder / "runs")]
        subprocess.run([sys.executable, str(SCRIPTS / "train.py"), *training], check=True, capture_output=True)
        (run,) = (folder / "runs").iterdir()
        for count in (galaxies // 6, galaxies):
            tree, hats = folder / f"tree-{count}", folder / f"hats-{count}"
            cells = max(1, min(64, count // CELL_SPECTRA))
            write_survey(tree, SimulateConfig(pairs=count, unmatched=0.0, cells=cells, seed=seed))
            options = ["--run", str(run), "--data.source", "hats"]
            for kind in ("sdss", "hsc"):
                place = write_hats(tree, kind, hats / kind, partition_rows=PARTITION_ROWS)
                options += [f"--data.hats.{kind}", str(place)]
            shutil.rmtree(tree)
            out = folder / f"scores-{count}"
            wall_s, processor_s, peak_bytes = _timed("predict", [*options, "--out", f"hats:{out}"], workers)
            print(
                f"{workers} workers, {described_hats(str(out), {}).catalog_info.total_rows} of {count} "
                f"galaxies predicted in {wall_s:.0f} s ({processor_s:.0f} s of processor time), {peak_bytes / 1e9:.2f} "
                "GB in the largest worker"
            )


def _measured(catalog: Path, out: Path, workers: int, kill_after_s: float = float("inf")) -> Measured:
    """Run ``mmagn measure``; kill the busiest worker once, after some seconds."""
    options = ["--data.source", "hats", "--data.hats.sdss", str(catalog), "--out", str(out)]
    wall_s, processor_s, peak_bytes = _timed("measure", options, workers, kill_after_s)
    return Measured(wall_s=wall_s, processor_s=processor_s, peak_bytes=peak_bytes, table=Table.read(out))


def _timed(
    script: str, options: list[str], workers: int, kill_after_s: float = float("inf")
) -> tuple[float, float, int]:
    """Return wall time and processor time in s of a script on a local cluster, and the bytes of its largest worker."""
    command = [sys.executable, str(SCRIPTS / f"{script}.py"), *options, "--dask.workers", str(workers)]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    peak_bytes, killed = 0, False
    with tempfile.TemporaryFile("w+") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        while process.poll() is None:
            busy = _workers(process.pid)
            peak_bytes = max([peak_bytes, *(memory for memory, _, _ in busy)])
            if busy and not killed and time.perf_counter() - started > kill_after_s:
                max(busy, key=lambda worker: worker[1])[2].kill()
                killed = True
            time.sleep(POLL_S)
        if process.returncode or killed != (kill_after_s < float("inf")):
            log.seek(0)
            raise SystemExit(f"{script} ended with {process.returncode}, a worker killed: {killed}\n{log.read()}")
    wall_s, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall_s, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, peak_bytes


def _workers(pid: int) -> list[tuple[int, float, psutil.Process]]:
    """Return memory in bytes, processor time in s and process of each worker."""
    found = []
    try:
        for child in psutil.Process(pid).children(recursive=True):
            with child.oneshot():
                if "spawn_main" in " ".join(child.cmdline()):
                    used = child.cpu_times()
                    found.append((child.memory_info().rss, used.user + used.system, child))
    except psutil.Error:  # one has ended meanwhile
        pass
    return found


def _same(one: Table, other: Table) -> bool:
    """Return whether two tables have the same rows, columns and values; NaN is NaN."""
    return one.colnames == other.colnames and all(
        np.ma.filled(one[name], 0).tobytes() == np.ma.filled(other[name], 0).tobytes() for name in one.colnames
    )

"""Every figure of a GPU in one command, the most important first: figures and goals as a table and as JSON."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import gpu_rows
from benchmarks.gpu_rows import WIDTH, Row
from benchmarks.lines import machine


@dataclass(frozen=True, kw_only=True)
class Part:
    """Rows that are measured in a process of their own.

    Attributes
    ----------
    measures
        What is measured, in order.
    limit_s
        Seconds after which the process is ended; the rows so far count.
    """

    measures: tuple[Callable[[], Iterator[Row]], ...]
    limit_s: float


PARTS = {
    "train": Part(measures=(gpu_rows.epoch_rows, gpu_rows.large_rows, gpu_rows.agreement_rows), limit_s=120),
    "ablation": Part(measures=(gpu_rows.ablation_rows,), limit_s=240),
    "lines": Part(measures=(gpu_rows.line_rows,), limit_s=60),
    "predict": Part(measures=(gpu_rows.predict_rows, gpu_rows.stream_rows), limit_s=90),
    "resume": Part(measures=(gpu_rows.resume_rows,), limit_s=90),
    "heads": Part(measures=(gpu_rows.head_rows,), limit_s=60),
    "tests": Part(measures=(gpu_rows.test_rows,), limit_s=240),
}
"""What is measured, the most important first."""


def gpu_benchmark(minutes: float, only: str, out: str, seed: int) -> None:
    """Measure until the time is up, write each row when it is known, and exit with 1 where a goal is missed.

    Each part runs in a process of its own, so that one that fails or hangs does not cost the others. Without a GPU it
    exits with 2.
    """
    if not torch.cuda.is_available():
        sys.stderr.write("torch finds no GPU on this machine, and there is nothing else that this benchmark measures\n")
        raise SystemExit(2)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    if only in PARTS:
        _measure(only, folder, seed)
        return
    where = f"{machine()}; {torch.cuda.get_device_name()}; torch {torch.__version__}, CUDA {torch.version.cuda}"
    print(f"{where}\n{'what':<{WIDTH}}{'goal':>12}  {'measured':>12}", flush=True)
    deadline_s, rows = time.monotonic() + 60 * minutes, []
    for name in only.split(",") if only else PARTS:
        left_s = deadline_s - time.monotonic()
        rows += _part(name, folder, seed, min(PARTS[name].limit_s, left_s))
        (folder / "gpu.json").write_text(
            json.dumps({"machine": where, "rows": rows}, indent=2) + "\n", encoding="utf-8"
        )
    print(f"written to {folder / 'gpu.json'}")
    if missed := [row["what"].strip() for row in rows if row["missed"]]:
        print(f"missed: {'; '.join(missed)}")
        raise SystemExit(1)


def _part(name: str, folder: Path, seed: int, limit_s: float) -> list[dict[str, Any]]:
    """Rows of one part, measured in a process of its own."""
    path, start_s, reason = folder / f"gpu-{name}.json", time.monotonic(), ""
    path.unlink(missing_ok=True)
    command = [sys.executable, sys.argv[0], "gpu", "--only", name, "--out", str(folder), "--seed", str(seed)]
    if limit_s < 20:
        reason = "the time was up"
    else:
        with subprocess.Popen(command, start_new_session=True) as process:
            try:
                code = process.wait(limit_s)
                reason = f"it ended with exit code {code}" if code else ""
            except subprocess.TimeoutExpired:
                reason = f"it was ended after {limit_s:.0f} s"
                os.killpg(process.pid, signal.SIGKILL)
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    if reason:
        row = Row(what=f"{name} is not complete", value=float("nan"), unit="", goal=0, note=reason)
        print(row, flush=True)
        rows.append(_plain(row))
    print(f"  ({name} took {time.monotonic() - start_s:.0f} s)", flush=True)
    return rows


def _measure(name: str, folder: Path, seed: int) -> None:
    """Measure one part in this process; each row is printed and written when it is known."""
    logging.getLogger("mmagn").setLevel(logging.WARNING)
    torch.manual_seed(seed)
    rows = []
    for measure in PARTS[name].measures:
        for row in measure():
            print(row, flush=True)
            rows.append(_plain(row))
            (folder / f"gpu-{name}.json").write_text(json.dumps(rows) + "\n", encoding="utf-8")


def _plain(row: Row) -> dict[str, Any]:
    return {**vars(row), "missed": row.missed, "value": row.value if np.isfinite(row.value) else None}

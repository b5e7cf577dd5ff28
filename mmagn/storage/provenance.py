"""Where a result comes from: commit, versions, command line, machine, time."""

import os
import platform
import shlex
import subprocess
import sys
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from mmagn.storage.version import __version__

PACKAGES = (
    "astropy",
    "datasets",
    "h5py",
    "healpy",
    "lightning",
    "numpy",
    "pyarrow",
    "scikit-learn",
    "scipy",
    "timm",
    "torch",
    "torchmetrics",
)
"""Packages whose versions are recorded with a run, besides its own."""
_GPUS = Path("/proc/driver/nvidia/gpus")


def provenance() -> dict[str, Any]:
    """Return the provenance of a result: commit, versions, command line, machine, time."""
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
        **commit(Path(__file__).resolve().parents[2]),
        "python": platform.python_version(),
        "versions": {"mmagn": __version__, **{name: _version(name) for name in PACKAGES}},
        "machine": {
            "platform": platform.platform(),
            "cpus": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "cuda_devices": _gpu_names(),
        },
    }


def _gpu_names() -> list[str]:
    """Return the names of the GPUs of this machine as their driver states them: asking CUDA takes memory on each."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    texts = [path.read_text(encoding="utf-8") for path in sorted(_GPUS.glob("*/information"))]
    return [line.partition(":")[2].strip() for text in texts for line in text.splitlines() if line.startswith("Model:")]


def commit(folder: Path) -> dict[str, Any]:
    """Return ``commit``, the git commit that ``folder`` is at, and ``uncommitted_changes``.

    ``unknown`` and None where ``folder`` is not the top of a repository or git is not installed.
    """
    unknown = {"commit": "unknown", "uncommitted_changes": None}
    try:
        if Path(_git(folder, "rev-parse", "--show-toplevel")).resolve() != folder.resolve():
            return unknown
        identifier = _git(folder, "rev-parse", "HEAD")
        changes = _git(folder, "status", "--porcelain")
    except (OSError, subprocess.SubprocessError):
        return unknown
    return {"commit": identifier, "uncommitted_changes": bool(changes)}


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=20
    )
    return done.stdout.strip()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"

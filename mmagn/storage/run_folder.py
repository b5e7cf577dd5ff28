"""What a run folder holds, and how its files get there whole or not at all."""

import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Self

import torch

from mmagn.storage.files import write_json

PACKAGES = (
    "mmagn",
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
"""Packages whose versions are written down with a run."""
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@dataclass(frozen=True)
class RunFolder:
    """The folder ``<date>-<name>`` of one run; each property is the path of one thing in it.

    Attributes
    ----------
    path
        The folder itself; its name ends in the name of the run.
    """

    path: Path

    @classmethod
    def create(cls, runs_dir: Path | str, name: str) -> Self:
        """Make a new run folder and write down where it comes from.

        Parameters
        ----------
        runs_dir
            Folder of all runs, made where it is missing.
        name
            Name of the run. The date in front has seconds; a run of the same second gets a number behind it.
        """
        stem = f"{datetime.now().astimezone():%Y%m%d-%H%M%S}-{name}"
        number = 1
        while True:
            path = Path(runs_dir) / (stem if number == 1 else f"{stem}-{number}")
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                number += 1
            else:
                break
        run = cls(path)
        run.figures.mkdir()
        write_json(run.provenance, provenance())
        return run

    @classmethod
    def open(cls, path: Path | str, needs: Sequence[str] = ("config.yaml",)) -> Self:
        """Return the run folder at ``path``.

        Raises
        ------
        FileNotFoundError
            Where ``path`` is no folder, or lacks one of the files in ``needs``.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is not a run folder: there is no such folder")
        missing = [name for name in needs if not (folder / name).exists()]
        if missing:
            raise FileNotFoundError(f"{folder} is not a complete run folder: it lacks {', '.join(missing)}")
        return cls(folder)

    @property
    def config(self) -> Path:
        """Every setting of the run, as YAML."""
        return self.path / "config.yaml"

    @property
    def provenance(self) -> Path:
        """Commit, versions, command line and machine, as JSON."""
        return self.path / "run.json"

    @property
    def split(self) -> Path:
        """Which object went to which split, as Parquet."""
        return self.path / "split.parquet"

    @property
    def measurements(self) -> Path:
        """Lines, features, class and reason of every pair, as Parquet."""
        return self.path / "measurements.parquet"

    @property
    def scaling(self) -> Path:
        """Scaling and imputation of the features, as JSON."""
        return self.path / "scaling.json"

    @property
    def best(self) -> Path:
        """Checkpoint of the best epoch: weights only."""
        return self.path / "best.ckpt"

    @property
    def last(self) -> Path:
        """The latest checkpoint: all that it takes to go on."""
        return self.path / "last.ckpt"

    @property
    def previous(self) -> Path:
        """The checkpoint before the latest, should that one be damaged."""
        return self.path / "previous.ckpt"

    @property
    def weights(self) -> Path:
        """Weights of the best epoch as safetensors; exists once training is complete."""
        return self.path / "weights.safetensors"

    @property
    def bad_batch(self) -> Path:
        """The batch whose loss was not a finite number, as JSON; exists only after such an accident."""
        return self.path / "bad_batch.json"

    @property
    def scores(self) -> Path:
        """Scores with intervals, as JSON."""
        return self.path / "scores.json"

    @property
    def predictions(self) -> Path:
        """One row per object with truth and probability, as Parquet."""
        return self.path / "predictions.parquet"

    @property
    def figures(self) -> Path:
        """Folder of figures."""
        return self.path / "figures"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard events."""
        return self.path / "tensorboard"

    @property
    def log(self) -> Path:
        """What the run said, line by line."""
        return self.path / "run.log"

    @contextmanager
    def kept_if_begun(self) -> Iterator[None]:
        """Remove the folder where the context fails and left neither a checkpoint nor a bad batch to look at."""
        try:
            yield
        except BaseException:
            if not any(path.exists() for path in (self.last, self.previous, self.bad_batch)):
                shutil.rmtree(self.path, ignore_errors=True)
            raise

    @contextmanager
    def log_lines(self) -> Iterator[Path]:
        """Append what the package logs to :attr:`log` while the context lasts; gives that path."""
        package = logging.getLogger("mmagn")
        handler = logging.FileHandler(self.log, encoding="utf-8")
        handler.setFormatter(logging.Formatter(LOG_FORMAT))
        package.addHandler(handler)
        try:
            yield self.log
        finally:
            package.removeHandler(handler)
            handler.close()


def provenance() -> dict[str, Any]:
    """Return where a result comes from: commit, versions, command line, machine, time."""
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
        **commit(Path(__file__).resolve().parents[2]),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "machine": {
            "platform": platform.platform(),
            "cpus": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "cuda_devices": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        },
    }


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

"""The run folder: the names of all its files, and the record of where it comes from."""

import itertools
import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from mmagn.storage.checksums import StoredFile, check_file, damaged_files, stored_file
from mmagn.storage.files import write_json
from mmagn.storage.provenance import provenance
from mmagn.storage.version import __version__

SEALED = (".yaml", ".json", ".parquet", ".safetensors", ".ckpt", ".csv", ".md")
"""Suffixes of the results of a run."""
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@dataclass(frozen=True)
class _Inside:
    """Path of a file or folder of that name in a run folder."""

    name: str

    def __get__(self, run: "RunFolder", run_class: type) -> Path:
        return run.path / self.name


@dataclass(frozen=True)
class RunFolder:
    """The folder ``<date>-<name>`` of one run; most attributes are the paths of what is in it.

    The folder of one network of an ablation, which holds some of these files, is opened as a run folder as well.
    """

    path: Path

    config = _Inside("config.yaml")
    """All settings of the run, as YAML."""
    provenance = _Inside("run.json")
    """Commit, versions, command line and machine, as JSON."""
    split = _Inside("split.parquet")
    """Split of each object, as Parquet."""
    measurements = _Inside("measurements.parquet")
    """Lines, features, class and reason of every pair, as Parquet."""
    basis = _Inside("basis.safetensors")
    """Continuum basis that the lines were measured with, where one was learned."""
    scaling = _Inside("scaling.json")
    """Scaling and imputation of the features, as JSON."""
    best = _Inside("best.ckpt")
    """Checkpoint of the best epoch: weights only."""
    last = _Inside("last.ckpt")
    """Latest checkpoint: everything needed to resume."""
    previous = _Inside("previous.ckpt")
    """Checkpoint before the latest, in case that one is damaged."""
    weights = _Inside("weights.safetensors")
    """Weights of the best epoch; exists once training is complete."""
    bad_batch = _Inside("bad_batch.json")
    """Batch with a non-finite loss, as JSON; exists only after one."""
    calibration = _Inside("calibration.json")
    """Calibration and threshold for each set of views, as JSON."""
    novelty = _Inside("novelty.safetensors")
    """Reference embeddings against which new objects are compared."""
    importance = _Inside("importance.json")
    """Permutation importance of the features, as JSON."""
    predictions = _Inside("predictions.parquet")
    """One row per object with truth and probability, as Parquet."""
    out_of_fold = _Inside("out_of_fold.parquet")
    """Out-of-fold predictions of an ablation, as Parquet."""
    ablation = _Inside("ablation.json")
    """Scores and comparisons of an ablation, as JSON; as Markdown and CSV with another suffix."""
    strata = _Inside("strata.csv")
    """Scores of an ablation on parts of the sample, as CSV."""
    members = _Inside("members")
    """Folder of the networks that an ablation keeps for prediction, a folder per model."""
    search = _Inside("search.json")
    """Result of a search, as JSON."""
    trials = _Inside("trials.csv")
    """Trials of a search, as CSV."""
    best_config = _Inside("best.yaml")
    """Settings of the best trial of a search, as YAML."""
    report = _Inside("report.html")
    """Report as one page."""
    figures = _Inside("figures")
    """Folder of figures."""
    tensorboard = _Inside("tensorboard")
    """Folder of TensorBoard events."""
    log = _Inside("run.log")
    """Log of the run."""

    @classmethod
    def create(cls, runs_dir: Path | str, name: str) -> Self:
        """Create a new run folder in the folder of all runs, and record where it comes from.

        ``name`` is put after date and time; a second run of the same second gets a number appended.
        """
        stem = f"{datetime.now().astimezone():%Y%m%d-%H%M%S}-{name}"
        number, recorded = 1, provenance()  # before the folder is there: a killed process rarely leaves half of one
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
        write_json(run.provenance, recorded)
        return run

    @classmethod
    def open(cls, path: Path | str, needs: Sequence[str] = ("config.yaml",)) -> Self:
        """Return the run folder at ``path``.

        Raises ``FileNotFoundError`` where there is no folder or it lacks one of the files in ``needs``, ``ValueError``
        where one of these is not what was written, or another version wrote the folder.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is not a run folder: there is no such folder")
        run = cls(folder)
        run._check_version()
        missing = [name for name in needs if not (folder / name).exists()]
        if missing:
            raise FileNotFoundError(f"{folder} is not a complete run folder: it lacks {', '.join(missing)}")
        run.check(*(folder / name for name in needs))
        return run

    def _check_version(self) -> None:
        written = self._provenance().get("versions", {}).get("mmagn") if self.provenance.is_file() else None
        if written is not None and str(written).split(".")[:2] != __version__.split(".")[:2]:
            raise ValueError(
                f"{self.path} was written by mmagn {written}; mmagn {__version__} reads run folders of its own minor"
                " version: train again, or install that version"
            )

    def seal(self) -> None:
        """Record size and checksum of every result in ``run.json``, so that damage is noticed when it is read."""
        content = self._provenance()
        files = {path.relative_to(self.path).as_posix(): asdict(stored_file(path)) for path in self._results()}
        write_json(self.provenance, {**content, "files": files})

    def sealed(self) -> bool:
        """Return whether checksums of results are recorded, which is done last."""
        return bool(self._sealed())

    def unseal(self, *paths: Path) -> None:
        """Forget the checksums of files that are about to be written again."""
        if files := self._sealed():
            left = {name: asdict(written) for name, written in files.items() if self.path / name not in paths}
            write_json(self.provenance, {**self._provenance(), "files": left})

    def check(self, *paths: Path) -> None:
        """Check that files are what was written, as far as the run was sealed; ``ValueError`` names the damaged one."""
        files = self._sealed()
        for path in paths:
            if (written := files.get(path.relative_to(self.path).as_posix())) is not None:
                check_file(path, written)

    def damaged(self, *, checkpoints: bool = False) -> list[str]:
        """Return a sentence for each result, or checkpoint without a record, that is not what was written."""
        sealed = self._sealed()
        loose = [path for path in (self.last, self.previous, self.best) if checkpoints and path.name not in sealed]
        return damaged_files(self.path, sealed, loose)

    def _sealed(self) -> dict[str, StoredFile]:
        files = self._provenance().get("files", {}) if self.provenance.is_file() else {}
        try:
            return {name: StoredFile(**written) for name, written in files.items()}
        except (TypeError, AttributeError) as error:
            raise ValueError(f"{self.provenance} is damaged: files is {str(files)[:80]}") from error

    def _provenance(self) -> dict[str, Any]:
        try:
            content = json.loads(self.provenance.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{self.provenance} is damaged: {error}") from error
        if not isinstance(content, dict):
            raise ValueError(f"{self.provenance} is damaged: it holds no record of a run")
        return content

    def _results(self) -> Iterator[Path]:
        """Files that do not change once a run is complete."""
        unsealed = (self.provenance, self.last, self.previous, self.bad_batch, self.report)
        for path in sorted([*self.path.iterdir(), *self.members.rglob("*")]):
            if path.is_file() and path.suffix in SEALED and path not in unsealed and not path.name.startswith("."):
                yield path

    @property
    def scores(self) -> Path:
        """Scores with intervals on the test split, as JSON."""
        return self.scores_of("test")

    def scores_of(self, split: str) -> Path:
        """Scores with intervals on a split, as JSON."""
        return self.path / ("scores.json" if split == "test" else f"scores-{split}.json")

    @property
    def published(self) -> tuple[Path, ...]:
        """Files of a training that are pushed to a hub: what prediction needs, and the scores; none is pickled."""
        needed = (self.config, self.provenance, self.weights, self.scaling, self.calibration, self.scores)
        return (*needed, self.basis, self.novelty, self.importance)

    @property
    def new_csv(self) -> Path:
        """Folder for a new ``metrics.csv``: ``csv``, and ``csv-2`` and so on where a run is resumed."""
        folders = (self.path / (f"csv-{number}" if number > 1 else "csv") for number in itertools.count(1))
        return next(folder for folder in folders if not folder.exists())

    @property
    def mlflow(self) -> Path:
        """MLflow store of all runs beside this one."""
        return self.path.absolute().parent / "mlflow.db"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing to the folder while the context lasts.

        Raises ``ValueError`` where another process holds the lock.
        """
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(f"{self.path} is being written by another process; wait until that has ended") from None
        try:
            yield
        finally:
            lock.release()

    def in_use(self) -> bool:
        """Return whether another process holds the lock of the folder."""
        try:
            with self.locked():
                return False
        except ValueError:
            return True

    @contextmanager
    def removed_if_empty(self) -> Iterator[None]:
        """Remove the folder where the context fails before there is a checkpoint or a bad batch to look at."""
        try:
            yield
        except BaseException:
            if not any(path.exists() for path in (self.last, self.previous, self.bad_batch)):
                shutil.rmtree(self.path, ignore_errors=True)
            raise

    @contextmanager
    def log_lines(self) -> Iterator[Path]:
        """Append the log messages of the package to :attr:`log` while the context lasts; yields that path."""
        package = logging.getLogger("mmagn")
        handler = logging.FileHandler(self.log, encoding="utf-8")
        handler.setFormatter(logging.Formatter(LOG_FORMAT))
        package.addHandler(handler)
        try:
            yield self.log
        finally:
            package.removeHandler(handler)
            handler.close()

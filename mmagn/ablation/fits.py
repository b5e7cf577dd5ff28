"""Out-of-fold predictions of every model, cached on disk.

Scaling, imputation, early stopping, calibration and threshold use only the training and validation rows of a fold.
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from mmagn.ablation.inputs import FoldInputs
from mmagn.ablation.networks import FoldNetworks
from mmagn.config.run_config import RunConfig
from mmagn.evaluation.baselines import logistic_logits, rule_logits
from mmagn.evaluation.folds import Fold
from mmagn.evaluation.network import validation_calibration
from mmagn.evaluation.strata import bpt_ratios
from mmagn.evaluation.variants import Variant
from mmagn.models.heads import FusionHeads
from mmagn.records import Floats
from mmagn.runs.sample import Sample
from mmagn.storage.files import json_digest, whole_file, write_json
from mmagn.storage.run_folder import RunFolder
from mmagn.storage.tables import write_table
from mmagn.storage.version import __version__
from mmagn.workers import run_tasks

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class FitTask:
    """Fits of a model on some folds, or evaluations of fitted networks.

    Attributes
    ----------
    action
        ``fit`` or ``evaluate``.
    variant, folds
        Model and folds.
    """

    action: str
    variant: Variant
    folds: tuple[Fold, ...]

    def __str__(self) -> str:
        """Return the name of the task in the log."""
        places = ", ".join(f"repeat {fold.repeat} fold {fold.fold}" for fold in self.folds[:1])
        rest = f" and {len(self.folds) - 1} more" if len(self.folds) > 1 else ""
        return f"{self.action} {self.variant.name}, {places}{rest}"


class FoldFits:
    """The fits of an ablation on one sample.

    Parameters
    ----------
    config
        Settings of the run; a variant changes branches, blanking and features.
    sample
        Labelled pairs.
    folder
        Cache of finished fits: a folder per model and settings with a Parquet file of predictions per fold and, for a
        network, a folder with weights, scaling, calibration and novelty. None takes ``ablation.fits_dir``.
    """

    def __init__(self, config: RunConfig, sample: Sample, folder: Path | None = None) -> None:
        default = config.ablation.fits_dir or f"{config.data.cache_dir}/fits"
        self.config, self.sample, self.folder = config, sample, folder or Path(default).expanduser()
        self.inputs = FoldInputs(config, sample)
        self.networks = FoldNetworks(self.inputs)
        self.fitted = 0

    def table(self, variant: Variant, fold: Fold) -> Table:
        """Return the predictions for the test objects of a fold, from the cache or a new fit.

        Columns ``variant, repeat, fold, seed, object_id, truth, logit, calibrated_probability, threshold, called``.
        """
        self.make([variant], [fold])
        return Table.read(self._path(variant, fold), format="parquet")

    def make(self, variants: Sequence[Variant], folds: Sequence[Fold], workers: int = 1) -> None:
        """Make all fits that are not in the cache; all networks of a variant on features alone as one batch.

        Parameters
        ----------
        variants, folds
            Every variant is fitted on every fold.
        workers
            Concurrent processes on the CPU; on a GPU one process fits several folds side by side. The result does not
            depend on it.
        """
        missing = {
            variant.name: [fold for fold in folds if not self._path(variant, fold).is_file()] for variant in variants
        }
        together, alone = [], []
        for variant in variants:
            if variant.branches in ((), ("features",)) or self.inputs.device == "cuda":
                together += [FitTask(action="fit", variant=variant, folds=tuple(missing[variant.name]))]
            else:
                alone += [FitTask(action="fit", variant=variant, folds=(fold,)) for fold in missing[variant.name]]
        self._run([task for task in together if task.folds], workers=1)
        self._run(alone, workers)

    def make_members(self, variant: Variant, folds: Sequence[Fold], workers: int = 1) -> list[Path]:
        """Return folders with weights, scaling, calibration and novelty, one per fold."""
        self.make([variant], folds, workers)
        folders = [self._member(variant, fold) for fold in folds]
        tasks = [
            FitTask(action="evaluate", variant=variant, folds=(fold,))
            for fold, folder in zip(folds, folders, strict=True)
            if not RunFolder(folder).calibration.is_file()
        ]
        self._run(tasks, workers)
        return folders

    def embedding(self, variant: Variant, fold: Fold) -> NDArray[np.float32]:
        """Return head inputs (object, embedding) of all objects from the network of a fold, cached on disk.

        The network was fitted to the training rows, and its epoch chosen on the validation rows: another head that is
        fitted to the embeddings of the training rows can be scored on those of the test rows.
        """
        self.make([variant], [fold])
        folder = self._member(variant, fold)
        digest = hashlib.sha256(RunFolder(folder).weights.read_bytes()).hexdigest()[:16]
        path = folder / f"embedding-{digest}.npy"
        if not path.is_file():
            embedding = self.networks.embedding(variant, fold, folder)
            with whole_file(path) as part, part.open("wb") as file:
                np.save(file, embedding, allow_pickle=False)
        return np.asarray(np.load(path, allow_pickle=False), dtype=np.float32)

    def heads(self, variant: Variant, fold: Fold) -> FusionHeads:
        """Return the heads of the network of a fold."""
        self.make([variant], [fold])
        return self.networks.load(variant, self._member(variant, fold)).heads

    def do(self, task: FitTask) -> None:
        """Do a task."""
        if task.action == "evaluate":
            for fold in task.folds:
                self.networks.evaluate(task.variant, fold, self._member(task.variant, fold))
        else:
            self._fit(task.variant, task.folds)

    def _run(self, tasks: Sequence[FitTask], workers: int) -> None:
        """Do tasks in this process or in worker processes."""
        shared = min(workers, len(tasks)) > 1 and self.inputs.device == "cpu"
        prepare = partial(fit_worker, self.config, self.sample, self.folder) if shared else lambda: self.do
        for number, each in enumerate(run_tasks(tasks, prepare, workers if shared else 0), start=1):
            self.fitted += len(each.task.folds) if each.task.action == "fit" else 0
            logger.info(
                "%s: %.1f s, processor %.1f s (%d of %d)",
                each.task,
                each.seconds,
                each.processor_seconds,
                number,
                len(tasks),
            )

    def _fit(self, variant: Variant, folds: Sequence[Fold]) -> None:
        """Fit a model on folds and write the results; the Parquet file, written last, marks a fit as complete."""
        if variant.kind == "network":
            for fold, fitted in zip(folds, self.networks.fitted(variant, folds), strict=True):
                self.networks.save(fitted.model, variant, fold, self._member(variant, fold))
                self._write(variant, fold, fitted.logits)
        else:
            for fold in folds:
                self._write(variant, fold, self._baseline_logits(variant, fold))

    def _baseline_logits(self, variant: Variant, fold: Fold) -> Floats:
        """(object,) logits of a model without a network; those of training rows are in-sample."""
        target = self.sample.target
        if variant.kind == "constant":
            return np.full(len(target), -np.inf)
        if variant.kind == "bpt-rule":
            return rule_logits(*bpt_ratios(self.sample.labelled), self.config.labels.seyfert_liner)
        values, valid = self.inputs.columns(variant)
        weight, splines = self.networks.pos_weight(fold), variant.kind == "spline-logistic"
        return logistic_logits(values, valid, target, fold.train, pos_weight=weight, splines=splines)

    def _write(self, variant: Variant, fold: Fold, logits: Floats) -> None:
        """Calibrate on the validation rows and write the predictions for the test rows."""
        target, validation = self.sample.target, fold.validation
        if variant.kind == "constant":
            probability, threshold = np.zeros(len(target)), 0.5
        else:
            weight = 1.0 if variant.kind == "bpt-rule" else self.networks.pos_weight(fold)
            used = validation_calibration(
                target[validation], logits[validation], self.config.evaluation, pos_weight=weight
            )
            probability, threshold = used.calibration.probability(logits), used.threshold
        count = len(fold.test)
        table = Table(
            {
                "variant": np.full(count, variant.name),
                **{name: np.full(count, getattr(fold, name)) for name in ("repeat", "fold", "seed")},
                "object_id": self.sample.object_id[fold.test],
                "truth": target[fold.test],
                "logit": logits[fold.test],
                "calibrated_probability": probability[fold.test],
                "threshold": np.full(count, threshold),
                "called": (probability[fold.test] >= threshold).astype(np.float64),
            }
        )
        write_table(self._path(variant, fold), table)

    def _member(self, variant: Variant, fold: Fold) -> Path:
        return self._path(variant, fold).with_suffix("")

    def _path(self, variant: Variant, fold: Fold) -> Path:
        """File of a fit, in a folder named by a digest of all settings that affect it."""
        config = self.inputs.variant_config(variant)
        settings = config.fit_settings("labels", "tensors", "fit", "calibration")
        settings |= {"variant": asdict(variant), "data": self.inputs.data_digest, "mmagn": __version__}
        if variant.needs_vectors:
            settings["vectors"] = self.inputs.vectors_digest
        folder = self.folder / f"{variant.name}-{json_digest(settings)[:16]}"
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / "settings.json", settings)
        rows = np.concatenate([fold.train, [-1], fold.validation, [-1], fold.test])
        digest = hashlib.sha256(f"{fold.seed} {rows.tolist()}".encode()).hexdigest()[:16]
        return folder / f"repeat-{fold.repeat}-fold-{fold.fold}-{digest}.parquet"


def fit_worker(config: RunConfig, sample: Sample, folder: Path) -> Callable[[FitTask], None]:
    """Return the function that does the tasks of :class:`FoldFits` in a worker."""
    return FoldFits(config, sample, folder).do

"""A search from config to best settings: inner folds outside the test split, a study on them, and its results."""

import logging
import shlex
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import optuna
from optuna.storages import BaseStorage
from optuna.study import Study

from mmagn.ablation.fits import FoldFits
from mmagn.config.run_config import RunConfig, save_config
from mmagn.reporting.page.report import write_report
from mmagn.runs.resume import unfinished_run
from mmagn.runs.sample import Sample, labelled_sample
from mmagn.search.folds import as_trained, network_scores, sample_folds, searched_sample
from mmagn.search.heads import HeadScores
from mmagn.search.nested import NestedSearch, nested_search
from mmagn.search.results import Gain, TrialRecord, best_record, trial_records, write_results
from mmagn.search.space import check_space
from mmagn.search.storage import dashboard_command, study_storage
from mmagn.search.study import FoldScores, finished_trials, open_study, own_scores, run_trials, short_text, study_name
from mmagn.storage.run_folder import RunFolder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Search:
    """Result of a search in its run folder: the best trial of the study, over all workers, and what it gains.

    ``nested`` is the score of the whole search, None without ``search.nested``.
    """

    path: Path
    best: TrialRecord
    gain: Gain
    nested: NestedSearch | None

    @property
    def text(self) -> str:
        """Result in sentences, and the command that trains with it."""
        values = ", ".join(f"{name} {short_text(value)}" for name, value in self.best.values.items())
        lines = [
            f"best trial: number {self.best.number}, average precision {self.best.score:.3f} of inner folds, {values}",
            self.gain.sentence,
            *([] if self.nested is None else [self.nested.sentence]),
            f"train with it: python scripts/train.py --config {RunFolder(self.path).best_config}",
        ]
        return "\n".join(lines)


def search(config: RunConfig) -> Search:
    """Search for better settings on inner folds outside the test split, and write the result to a run folder.

    The study is kept in ``search.storage``: the same command resumes it, and takes part in it from other machines.

    Raises
    ------
    ValueError
        Where the space does not fit the run, the named study has other settings or data, or there are too few objects
        for the folds.
    ConnectionError
        Where the storage cannot be reached.
    """
    check_space(config)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with study_storage(config) as storage:
        sample = searched_sample(labelled_sample(config))
        study = SampleStudy(config, sample, storage)  # a refused study leaves no run folder
        run = unfinished_run(config) or RunFolder.create(config.runs_dir, config.name)
        save_config(config, run.config)
        with run.locked(), run.log_lines():
            result = _searched(config, sample, study, run)
            run.seal()
    sys.stdout.write(f"{result.text}\nstudies: {shlex.join(dashboard_command(config))}\nrun folder: {run.path}\n")
    return result


def _searched(config: RunConfig, sample: Sample, study: "SampleStudy", run: RunFolder) -> Search:
    trials = trial_records(study.finished(), config.search)
    gain = Gain(best=best_record(trials).folds, own=tuple(study.own_scores()), trials=len(trials))
    nested = None
    if config.search.nested:

        def inner(part: Sample, word: str) -> TrialRecord:
            finished = SampleStudy(config, part, study.storage, f"{study.name}-{word}").finished()
            return best_record(trial_records(finished, config.search))

        nested = nested_search(config, sample, inner)
    summary = {
        "simulated": sample.store.simulated,
        "objects": len(sample.target),
        "positives": int(sample.target.sum()),
        "prevalence": float(sample.target.mean()),
        "folds": config.search.folds,
        "nested": None if nested is None else nested.as_dict(),
    }
    best = write_results(config, run, study.study, gain, summary)
    write_report(run.path)
    return Search(path=run.path, best=best, gain=gain, nested=nested)


class SampleStudy:
    """A study on one sample, and the fits behind its trials.

    A ``name`` "" takes ``search.study``, or a name made of the settings and data.
    """

    def __init__(self, config: RunConfig, sample: Sample, storage: BaseStorage, name: str = "") -> None:
        self.config, self.sample, self.storage = config, sample, storage
        self.folds = sample_folds(config, sample, config.search.folds)
        self.fits = FoldFits(as_trained(config), sample)
        self.name = name or study_name(config, self.fits.inputs.data_digest)
        self.study = open_study(config, storage, self.name, self.fits.inputs.data_digest)
        self._scores: FoldScores | None = None

    def finished(self) -> Study:
        """Return the study with all its trials, from the storage or run now."""
        count, positives = len(self.sample.target), int(self.sample.target.sum())
        logger.info("study %s: %d folds of %d objects, %d positive", self.name, len(self.folds), count, positives)
        try:
            if len(finished_trials(self.study)) < self.config.search.trials:
                run_trials(self.study, self.config, self._fold_scores())
        except KeyboardInterrupt:
            logger.info("study %s is kept; the same command resumes it", self.name)
            raise
        return self.study

    def own_scores(self) -> list[float]:
        """Return the scores of the settings of the run on the same folds."""
        return own_scores(self.study, self.config, lambda config: self._fold_scores()(config))

    def _fold_scores(self) -> FoldScores:
        if self._scores is None:
            networks = partial(network_scores, self.sample, self.folds)
            self._scores = HeadScores(self.fits, self.folds) if self.config.search.over == "head" else networks
        return self._scores

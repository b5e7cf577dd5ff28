"""A search from config to best settings: inner folds outside the test split, a study on them, and what is written."""

import logging
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.storages import BaseStorage
from optuna.study import Study

from mmagn.ablation.fits import FoldFits
from mmagn.config.run_config import RunConfig, save_config
from mmagn.evaluation.crossval import Fold
from mmagn.reporting.figures.search import TrialRecord
from mmagn.reporting.page.report import write_report
from mmagn.runs.sample import Sample, labelled_sample
from mmagn.search.folds import NetworkScores, as_trained, fits_dir, sample_folds, searched_sample
from mmagn.search.heads import HeadScores
from mmagn.search.nested import NestedSearch, nested_search
from mmagn.search.results import best_record, trial_records, write_results
from mmagn.search.space import check_space
from mmagn.search.storage import dashboard_command, study_storage
from mmagn.search.study import finished_trials, open_study, run_trials
from mmagn.storage.run_folder import RunFolder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Search:
    """What came of a search.

    Attributes
    ----------
    path
        Run folder.
    best
        Best trial of the study, over all workers.
    nested
        Score of the whole search, None where it was not asked for.
    """

    path: Path
    best: TrialRecord
    nested: NestedSearch | None


def search(config: RunConfig) -> Search:
    """Look for better settings on inner folds of what is outside the test split, and write what was found.

    The study is kept in ``search.storage``: what was interrupted goes on where it was, and the same command on
    another machine with the same storage takes part.

    Raises
    ------
    ValueError
        Where the space does not fit the run, the study of that name has other settings or data, or there are too few
        objects for the folds.
    ConnectionError
        Where the storage cannot be reached.
    """
    check_space(config)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with study_storage(config) as storage:
        sample = searched_sample(labelled_sample(config))
        _opened(config, sample, storage, config.search.study or config.name)  # a refused study leaves no run folder
        run = RunFolder.create(config.runs_dir, config.name)
        save_config(config, run.config)
        with run.log_lines():
            return _searched(config, sample, storage, run)


def _searched(config: RunConfig, sample: Sample, storage: BaseStorage, run: RunFolder) -> Search:
    name = config.search.study or config.name
    study = finished_study(config, sample, storage, name)
    nested = None
    if config.search.nested:

        def inner(part: Sample, word: str) -> TrialRecord:
            return best_record(trial_records(finished_study(config, part, storage, f"{name}-{word}"), config.search))

        nested = nested_search(config, sample, inner)
    best = write_results(config, run, study, _told(config, sample, nested), float(sample.target.mean()))
    write_report(run.path)
    _say(config, run, best, nested)
    return Search(path=run.path, best=best, nested=nested)


def finished_study(config: RunConfig, sample: Sample, storage: BaseStorage, name: str) -> Study:
    """Return the study of that name with all its trials, run now or found in the storage.

    Parameters
    ----------
    config
        Settings of the run.
    sample
        All objects that the search may see.
    storage, name
        Where the study is kept, and its name.
    """
    study, fits, folds = _opened(config, sample, storage, name)
    logger.info(
        "study %s: %d folds of %d objects, %d positive",
        name,
        len(folds),
        len(sample.target),
        int(sample.target.sum()),
    )
    try:
        if len(finished_trials(study)) < config.search.trials:
            over_head = config.search.over == "head"
            run_trials(study, config, HeadScores(fits, folds) if over_head else NetworkScores(sample, folds))
    except KeyboardInterrupt:
        logger.info("study %s is kept; the same command goes on with it", name)
        raise
    return study


def _opened(config: RunConfig, sample: Sample, storage: BaseStorage, name: str) -> tuple[Study, FoldFits, list[Fold]]:
    """Return a study, and what its trials are fitted with."""
    folds = sample_folds(config, sample, config.search.folds)
    fits = FoldFits(as_trained(config), sample, fits_dir(config))
    return open_study(config, storage, name, fits.data_digest), fits, folds


def _told(config: RunConfig, sample: Sample, nested: NestedSearch | None) -> dict[str, object]:
    return {
        "objects": len(sample.target),
        "positives": int(sample.target.sum()),
        "folds": config.search.folds,
        "nested": None if nested is None else nested.as_dict(),
    }


def _say(config: RunConfig, run: RunFolder, best: TrialRecord, nested: NestedSearch | None) -> None:
    place = ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in best.values.items()
    )
    lines = [
        f"best of the search: average precision {best.score:.3f} of inner folds (trial {best.number}) at {place}",
        *([] if nested is None else [nested.sentence]),
        f"train with it: python scripts/train.py --config {run.path / 'best.yaml'}",
        f"look at it: {shlex.join(dashboard_command(config))}",
        f"run folder: {run.path}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")

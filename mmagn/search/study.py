"""The study: opened or gone on with, its trials run until there are enough of them."""

import logging
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import BaseStorage
from optuna.study import MaxTrialsCallback, Study
from optuna.trial import FrozenTrial, Trial, TrialState

from mmagn.config.run_config import RunConfig
from mmagn.config.search import SearchConfig
from mmagn.search.space import base_parameters, suggested_values, with_values
from mmagn.storage.settings import settings_affecting
from mmagn.training.callbacks import NonFiniteLossError

logger = logging.getLogger(__name__)

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
"""States of trials that count."""
FOLD_SCORES = "fold_scores"
"""Attribute of a trial: average precision of each of its folds."""
DIVERGED = "diverged"
"""Attribute of a trial that was given up because its loss was not finite: the reason."""
WORKER = "worker"
"""Attribute of a trial: machine and process that ran it."""
_SETTINGS, _DATA = "settings", "data"

FoldScores = Callable[[RunConfig], Iterator[float]]
"""Average precision of settings on one inner fold after another, each fitted when it is asked for."""


class TrialSampler(BaseSampler):
    """TPE whose draws are a function of the seed, the place of the trial in the study and the trials before it.

    A study that goes on in another process therefore tries what it would have tried, and no worker repeats another's
    random start.

    Parameters
    ----------
    seed
        Seed of the search.
    startup_trials
        Trials at random places.
    """

    def __init__(self, seed: int, startup_trials: int) -> None:
        self.seed, self.startup_trials = seed, startup_trials
        self._number, self._sampler = -1, TPESampler(seed=seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return what is sampled together."""
        return self._of(study, trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return what is sampled together, by name."""
        return self._of(study, trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return what is sampled alone."""
        return self._of(study, trial).sample_independent(study, trial, param_name, param_distribution)

    def _of(self, study: Study, trial: FrozenTrial) -> TPESampler:
        if trial.number != self._number:
            failed = study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
            place = trial.number - sum(each.number < trial.number for each in failed)
            state = np.random.SeedSequence([self.seed, place]).generate_state(1)
            self._sampler = TPESampler(seed=int(state[0]), n_startup_trials=self.startup_trials)
            self._number = trial.number
        return self._sampler


def open_study(config: RunConfig, storage: BaseStorage, name: str, data: str) -> Study:
    """Return the study of that name: a new one, or the one that another start or worker made with the same settings.

    A new one begins with the run's own settings as its first trial, where they lie inside the ranges.

    Parameters
    ----------
    config
        Settings of the run.
    storage
        Where studies are kept.
    name
        Name of the study.
    data
        Digest of the objects it sees.

    Raises
    ------
    ValueError
        Where the study of that name has other settings or data; names the first difference.
    """
    search = config.search
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        direction="maximize",
        load_if_exists=True,
        sampler=TrialSampler(config.seed, search.startup_trials),
        pruner=_pruner(search),
    )
    kept, asked = study.user_attrs, deciding_settings(config)
    if _SETTINGS not in kept:
        study.set_user_attr(_DATA, data)
        study.set_user_attr(_SETTINGS, asked)
        if (base := base_parameters(config)) is not None:
            study.enqueue_trial(base, skip_if_exists=True)
    else:
        _refuse_other(name, kept[_SETTINGS], asked)
        if kept[_DATA] != data:
            raise ValueError(f"study {name} was made with other objects or labels; give search.study another name")
    return study


def _pruner(search: SearchConfig) -> BasePruner:
    return MedianPruner(n_startup_trials=search.startup_trials) if search.prune else NopPruner()


def deciding_settings(config: RunConfig) -> dict[str, Any]:
    """Return the dotted settings that decide what a trial is worth, as plain JSON values."""
    return settings_affecting(config, "labels", "tensors", "fit", "search")


def _refuse_other(name: str, kept: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    for setting_name in sorted({*kept, *asked}):
        before, now = kept.get(setting_name), asked.get(setting_name)
        if before != now:
            raise ValueError(
                f"study {name} was made with {setting_name} {before}, now it is {now}; "
                "give search.study another name, or the old setting back"
            )


def finished_trials(study: Study) -> list[FrozenTrial]:
    """Return the trials that count, complete or pruned, in the order of their numbers."""
    return study.get_trials(deepcopy=False, states=FINISHED)


def run_trials(study: Study, config: RunConfig, fold_scores: FoldScores) -> None:
    """Run trials until the study has ``search.trials`` finished ones, those of other workers included.

    An interrupted trial does not count. Workers that end at the same moment may leave a trial more each.

    Parameters
    ----------
    study
        What :func:`open_study` gives.
    config
        Settings of the run, which a trial changes.
    fold_scores
        What a trial is worth.
    """
    search = config.search

    def objective(trial: Trial) -> float:
        scores: list[float] = []
        trial.set_user_attr(WORKER, f"{platform.node()}:{os.getpid()}")
        try:
            for number, score in enumerate(fold_scores(with_values(config, suggested_values(trial, search)))):
                scores.append(score)
                trial.report(float(np.mean(scores)), number)
                if number + 1 < search.folds and trial.should_prune():
                    raise optuna.TrialPruned
        except NonFiniteLossError as error:
            trial.set_user_attr(DIVERGED, str(error))
            raise optuna.TrialPruned from error
        finally:
            trial.set_user_attr(FOLD_SCORES, scores)
        return float(np.mean(scores))

    enough = MaxTrialsCallback(search.trials, states=FINISHED)
    if len(finished_trials(study)) < search.trials:
        study.optimize(objective, callbacks=[enough, lambda study, trial: _log_trial(study, trial, search.trials)])


def _log_trial(study: Study, trial: FrozenTrial, wanted: int) -> None:
    finished = finished_trials(study)
    place = ", ".join(f"{name} {_short(value)}" for name, value in trial.params.items())
    mean = "diverged" if DIVERGED in trial.user_attrs else f"{np.mean(trial.user_attrs[FOLD_SCORES]):.3f}"
    whole = [each.value for each in finished if each.state == TrialState.COMPLETE and each.value is not None]
    best = max(whole, default=float("nan"))
    state = "" if trial.state == TrialState.COMPLETE else f" (pruned after {len(trial.intermediate_values)} folds)"
    logger.info("trial %d of %d: %s%s at %s; best %.3f", len(finished), wanted, mean, state, place, best)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)

"""The study: created or resumed, and its trials run until there are enough of them."""

import hashlib
import json
import logging
import os
import platform
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import MedianPruner, NopPruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import BaseStorage
from optuna.study import MaxTrialsCallback, Study
from optuna.trial import FrozenTrial, Trial, TrialState

from mmagn.config.run_config import RunConfig
from mmagn.runs.resume import first_difference
from mmagn.search.space import base_parameters, suggested_values, with_values
from mmagn.training.callbacks import NonFiniteLossError

logger = logging.getLogger(__name__)

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
"""States of trials that count."""
FOLD_SCORES = "fold_scores"
"""Attribute of a trial: average precision of each of its folds."""
DIVERGED = "diverged"
"""Attribute of a trial that ended with a non-finite loss: the reason."""
WORKER = "worker"
"""Attribute of a trial: machine and process that ran it."""
_SETTINGS, _DATA, _OWN_SCORES = "settings", "data", "own_scores"

FoldScores = Callable[[RunConfig], Iterator[float]]
"""Average precision of settings on one inner fold after another, each fitted when it is iterated."""


class TrialSampler(BaseSampler):
    """TPE whose draws depend on the seed, the position of the trial in the study and the trials before it alone.

    A study that is resumed in another process therefore continues as it would have, and workers start differently; the
    first ``startup_trials`` are random.
    """

    def __init__(self, seed: int, startup_trials: int) -> None:
        self.seed, self.startup_trials = seed, startup_trials
        self._number, self._sampler = -1, TPESampler(seed=seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the distributions that are sampled jointly."""
        return self._of(study, trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the values that are sampled jointly, by name."""
        return self._of(study, trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a value that is sampled independently."""
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
    """Return the study of that name, created or, with the same settings and data, resumed.

    The first trial of a new study has the settings of the run, where they lie inside the ranges. ``data`` is a digest
    of its objects. ``ValueError`` where the study has other settings or data; names the first difference.
    """
    search = config.search
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        direction="maximize",
        load_if_exists=True,
        sampler=TrialSampler(config.seed, search.startup_trials),
        pruner=MedianPruner(n_startup_trials=search.startup_trials) if search.prune else NopPruner(),
    )
    stored, settings = study.user_attrs, deciding_settings(config)
    if _SETTINGS not in stored:
        study.set_user_attr(_DATA, data)
        study.set_user_attr(_SETTINGS, settings)
        if (base := base_parameters(config)) is not None:
            study.enqueue_trial(base, skip_if_exists=True)
    elif (difference := first_difference(stored[_SETTINGS], settings)) is not None:
        setting, before, now = difference
        raise ValueError(
            f"study {name} was made with {setting} {before}, now it is {now}; give search.study another name, or the "
            "old setting back"
        )
    elif stored[_DATA] != data:
        raise ValueError(f"study {name} was made with other objects or labels; give search.study another name")
    return study


def deciding_settings(config: RunConfig) -> dict[str, Any]:
    """Return the dotted settings that affect the score of a trial, as plain JSON values."""
    return config.fit_settings("labels", "tensors", "fit", "search")


def study_name(config: RunConfig, data: str) -> str:
    """Return ``search.study``, or the name of the run with a digest of all settings and data of the study."""
    settings = json.dumps([data, deciding_settings(config)], sort_keys=True)
    return config.search.study or f"{config.name}-{hashlib.sha256(settings.encode()).hexdigest()[:10]}"


def own_scores(study: Study, config: RunConfig, fold_scores: FoldScores) -> list[float]:
    """Return the scores of the settings of the run itself, from their trial or from fits that are made once."""
    parameters = base_parameters(config)
    for trial in finished_trials(study):
        if trial.params == parameters and trial.state == TrialState.COMPLETE:
            return list(trial.user_attrs[FOLD_SCORES])
    if _OWN_SCORES not in study.user_attrs:
        study.set_user_attr(_OWN_SCORES, list(fold_scores(config)))
    return list(study.user_attrs[_OWN_SCORES])


def finished_trials(study: Study) -> list[FrozenTrial]:
    """Return the complete and pruned trials in the order of their numbers."""
    return study.get_trials(deepcopy=False, states=FINISHED)


def run_trials(study: Study, config: RunConfig, fold_scores: FoldScores) -> None:
    """Run trials until the study has ``search.trials`` finished ones, those of other workers included.

    Interrupted trials do not count. Workers that finish at the same time may add one trial each.
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
    values = ", ".join(f"{name} {short_text(value)}" for name, value in trial.params.items())
    mean = "diverged" if DIVERGED in trial.user_attrs else f"{np.mean(trial.user_attrs[FOLD_SCORES]):.3f}"
    whole = [each.value for each in finished if each.state == TrialState.COMPLETE and each.value is not None]
    best = max(whole, default=float("nan"))
    state = "" if trial.state == TrialState.COMPLETE else f" (pruned after {len(trial.intermediate_values)} folds)"
    logger.info(
        "trial %d (%d of %d): %s%s with %s; best %.3f",
        trial.number + 1,
        len(finished),
        wanted,
        mean,
        state,
        values,
        best,
    )


def short_text(value: Any) -> str:
    """Return the value of a setting as short text."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)

"""Results of a search: the best settings as a config, a table of trials and TensorBoard entries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import optuna
import yaml
from astropy.table import Table
from lightning.pytorch.loggers import TensorBoardLogger
from optuna.importance import FanovaImportanceEvaluator
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from mmagn.config.ablation import AblationConfig
from mmagn.config.run_config import RunConfig, changed_settings
from mmagn.config.search import SearchConfig
from mmagn.search.space import read_values, with_values
from mmagn.search.study import DIVERGED, FOLD_SCORES, finished_trials
from mmagn.storage.files import plain_value, whole_file, write_json
from mmagn.storage.run_folder import RunFolder
from mmagn.storage.tables import write_table

SCORE_TAG = "average_precision"
"""Name of the score in TensorBoard."""


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One finished trial.

    Attributes
    ----------
    number
        Its number in the study, from 1; interrupted trials have numbers too.
    state
        ``complete``, ``pruned`` after some of its folds, or ``diverged``.
    score, folds
        Mean average precision of the folds that it was fitted on, NaN where there is none, and that of each.
    values, duration_s
        Its settings by name, and the seconds it took.
    """

    number: int
    state: str
    score: float
    folds: tuple[float, ...]
    values: Mapping[str, Any]
    duration_s: float


def trial_records(study: Study, search: SearchConfig) -> list[TrialRecord]:
    """Return the finished trials of a study."""
    return [_record(trial, search) for trial in finished_trials(study)]


def _record(trial: FrozenTrial, search: SearchConfig) -> TrialRecord:
    folds = tuple(trial.user_attrs.get(FOLD_SCORES, ()))
    ended_early = "diverged" if DIVERGED in trial.user_attrs else "pruned"
    return TrialRecord(
        number=trial.number + 1,
        state="complete" if trial.state == TrialState.COMPLETE else ended_early,
        score=float(np.mean(folds)) if folds else float("nan"),
        folds=folds,
        values=read_values(trial.params, search),
        duration_s=0.0 if trial.duration is None else trial.duration.total_seconds(),
    )


def best_record(trials: Sequence[TrialRecord]) -> TrialRecord:
    """Return the best trial of those that were fitted on all folds; ``ValueError`` where there is none."""
    whole = [trial for trial in trials if trial.state == "complete"]
    if not whole:
        raise ValueError(f"none of {len(trials)} trials was fitted on all folds; each had a non-finite loss")
    return max(whole, key=lambda trial: trial.score)


def importances(study: Study, seed: int) -> dict[str, float]:
    """Return the fraction of the variance of the score that each setting explains; empty where scores are equal."""
    scores = {trial.value for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}
    if len(scores) < 2:
        return {}
    shares = optuna.importance.get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=seed))
    return {name: float(share) for name, share in shares.items()}


def best_config(config: RunConfig, best: TrialRecord) -> RunConfig:
    """Return the settings of the run with those of the best trial, ready for training."""
    plain = replace(config, name=f"{config.name}-best", ablation=AblationConfig(), search=SearchConfig())
    return with_values(plain, best.values)


@dataclass(frozen=True, kw_only=True)
class Gain:
    """Average precision of each inner fold with the best of ``trials`` trials, and with the settings of the run."""

    best: tuple[float, ...]
    own: tuple[float, ...]
    trials: int

    @property
    def value(self) -> float:
        """Mean difference of the average precision."""
        return float(np.mean(self.best) - np.mean(self.own))

    @property
    def sentence(self) -> str:
        """The comparison as a sentence."""
        own = f"the settings of the run score {np.mean(self.own):.3f} on the same folds"
        if self.best == self.own:
            return f"no trial beats the settings of the run: {own}"
        better = sum(best > own for best, own in zip(self.best, self.own, strict=True))
        return (
            f"{own}: the best trial gains {self.value:+.3f} and is better on {better} of {len(self.own)} folds. "
            f"It was chosen from {self.trials} trials by this score, so that part of the gain is chance"
        )


def write_results(
    config: RunConfig, run: RunFolder, study: Study, gain: Gain, summary: Mapping[str, Any]
) -> TrialRecord:
    """Write everything about a finished study to its run folder; return the best trial.

    ``summary`` are further entries of ``search.json``: sample, folds, nested scores.
    """
    trials = trial_records(study, config.search)
    _write_trials(run, trials)
    best, shares = best_record(trials), importances(study, config.seed)
    _write_best(run, best_config(config, best))
    states = {name: sum(trial.state == name for trial in trials) for name in ("complete", "pruned", "diverged")}
    plain = {
        "study": study.study_name,
        "over": config.search.over,
        "score": "mean average precision of inner folds",
        "trials": states,
        "best": {"number": best.number, "score": best.score, "folds": best.folds, "values": best.values},
        "own_settings": {"score": float(np.mean(gain.own)), "folds": gain.own, "gain": gain.value},
        "sentence": gain.sentence,
        "importance": shares,
        **summary,
    }
    write_json(run.search, plain)
    _write_hparams(run, trials)
    return best


def _write_trials(run: RunFolder, trials: Sequence[TrialRecord]) -> None:
    columns: dict[str, list[Any]] = {
        "number": [trial.number for trial in trials],
        "state": [trial.state for trial in trials],
        "score": [trial.score for trial in trials],
        **{name: [_cell(trial.values[name]) for trial in trials] for name in (trials[0].values if trials else ())},
        "folds": [" ".join(f"{score:.6f}" for score in trial.folds) for trial in trials],
        "duration_s": [round(trial.duration_s, 3) for trial in trials],
    }
    write_table(run.trials, Table(columns))


def _cell(value: Any) -> Any:
    return "-".join(map(str, value)) if isinstance(value, tuple) else value


def _write_best(run: RunFolder, best: RunConfig) -> None:
    """Write the differences from the defaults as nested YAML."""
    nested: dict[str, Any] = {}
    for name, value in changed_settings(best).items():
        *path, last = name.split(".")
        place = nested
        for part in path:
            place = place.setdefault(part, {})
        place[last] = plain_value(value)
    with whole_file(run.best_config) as unfinished:
        unfinished.write_text(
            f"# Best trial of the search in {run.path.name}: differences from the defaults, for scripts/train.py.\n"
            + yaml.safe_dump(nested, sort_keys=False),
            encoding="utf-8",
        )


def _write_hparams(run: RunFolder, trials: Sequence[TrialRecord]) -> None:
    """Write one TensorBoard entry per trial that has a score."""
    for trial in trials:
        if np.isfinite(trial.score):
            name = f"trial-{trial.number:04d}"
            board = TensorBoardLogger(run.tensorboard, name="", version=name, default_hp_metric=False)
            values = {key: _cell(value) for key, value in trial.values.items()}
            board.log_hyperparams({**values, "state": trial.state}, {SCORE_TAG: trial.score})
            board.finalize("success")

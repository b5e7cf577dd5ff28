"""What a search leaves behind: the best settings as a config, a table of trials, figures and TensorBoard entries."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
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
from mmagn.reporting.figures.search import TrialRecord, history_figure, importance_figure, parallel_figure
from mmagn.reporting.figures.style import save_figures
from mmagn.search.space import read_values, with_values
from mmagn.search.study import DIVERGED, FOLD_SCORES, finished_trials
from mmagn.storage.files import whole_file, write_json
from mmagn.storage.run_folder import RunFolder

SCORE_TAG = "average_precision"
"""Name of the score in TensorBoard."""


def trial_records(study: Study, search: SearchConfig) -> list[TrialRecord]:
    """Return the finished trials of a study."""
    return [_record(trial, search) for trial in finished_trials(study)]


def _record(trial: FrozenTrial, search: SearchConfig) -> TrialRecord:
    folds = tuple(trial.user_attrs.get(FOLD_SCORES, ()))
    state = (
        "complete" if trial.state == TrialState.COMPLETE else "diverged" if DIVERGED in trial.user_attrs else "pruned"
    )
    return TrialRecord(
        number=trial.number,
        state=state,
        score=float(np.mean(folds)) if folds else float("nan"),
        folds=folds,
        values=read_values(trial.params, search),
        duration_s=0.0 if trial.duration is None else trial.duration.total_seconds(),
    )


def best_record(trials: Sequence[TrialRecord]) -> TrialRecord:
    """Return the best trial of those that were fitted on all folds.

    Raises
    ------
    ValueError
        Where there is none.
    """
    whole = [trial for trial in trials if trial.state == "complete"]
    if not whole:
        raise ValueError(
            f"none of {len(trials)} trials was fitted on all folds; every loss was not finite at some point"
        )
    return max(whole, key=lambda trial: trial.score)


def importances(study: Study, seed: int) -> dict[str, float]:
    """Return the fraction of the variance of the score that each setting explains; empty where all scores are one."""
    scores = {trial.value for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}
    if len(scores) < 2:
        return {}
    found = optuna.importance.get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=seed))
    return {name: float(share) for name, share in found.items()}


def best_config(config: RunConfig, best: TrialRecord) -> RunConfig:
    """Return the settings of the run with those of the best trial, ready for training."""
    plain = replace(config, name=f"{config.name}-best", ablation=AblationConfig(), search=SearchConfig())
    return with_values(plain, best.values)


def write_results(
    config: RunConfig, run: RunFolder, study: Study, told: Mapping[str, Any], prevalence: float
) -> TrialRecord:
    """Write everything about a study to its run folder; return the best trial.

    Parameters
    ----------
    config
        Settings of the run.
    run
        Folder to write to.
    study
        Finished study.
    told
        What else ``search.json`` is to say: the sample, the folds, the nested scores.
    prevalence
        Fraction of positives.
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
        "importance": shares,
        "prevalence": prevalence,
        **told,
    }
    write_json(run.path / "search.json", plain)
    figures = {
        "history": history_figure(trials, prevalence=prevalence),
        "importance": importance_figure(shares),
        "parallel": parallel_figure(trials),
    }
    save_figures(figures, run.figures)
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
    with whole_file(run.path / "trials.csv") as part:
        Table(columns).write(part, format="ascii.csv", overwrite=True)


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
        place[last] = json.loads(json.dumps(value))
    with whole_file(run.path / "best.yaml") as unfinished:
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

"""The search space: names, the settings behind them, and the values of a trial."""

from collections.abc import Mapping
from typing import Any

from optuna.trial import Trial

from mmagn.config.reading import config_from_settings
from mmagn.config.run_config import RunConfig
from mmagn.config.search import SearchConfig
from mmagn.storage.settings import setting_values

SETTINGS = {
    "hidden_dim": "models.hidden_dim",
    "dropout": "models.dropout",
    "learning_rate": "training.learning_rate",
    "weight_decay": "training.weight_decay",
    "widths": "models.spectrum.widths",
    "image_size": "tensors.image_size",
    "image_noise": "tensors.augment.image_noise",
    "spectrum_noise": "tensors.augment.spectrum_noise",
    "dihedral": "tensors.augment.dihedral",
}
"""Setting of the run behind each name of ``search.space``."""
NEEDED_BRANCH = {
    "widths": "spectrum",
    "spectrum_noise": "spectrum",
    "image_size": "image",
    "image_noise": "image",
    "dihedral": "image",
}
"""Branch without which a name has no effect."""

Values = Mapping[str, Any]


def check_space(config: RunConfig) -> None:
    """Raise ``ValueError`` where a name of the space has no effect in this run; names the branch that it would need."""
    for name in config.search.space:
        needed = NEEDED_BRANCH.get(name)
        if needed is not None and needed not in config.models.branches:
            raise ValueError(f"search.space has {name}, which has no effect: models.branches has no {needed}")


def suggested_values(trial: Trial, search: SearchConfig) -> dict[str, Any]:
    """Return the values of a trial by name, as the sampler suggests them."""
    return {name: _suggested(trial, name, getattr(search.ranges, name)) for name in search.space}


def _suggested(trial: Trial, name: str, allowed: Any) -> Any:
    match name:
        case "hidden_dim":
            return trial.suggest_int(name, *allowed, step=2)
        case "learning_rate" | "weight_decay":
            return trial.suggest_float(name, *allowed, log=True)
        case "widths":
            widths = {_word(each): each for each in allowed}
            return widths[trial.suggest_categorical(name, tuple(widths))]
        case "image_size" | "dihedral":
            return trial.suggest_categorical(name, allowed)
        case _:
            return trial.suggest_float(name, *allowed)


def read_values(parameters: Values, search: SearchConfig) -> dict[str, Any]:
    """Return the values of a finished trial from its parameters in the study."""
    widths = {_word(each): each for each in search.ranges.widths}
    return {name: widths[parameters[name]] if name == "widths" else parameters[name] for name in search.space}


def base_parameters(config: RunConfig) -> dict[str, Any] | None:
    """Return the settings of the run as parameters of a trial, None where they lie outside the ranges."""
    parameters, settings = {}, setting_values(config)
    for name in config.search.space:
        value, allowed = settings[SETTINGS[name]], getattr(config.search.ranges, name)
        choices = name in ("widths", "image_size", "dihedral")
        if not (value in allowed if choices else allowed[0] <= value <= allowed[1]):
            return None
        if name == "hidden_dim" and (value - allowed[0]) % 2:
            return None
        parameters[name] = _word(value) if name == "widths" else value
    return parameters


def with_values(config: RunConfig, values: Values) -> RunConfig:
    """Return the settings of the run with those of a trial."""
    settings = setting_values(config) | {SETTINGS[name]: value for name, value in values.items()}
    changed: RunConfig = config_from_settings(RunConfig, settings)
    return changed


def _word(widths: tuple[int, ...]) -> str:
    return "-".join(map(str, widths))

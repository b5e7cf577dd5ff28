"""RunConfig: the settings of a run, assembled from each room's own config; strict reading, overrides, saving."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mmagn.config.ablation import AblationConfig
from mmagn.config.reading import config_from_settings, full_name, setting_from_value, settings_in_file
from mmagn.config.search import SearchConfig
from mmagn.evaluation.config import EvaluationConfig
from mmagn.evaluation.unlabelled import SCORABLE
from mmagn.evaluation.variants import VARIANTS
from mmagn.labels.config import CatalogConfig, LabelsConfig
from mmagn.matching.config import MatchingConfig, SplitsConfig
from mmagn.models.config import ModelsConfig
from mmagn.spectroscopy.config import SpectroscopyConfig
from mmagn.storage.files import plain_value
from mmagn.storage.settings import (
    Effect,
    Settings,
    declared_settings,
    pattern,
    section,
    setting,
    setting_values,
    settings_affecting,
    unmet_needs,
)
from mmagn.surveys.config import DaskConfig, DataConfig
from mmagn.tensors.config import TensorsConfig
from mmagn.training.config import TrainingConfig

_PACKAGE = Path(__file__).resolve().parents[1]
CONFIGS_DIR = _PACKAGE / "configs" if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent / "configs"
"""Where the shipped configs are: in an installed package within it, in a clone beside it."""


@dataclass(frozen=True, kw_only=True)
class RunConfig(Settings):
    """Everything a run depends on.

    Attributes
    ----------
    name
        Name of the run; the run folder is called ``<date>-<name>``.
    runs_dir
        Folder that run folders are made in.
    seed
        Seed of weights, batches, augmentation and dropout.
    data
        Where pairs come from.
    dask
        The cluster that matches and measures where ``data.source`` is hats.
    matching
        Who counts as the same object, and how pairs are stored.
    splits
        Training, validation and test split by groups of sky.
    spectroscopy
        How continuum and emission lines are fitted.
    labels
        How line fluxes become a class and a target.
    tensors
        How cutouts and spectra become tensors.
    models
        Branches of the fused model and its head.
    training
        How the network is trained.
    evaluation
        How the trained model is evaluated.
    ablation
        Which models are compared by ``scripts/ablate.py``, on which folds.
    search
        Which settings ``scripts/search.py`` looks for, where, and for how long.
    """

    SECTION = ""
    name: str = setting(
        "fused", "nothing", rule=pattern(r"[A-Za-z0-9][A-Za-z0-9._-]*", "letters, digits, '.', '_' and '-'")
    )
    runs_dir: str = setting("checkpoints", "nothing", one_or_more=True, path=True)
    seed: int = setting(0, "fit", at_least=0, below=2**32)
    data: DataConfig = section(DataConfig)
    dask: DaskConfig = section(DaskConfig, needs=("data.source", "hats"))
    matching: MatchingConfig = section(MatchingConfig)
    splits: SplitsConfig = section(SplitsConfig)
    spectroscopy: SpectroscopyConfig = section(SpectroscopyConfig)
    labels: LabelsConfig = section(LabelsConfig)
    tensors: TensorsConfig = section(TensorsConfig)
    models: ModelsConfig = section(ModelsConfig)
    training: TrainingConfig = section(TrainingConfig)
    evaluation: EvaluationConfig = section(EvaluationConfig)
    ablation: AblationConfig = section(AblationConfig)
    search: SearchConfig = section(SearchConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        vectors = [name for name in self.ablation.variants if VARIANTS[name].needs_vectors]
        if vectors and not self.data.embeddings:
            raise ValueError(
                f"ablation.variants has {vectors[0]}, but data.embeddings names no file of vectors; name it, or leave "
                "the model out"
            )
        unlabelled = self.labels.catalog_trains and self.labels.catalog.unknown == "background"
        if unlabelled and self.ablation.metric not in SCORABLE:
            raise ValueError(
                f"ablation.metric is {self.ablation.metric}, which needs negatives, but labels.catalog.unknown is "
                f"background; allowed: {', '.join(SCORABLE)}"
            )

    def fit_settings(self, *effects: Effect, resumable: bool = True) -> dict[str, Any]:
        """Return the settings in effect that directly affect one of ``effects``, as plain JSON values.

        Those of a catalogue of labels that no network is trained on are left out.
        """
        settings, unused = settings_affecting(self, *effects, resumable=resumable), f"{CatalogConfig.SECTION}."
        trained = self.labels.catalog_trains
        return {name: value for name, value in settings.items() if trained or not name.startswith(unused)}


def config_file(name: Path | str) -> Path:
    """Path of a config: a file, a run folder's ``config.yaml``, or a shipped one by its name, ``.yaml`` or not.

    Raises
    ------
    ValueError
        Where there is none.
    """
    named = Path(name).expanduser()
    for path in (named, named / "config.yaml", CONFIGS_DIR / named, CONFIGS_DIR / f"{named}.yaml"):
        if path.is_file():
            return path
    shipped = ", ".join(sorted(path.name for path in CONFIGS_DIR.glob("*.yaml")))
    raise ValueError(f"{name}: no such file or run folder; the shipped configs are {shipped}")


def load_config(path: Path | str = "fused.yaml", /, **changes: Any) -> RunConfig:
    """Read a RunConfig from a YAML file that holds all settings or only differences from the defaults.

    Parameters
    ----------
    path
        File, run folder, or name of a shipped config such as ``fused``.
    changes
        Settings that differ from the file: by dotted name, ``**{"data.source": "store"}``, or by the last part of the
        name where that is unique, ``epochs=5``.

    Raises
    ------
    ValueError
        With one sentence where the file is missing, a setting is unknown or a value out of range.
    """
    settings = settings_in_file(config_file(path), RunConfig)
    for name, value in changes.items():
        full = full_name(name, RunConfig)
        settings[full] = setting_from_value(full, value, RunConfig)
    config: RunConfig = config_from_settings(RunConfig, settings)
    return config


def save_config(config: RunConfig, path: Path) -> None:
    """Write every setting to a YAML file that :func:`load_config` reads back; files and folders as absolute paths."""
    settings = setting_values(config)
    absolute = {name: value for name, value in settings.items() if declared_settings(RunConfig)[name].path}
    saved = config_from_settings(RunConfig, settings | {name: _absolute(value) for name, value in absolute.items()})
    path.write_text(yaml.safe_dump(config_dict(saved), sort_keys=False), encoding="utf-8")


def _absolute(path: Any) -> Any:
    """Absolute path; what is unset or an address such as hf:// stays as it is."""
    return path if not path or "://" in path else str(Path(path).expanduser().absolute())


def config_dict(config: RunConfig) -> dict[str, Any]:
    """Return all settings as nested plain Python values (tuples as lists)."""
    plain: dict[str, Any] = plain_value(dataclasses.asdict(config))
    return plain


def without_effect(config: RunConfig) -> list[str]:
    """One sentence for each setting that was changed from its default and changes nothing in this run."""
    values = setting_values(config)
    takers = {"models.branches": config.models.branches, "ablation.variants": config.ablation.variants}
    unused = config.data.embeddings and not any("embedding" in name for names in takers.values() for name in names)
    return [f"data.embeddings has no effect: {' and '.join(takers)} have no embedding"] * bool(unused) + [
        f"{name} has no effect: {reason}"
        for name in changed_settings(config)
        for reason in unmet_needs(declared_settings(RunConfig)[name], values)[:1]
    ]


def changed_settings(config: RunConfig) -> dict[str, Any]:
    """Dotted name and value of every setting that differs from its default."""
    return {name: value for name, (value, _) in differing_settings(config, RunConfig()).items()}


def differing_settings(config: RunConfig, other: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Dotted name and both values of every setting that two configs do not share."""
    values, others = setting_values(config), setting_values(other)
    return {name: (value, others[name]) for name, value in values.items() if not _same(name, value, others[name])}


def _same(name: str, value: Any, other: Any) -> bool:
    """Whether two values of a setting are equal; of paths, whether they name the same file."""
    return bool(value == other or (declared_settings(RunConfig)[name].path and _absolute(value) == _absolute(other)))

"""RunConfig: the settings of a run, assembled from each room's own config; strict reading, overrides, saving."""

import dataclasses
import difflib
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import yaml
from jsonargparse import ArgumentParser, Namespace

from mmagn.config.ablation import AblationConfig
from mmagn.config.search import SearchConfig
from mmagn.evaluation.config import EvaluationConfig
from mmagn.labels.config import LabelsConfig
from mmagn.matching.config import MatchingConfig, SplitsConfig
from mmagn.models.config import ModelsConfig
from mmagn.spectroscopy.config import SpectroscopyConfig
from mmagn.storage.settings import (
    check_settings,
    declared_settings,
    pattern,
    plain_value,
    section,
    setting,
    setting_values,
    unmet_needs,
)
from mmagn.surveys.config import DataConfig
from mmagn.surveys.hats.config import DaskConfig
from mmagn.tensors.config import TensorsConfig
from mmagn.training.config import TrainingConfig

CONFIGS_DIR = Path(__file__).resolve().parents[2] / "configs"
"""Where a bare name given to ``--config`` is looked up."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
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
        How the trained model is judged.
    ablation
        Which models are compared by ``scripts/ablate.py``, on which folds.
    search
        Which settings ``scripts/search.py`` looks for, where, and for how long.
    """

    SECTION: ClassVar[str] = ""
    name: str = setting(
        "fused", "nothing", rule=pattern(r"[A-Za-z0-9][A-Za-z0-9._-]*", "letters, digits, '.', '_' and '-'")
    )
    runs_dir: str = setting("checkpoints", "nothing", one_or_more=True)
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
        check_settings(self)


class _StrictParser(ArgumentParser):
    """A parser whose complaint about an unknown setting names the nearest known one."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Exit with code 2 after one sentence on standard error."""
        self.exit(2, f"{self.prog}: {_one_sentence(message or str(ex))}\n")


def _one_sentence(message: str) -> str:
    unknown = re.search(r"unrecognized arguments: --([\w.]+)", message, re.IGNORECASE)
    return unknown_setting(unknown.group(1)) if unknown else " ".join(message.split())


def unknown_setting(name: str) -> str:
    """One sentence that says ``name`` is no setting and names the nearest known one."""
    known = list(declared_settings(RunConfig))
    last = {full.rsplit(".", 1)[-1]: full for full in known}
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    by_last = difflib.get_close_matches(name.rsplit(".", 1)[-1], list(last), n=1, cutoff=0.6)
    hint = nearest[0] if nearest else last[by_last[0]] if by_last else ""
    return f"{name} is not a setting" + (f"; the nearest is {hint}" if hint else "; --help lists them all")


def config_parser(description: str) -> ArgumentParser:
    """Parser with ``--config``, ``--print_config`` and a dotted override for every setting of RunConfig.

    Scripts add their own arguments to it and hand the parsed namespace to :func:`config_from_namespace`.
    """
    parser = _StrictParser(description=description, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file; a bare name is looked up in configs/")
    parser.add_class_arguments(RunConfig)
    return parser


def parse_arguments(parser: ArgumentParser, arguments: Sequence[str]) -> Namespace:
    """Parsed command line; bare names after ``--config`` are looked up in :data:`CONFIGS_DIR`.

    Exits with code 2 and one sentence where a setting is unknown or out of range.
    """
    return parser.parse_args([*_with_config_paths(parser, arguments)])


def _with_config_paths(parser: ArgumentParser, arguments: Sequence[str]) -> Iterator[str]:
    after_config = False
    for argument in arguments:
        if after_config:
            yield str(_config_path(parser, argument))
        elif argument.startswith("--config="):
            yield f"--config={_config_path(parser, argument.removeprefix('--config='))}"
        else:
            yield argument
        after_config = argument == "--config"


def _config_path(parser: ArgumentParser, name: str) -> Path:
    for path in (Path(name), CONFIGS_DIR / name):
        if path.is_file():
            _check_known(parser, path)
            return path
    shipped = ", ".join(sorted(path.name for path in CONFIGS_DIR.glob("*.yaml")))
    return parser.error(f"--config {name}: no such file, and configs/ has only {shipped}")


def _check_known(parser: ArgumentParser, path: Path) -> None:
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        parser.error(f"--config {path}: not readable as YAML: {error}")
    if settings is None:
        return
    if not isinstance(settings, dict):
        parser.error(f"--config {path}: must hold settings as name: value")
    known = {action.dest for action in parser._actions} | {*declared_settings(RunConfig)}
    for name in _leaves(settings):
        if name not in known:
            parser.error(f"{path}: {unknown_setting(name)}")


def _leaves(settings: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def config_from_namespace(parser: ArgumentParser, namespace: Namespace) -> RunConfig:
    """Return the RunConfig of a parsed command line; settings without effect are logged as warnings."""
    names = {entry.name for entry in dataclasses.fields(RunConfig)}
    instantiated = parser.instantiate(namespace)
    config = RunConfig(**{name: instantiated[name] for name in names})
    for sentence in without_effect(config):
        logger.warning(sentence)
    return config


def load_config(path: Path | str) -> RunConfig:
    """Read a RunConfig from a YAML file that holds all settings or only differences from the defaults.

    Raises
    ------
    ValueError
        With one sentence where the file is missing, a setting is unknown or a value out of range.
    """
    parser = config_parser("")
    parser.exit_on_error = False
    try:
        namespace = parser.parse_args([f"--config={_config_path(parser, str(path))}"])
    except SystemExit as error:
        raise ValueError(f"{path} does not hold a valid config") from error
    return config_from_namespace(parser, namespace)


def save_config(config: RunConfig, path: Path) -> None:
    """Write every setting to a YAML file that :func:`load_config` reads back to an equal config."""
    path.write_text(yaml.safe_dump(config_dict(config), sort_keys=False), encoding="utf-8")


def config_dict(config: RunConfig) -> dict[str, Any]:
    """Return all settings as nested plain Python values (tuples as lists)."""
    plain: dict[str, Any] = plain_value(dataclasses.asdict(config))
    return plain


def without_effect(config: RunConfig) -> list[str]:
    """One sentence for each setting that was changed from its default and changes nothing in this run."""
    values = setting_values(config)
    return [
        f"{name} has no effect: {reason}"
        for name in changed_settings(config)
        for reason in unmet_needs(declared_settings(RunConfig)[name], values)[:1]
    ]


def changed_settings(config: RunConfig) -> dict[str, Any]:
    """Dotted name and value of every setting that differs from its default."""
    return {name: value for name, (value, _) in differing_settings(config, RunConfig()).items()}


def differing_settings(config: RunConfig, other: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Dotted name and both values of every setting that two configs do not share."""
    others = setting_values(other)
    return {name: (value, others[name]) for name, value in setting_values(config).items() if value != others[name]}

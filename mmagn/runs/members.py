"""Trained networks with everything that prediction needs: one of a training run, or the members of an ablation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmagn.config.run_config import RunConfig, load_config
from mmagn.evaluation.folds import Fold
from mmagn.evaluation.network import EvaluationSample
from mmagn.evaluation.novelty import Novelty, load_novelty
from mmagn.evaluation.permutation import Importance, load_importances
from mmagn.evaluation.subsets import SubsetCalibration, known_subsets, load_calibrations
from mmagn.evaluation.variants import DEFAULT_VARIANT
from mmagn.features.names import FEATURE_NAMES
from mmagn.models.fusion import FusionModel
from mmagn.runs.resume import first_difference
from mmagn.runs.sample import Sample, network, without_initial_weights
from mmagn.spectroscopy.basis import ContinuumBasis
from mmagn.storage.run_folder import RunFolder
from mmagn.storage.settings import settings_affecting
from mmagn.tensors.missing import FeatureOrigin, Subset
from mmagn.tensors.scaling import FeatureScaling
from mmagn.tensors.sources import BatchSource
from mmagn.training.weights import load_weights


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedMember:
    """One trained network, in evaluation mode.

    Attributes
    ----------
    path, config, model, scaling
        Its folder, its settings, the network with its weights, and the scaling of its features.
    calibrations, novelty
        By subset of modalities; ``novelty`` is empty where its folder has none.
    importances
        Permutation importance of its features; empty where its folder has none.
    basis
        Continuum basis that its spectra were measured with.
    """

    path: Path
    config: RunConfig
    model: FusionModel
    scaling: FeatureScaling
    calibrations: Mapping[Subset, SubsetCalibration]
    novelty: Mapping[Subset, Novelty]
    importances: Sequence[Importance]
    basis: ContinuumBasis | None

    @property
    def feature_columns(self) -> list[int]:
        """Columns of the ten features that the network takes."""
        return [FEATURE_NAMES.index(name) for name in self.config.tensors.features]

    @property
    def origin(self) -> FeatureOrigin:
        """Modality and imputed value of each of its features."""
        return FeatureOrigin.of(self.config.tensors.features, self.scaling)

    @property
    def known(self) -> tuple[Subset, ...]:
        """Subsets of modalities that the network can take, the widest first."""
        return known_subsets(self.config.models.branches, self.config.tensors.features)


def load_members(
    runs: Sequence[Path], variant: str = DEFAULT_VARIANT, config: RunConfig | None = None
) -> list[TrainedMember]:
    """Return the networks of training runs, and those of one model of ablation runs.

    ``config`` are the settings of the galaxies that they are to be used for.

    Raises
    ------
    FileNotFoundError
        Where a folder is no run, or lacks a file.
    ValueError
        Where weights do not fit the settings in their folder, members or galaxies have other input than the first, or
        members were trained on other labels.
    """
    members = [member for run in runs for member in _members_of(run, variant)]
    for member in members[1:]:
        both, config_of = f"{members[0].path} and {member.path}", (members[0].config, member.config)
        if difference := _difference(*map(_input_settings, config_of)):
            raise ValueError(f"{both} take different input and cannot be averaged: {difference}")
        if difference := _difference(*map(_label_settings, config_of)):
            raise ValueError(f"{both} were trained on other labels and cannot be averaged: {difference}")
    if config is not None:
        trained = load_config(RunFolder(runs[0]).config)
        if difference := _difference(_input_settings(trained), _input_settings(config)):
            raise ValueError(f"{runs[0]} was trained with other input (first) than these settings: {difference}")
    return members


def _difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """The first setting that differs as text, "" where there is none."""
    name, one, other = first_difference(ours, theirs) or ("", None, None)
    return f"{name} is {one} in one and {other} in the other" if name else ""


def evaluation_sample(
    config: RunConfig, sample: Sample, fold: Fold, tensors: BatchSource, scaling: FeatureScaling, pos_weight: float
) -> EvaluationSample:
    """Return the objects of a fold as a network of these settings is evaluated on them."""
    return EvaluationSample(
        source=tensors,
        target=sample.target,
        fold=fold,
        features=config.tensors.features,
        scaling=scaling,
        pos_weight=pos_weight,
    )


def _input_settings(config: RunConfig) -> dict[str, Any]:
    branches = {"models.branches": sorted(config.models.branches)}
    return settings_affecting(config, "measurements", "tensors") | branches


def _label_settings(config: RunConfig) -> dict[str, Any]:
    """Settings that decide what is positive; of files the name alone, which may lie elsewhere."""
    settings = config.fit_settings("labels", "fit")
    labels = {name: value for name, value in settings.items() if name.startswith("labels.")}
    files = {f"labels.catalog.{name}" for name in ("table", "moc")} & {*labels}
    return labels | {name: Path(labels[name]).name for name in files}


def _members_of(path: Path, variant: str) -> list[TrainedMember]:
    run = RunFolder.open(path, needs=())
    hint = "the setting ablation.members of ablate.py names the models whose networks are kept"
    if not run.members.is_dir():
        if run.ablation.is_file():
            raise FileNotFoundError(f"{path} is an ablation that kept no networks: {hint}")
        return [_member(run, run, run)]
    model = RunFolder(run.members / variant)
    if not model.path.is_dir():
        names = ", ".join(sorted(each.name for each in run.members.iterdir() if each.is_dir())) or "none"
        raise FileNotFoundError(f"{path} holds no members of the model {variant}; it has {names}: {hint}")
    folders = sorted(each for each in model.path.iterdir() if each.is_dir())
    if not folders:
        raise FileNotFoundError(f"{model.path} holds no member")
    return [_member(RunFolder(folder), model, run) for folder in folders]


def _member(folder: RunFolder, model: RunFolder, run: RunFolder) -> TrainedMember:
    """Network of a folder, with the settings of its model and the continuum basis of its run."""
    needed = (model.config, folder.weights, folder.scaling, folder.calibration)
    if missing := [str(path.relative_to(run.path)) for path in needed if not path.is_file()]:
        raise FileNotFoundError(f"{run.path} is no complete run: it lacks {', '.join(missing)}")
    run.check(*needed, folder.novelty, folder.importance, run.basis)
    config = load_config(model.config)
    trained = network(without_initial_weights(config))
    load_weights(trained, folder.weights)
    return TrainedMember(
        path=folder.path,
        config=config,
        model=trained.to(torch.device("cpu")),
        scaling=FeatureScaling.load(folder.scaling),
        calibrations=load_calibrations(folder.calibration),
        novelty=load_novelty(folder.novelty),
        importances=load_importances(folder.importance),
        basis=ContinuumBasis.load(run.basis) if run.basis.is_file() else None,
    )

"""Trained networks with all that prediction needs beside weights: one from a training run, many from an ablation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmagn.config.run_config import RunConfig, load_config
from mmagn.evaluation.judging import CALIBRATION_FILE, NOVELTY_FILE
from mmagn.evaluation.novelty import Novelty, load_novelty
from mmagn.evaluation.subsets import SubsetCalibration, known_subsets, load_calibrations
from mmagn.features.names import FEATURE_NAMES
from mmagn.models.fusion import FusionModel
from mmagn.runs.sample import BASIS_FILE, network
from mmagn.spectroscopy.basis import ContinuumBasis
from mmagn.storage.settings import settings_affecting
from mmagn.tensors.missing import FeatureOrigin, Subset
from mmagn.tensors.scaling import FeatureScaling
from mmagn.training.weights import load_weights

WEIGHTS_FILE = "weights.safetensors"
SCALING_FILE = "scaling.json"
CONFIG_FILE = "config.yaml"
DEFAULT_VARIANT = "fused"


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedMember:
    """One trained network.

    Attributes
    ----------
    path
        Its folder.
    config
        Settings that it was trained with.
    model
        The network with its weights, in evaluation mode.
    scaling
        Of its features.
    calibrations
        What turns its logits into probabilities, by subset of modalities.
    novelty
        What training objects look like to it, by subset; empty where its folder does not say.
    basis
        Continuum basis that its spectra were measured with.
    """

    path: Path
    config: RunConfig
    model: FusionModel
    scaling: FeatureScaling
    calibrations: Mapping[Subset, SubsetCalibration]
    novelty: Mapping[Subset, Novelty]
    basis: ContinuumBasis | None

    @property
    def feature_columns(self) -> list[int]:
        """Columns of the ten features that the network is given."""
        return [FEATURE_NAMES.index(name) for name in self.config.tensors.features]

    @property
    def origin(self) -> FeatureOrigin:
        """What its features are measured on, and what stands in for them."""
        return FeatureOrigin.of(self.config.tensors.features, self.scaling)

    @property
    def known(self) -> tuple[Subset, ...]:
        """Subsets of modalities that the network can be shown, the widest first."""
        return known_subsets(self.config.models.branches, self.config.tensors.features)


def load_members(runs: Sequence[Path], variant: str = DEFAULT_VARIANT) -> list[TrainedMember]:
    """Return the networks of training runs, and those of one model of ablation runs.

    Parameters
    ----------
    runs
        Run folders.
    variant
        Which model of an ablation.

    Raises
    ------
    FileNotFoundError
        Where a folder is no run, or lacks a file; says which.
    ValueError
        Where weights are of another network than the settings beside them describe, or members of other input than
        the first; says what differs.
    """
    members = [member for run in runs for member in _members_of(run, variant)]
    for member in members[1:]:
        if difference := input_difference(members[0].config, member.config):
            raise ValueError(
                f"{members[0].path} and {member.path} take different input and cannot be averaged: {difference}"
            )
    return members


def input_difference(trained: RunConfig, asked: RunConfig) -> str:
    """Return the first setting in which the input of a trained network differs from what is asked, "" where none."""
    ours, theirs = (_input_settings(config) for config in (trained, asked))
    for name in sorted({*ours, *theirs}):
        if ours.get(name) != theirs.get(name):
            return f"{name} is {ours.get(name)} in one and {theirs.get(name)} in the other"
    return ""


def _input_settings(config: RunConfig) -> dict[str, Any]:
    branches = {"models.branches": sorted(config.models.branches)}
    return settings_affecting(config, "measurements", "tensors") | branches


def _members_of(run: Path, variant: str) -> list[TrainedMember]:
    if not run.is_dir():
        raise FileNotFoundError(f"{run} is not a run folder: there is no such folder")
    models = run / "members"
    if not models.is_dir():
        return [_member(run, run, run)]
    if not (models / variant).is_dir():
        kept = ", ".join(sorted(path.name for path in models.iterdir() if path.is_dir())) or "none"
        raise FileNotFoundError(f"{run} keeps no members of the model {variant}; it has {kept}")
    folders = sorted(path for path in (models / variant).iterdir() if path.is_dir())
    if not folders:
        raise FileNotFoundError(f"{models / variant} holds no member")
    return [_member(folder, models / variant, run) for folder in folders]


def _member(folder: Path, of_config: Path, of_basis: Path) -> TrainedMember:
    wanted = (of_config / CONFIG_FILE, *(folder / name for name in (WEIGHTS_FILE, SCALING_FILE, CALIBRATION_FILE)))
    if missing := [str(path.relative_to(of_basis)) for path in wanted if not path.is_file()]:
        raise FileNotFoundError(f"{of_basis} is no complete run: it lacks {', '.join(missing)}")
    config = load_config(of_config / CONFIG_FILE)
    model = network(config)
    load_weights(model, folder / WEIGHTS_FILE)
    basis = of_basis / BASIS_FILE
    return TrainedMember(
        path=folder,
        config=config,
        model=model.to(torch.device("cpu")),
        scaling=FeatureScaling.load(folder / SCALING_FILE),
        calibrations=load_calibrations(folder / CALIBRATION_FILE),
        novelty=load_novelty(folder / NOVELTY_FILE),
        basis=ContinuumBasis.load(basis) if basis.is_file() else None,
    )

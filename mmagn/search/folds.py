"""Which objects a search sees, on which folds, and what settings are worth there."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from mmagn.ablation.ablate import ablation_folds
from mmagn.ablation.inputs import FoldInputs
from mmagn.ablation.networks import FoldNetworks
from mmagn.config.ablation import AblationConfig
from mmagn.config.run_config import RunConfig
from mmagn.evaluation.crossval import Fold
from mmagn.evaluation.variants import Variant
from mmagn.runs.sample import Sample


def searched_sample(sample: Sample) -> Sample:
    """Return the part of a sample that a search may see: all but the test split."""
    return part_of(sample, np.flatnonzero(sample.split != "test"))


def part_of(sample: Sample, objects: NDArray[np.int64]) -> Sample:
    """Return some objects of a sample, which then are all it has labels of."""
    return replace(sample, rows=sample.rows[objects], target=sample.target[objects], split=sample.split[objects])


def sample_folds(config: RunConfig, sample: Sample, count: int) -> list[Fold]:
    """Return folds of a sample that share neither a group of sky nor a galaxy.

    Raises
    ------
    ValueError
        Where there are fewer groups of sky or fewer objects of a class than folds need.
    """
    return ablation_folds(replace(config, ablation=AblationConfig(folds=count, repeats=1)), sample)


def own_variant(config: RunConfig) -> Variant:
    """Return the network of the run as something to be fitted on folds."""
    return Variant(
        name="searched",
        level="L0",
        inputs=config.models.branches,
        branches=config.models.branches,
        blank_lines=config.tensors.blank_lines,
        features=config.tensors.features,
    )


def as_trained(config: RunConfig) -> RunConfig:
    """Return settings with which a network on features alone is fitted for as long as ``train.py`` would."""
    training = config.training
    return replace(
        config,
        ablation=replace(config.ablation, features_epochs=training.epochs, features_patience=training.patience),
    )


def fits_dir(config: RunConfig) -> Path:
    """Return the folder of finished fits, which a search shares with ablations."""
    return Path(config.ablation.fits_dir or f"{config.data.cache_dir}/fits").expanduser()


class NetworkScores:
    """What settings are worth when whole networks are fitted with them.

    Parameters
    ----------
    sample
        Objects that the search may see.
    folds
        Inner folds.
    """

    def __init__(self, sample: Sample, folds: Sequence[Fold]) -> None:
        self.sample, self.folds = sample, folds

    def __call__(self, config: RunConfig) -> Iterator[float]:
        """Average precision on the test objects of one inner fold after another."""
        networks = FoldNetworks(FoldInputs(as_trained(config), self.sample))
        for fold in self.folds:
            (found,) = networks.fitted(own_variant(config), [fold])
            yield float(average_precision_score(self.sample.target[fold.test], found.logits[fold.test]))

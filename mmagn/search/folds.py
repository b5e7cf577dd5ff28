"""Objects and folds of a search, and the scores of whole networks there."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from sklearn.metrics import average_precision_score

from mmagn.ablation.ablate import ablation_folds
from mmagn.ablation.inputs import FoldInputs
from mmagn.ablation.networks import FoldNetworks
from mmagn.config.ablation import AblationConfig
from mmagn.config.run_config import RunConfig
from mmagn.evaluation.folds import Fold
from mmagn.evaluation.variants import Variant
from mmagn.runs.sample import Sample


def searched_sample(sample: Sample) -> Sample:
    """Return the sample without its test split."""
    return sample.part(np.flatnonzero(sample.split != "test"))


def sample_folds(config: RunConfig, sample: Sample, count: int) -> list[Fold]:
    """Return folds of a sample that share neither a group of sky nor a galaxy.

    ``ValueError`` where there are fewer groups of sky or fewer objects of a class than folds need.
    """
    return ablation_folds(replace(config, ablation=AblationConfig(folds=count, repeats=1)), sample)


def own_variant(config: RunConfig) -> Variant:
    """Return the network of the run as a variant that can be fitted on folds."""
    return Variant(
        name="searched",
        level="L0",
        inputs=config.models.branches,
        branches=config.models.branches,
        blank_lines=config.tensors.blank_lines,
        features=config.tensors.features,
    )


def as_trained(config: RunConfig) -> RunConfig:
    """Return settings with the epochs and patience of training for networks on features alone, too."""
    training = config.training
    return replace(
        config,
        ablation=replace(config.ablation, features_epochs=training.epochs, features_patience=training.patience),
    )


def network_scores(sample: Sample, folds: Sequence[Fold], config: RunConfig) -> Iterator[float]:
    """Average precision of whole networks with these settings, on the test objects of one fold after another."""
    networks = FoldNetworks(FoldInputs(as_trained(config), sample))
    for fold in folds:
        (fitted,) = networks.fitted(own_variant(config), [fold])
        yield float(average_precision_score(sample.target[fold.test], fitted.logits[fold.test]))

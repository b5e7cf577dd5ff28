"""What the head sees, made once per fold: branches fitted to the training rows of a fold, kept on disk."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmagn.config import RunConfig
from mmagn.evaluation.crossval import Fold
from mmagn.fold_fits import FoldFits
from mmagn.sample import Sample, chosen_features
from mmagn.tensors.scaling import FeatureScaling


def fold_embeddings(config: RunConfig, sample: Sample, folds: Sequence[Fold], fits: FoldFits) -> Tensor:
    """(fold, object, embedding) float32 of all objects, from the branches of each fold's own network."""
    views = []
    for fold in folds:
        values, valid = chosen_features(config, sample)
        scaling = FeatureScaling.fit(values[fold.train], valid[fold.train])
        views.append(torch.from_numpy(scaling.transform(values, valid)))
    return torch.stack(views)

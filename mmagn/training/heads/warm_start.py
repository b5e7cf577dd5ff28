"""How a network with features beside an image or a spectrum begins: with a head that knows the features already."""

import copy
import logging
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mmagn.models.fusion import FusionModel
from mmagn.tensors.sources import BatchSource
from mmagn.training.config import TrainingConfig
from mmagn.training.fold_fit import FoldFit
from mmagn.training.heads.fit import Member, many_fits

TELLING = 0.5
"""Part of the way from prevalence to 1 that the validation average precision of the features must go at least."""

logger = logging.getLogger(__name__)


def features_first(
    model: FusionModel,
    source: BatchSource,
    train: NDArray[np.int64],
    validation: NDArray[np.int64],
    config: TrainingConfig,
    *,
    pos_weight: float,
    seed: int,
) -> FoldFit | None:
    """Train the head of a network in place on the features alone; what it says does not depend on its branches then.

    A few hundred labels are soon remembered by an image and a spectrum branch, and a head that learns from all at once
    comes to trust what they remember. One that has the best weights for the features first gives the branches what the
    features leave unexplained. Where the features tell little, as those without the lines do, all learn together.

    Parameters
    ----------
    model
        Network with fresh weights; it is in training mode afterwards. One without features, with nothing else, or with
        features that tell little keeps its weights.
    source
        Objects with scaled features and targets.
    train, validation
        (object,) rows; where none are to validate, those to train choose the epoch.
    config
        Settings of the optimisation; its ``features_first_epochs`` count, at a constant rate.
    pos_weight
        Weight of the positive class in the loss.
    seed
        Seed of order and dropout.

    Returns
    -------
    FoldFit or None
        What came of it; None where the network stays as it is.
    """
    if not config.features_first_epochs or source.features is None or not model.has_branches_beside_features:
        return None
    fresh = copy.deepcopy(model.head.state_dict())
    model.ignore_branches()
    inputs = model.embedding_of_features(source.features)
    judged = validation if len(validation) else train
    member = Member(
        train=train,
        validation=judged,
        pos_weight=pos_weight,
        seed=seed,
        config=replace(config, epochs=config.features_first_epochs, warmup_epochs=0.0, schedule="constant"),
    )
    (found,) = many_fits([model.head.to(inputs.device)], inputs, source.target, [member])
    model.train()
    prevalence = float(source.target[judged].mean())
    telling = found.best_score - prevalence > TELLING * (1 - prevalence)
    if not telling:
        model.head.load_state_dict(fresh)
    logger.debug("features first: average precision %.3f, %s", found.best_score, "kept" if telling else "not kept")
    return found if telling else None

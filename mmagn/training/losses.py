"""The loss, and the weight that makes up for few positives."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def pos_weight(target: NDArray[Any]) -> float:
    """Weight of the positive class: negatives / positives of (object,) targets of the training split.

    A target is 1, 0 or the probability of 1; probabilities count as parts of an object. ``ValueError`` where one is not
    from 0 to 1, or a class has no object, so that there is nothing to learn.
    """
    values = np.asarray(target, dtype=np.float64)
    strange = values[~((values >= 0) & (values <= 1))]
    if strange.size:
        raise ValueError(f"a target of the training split is {strange[0]}; allowed: 0 to 1")
    positives = float(values.sum())
    negatives = values.size - positives
    if positives == 0 or negatives == 0:
        raise ValueError(
            f"the training split holds {positives:g} positive and {negatives:g} negative objects;"
            " training needs at least one of each"
        )
    return negatives / positives


def weighted_bce(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Binary cross-entropy (batch,) of each object, positives times ``weight`` ().

    ``-weight * t * log(s(x)) - (1 - t) * log(1 - s(x))`` with the sigmoid ``s``. A target t is 0, 1 or the probability
    p of 1, for which the loss is smallest at logit(p) + log(weight): the shift of the weight is the same for soft
    targets as for hard ones.
    """
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, target, pos_weight=weight, reduction="none")

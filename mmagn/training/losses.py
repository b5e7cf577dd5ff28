"""The loss, and the weight that makes up for few positives."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def pos_weight(target: NDArray[Any]) -> float:
    """Weight of the positive class: negatives / positives of the training split.

    Parameters
    ----------
    target
        (object,) 1, 0 or the probability of 1, training split only; probabilities count as parts of an object.

    Raises
    ------
    ValueError
        Where a value is not from 0 to 1, or one class has no object, so that there is nothing to learn.
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
    """Binary cross-entropy of each object, positives times ``weight``.

    Parameters
    ----------
    logits, target
        (batch,) float32; target is 0, 1 or the probability p of 1, for which the loss is smallest at
        logit(p) + log(weight): the shift of the weight is the same for soft targets as for hard ones.
    weight
        () weight of the positive class.

    Returns
    -------
    Tensor
        (batch,) ``-weight * t * log(s(x)) - (1 - t) * log(1 - s(x))`` with the sigmoid ``s``.
    """
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, target, pos_weight=weight, reduction="none")

"""Permutation importance: what average precision a model loses where one feature is dealt out anew (Breiman 2001)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from mmagn.evaluation.bootstrap import stratified_counts
from mmagn.records import Floats


@dataclass(frozen=True, kw_only=True)
class Importance:
    """What one feature is worth to a model.

    Attributes
    ----------
    name
        The feature.
    value
        Loss of average precision, mean over permutations.
    low, high
        Interval over permutations and resampled objects.
    """

    name: str
    value: float
    low: float
    high: float


def permutation_importance(
    logits: Callable[[NDArray[np.float32]], Floats],
    features: NDArray[np.float32],
    target: Floats,
    names: Sequence[str],
    *,
    draws: int = 100,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[Importance]:
    """Return the importance of each feature on objects that the model was not trained on, in the order given.

    Each draw deals one feature out anew among the objects and resamples the objects, class by class; loss and gain are
    counted on the same resample.

    Parameters
    ----------
    logits
        Output (object,) of the model for features (object, feature), all else as it is.
    features
        (object, feature) as the model sees them.
    target
        (object,) 1 positive, 0 negative.
    names
        Of the features.
    draws
        Permutations of each feature.
    confidence
        Probability content of the interval.
    seed
        Seed of all draws.

    Raises
    ------
    ValueError
        Where the objects lack a class.
    """
    if not 0 < target.sum() < len(target):
        raise ValueError(f"importance needs objects of both classes; {int(target.sum())} of {len(target)} are positive")
    rng = np.random.default_rng(seed)
    whole, tails = logits(features), [(1 - confidence) / 2, (1 + confidence) / 2]
    base = average_precision_score(target, whole)
    found = []
    for column, name in enumerate(names):
        losses, resampled = np.empty(draws), np.empty(draws)
        for draw, counts in enumerate(stratified_counts(target, draws, rng)):
            dealt = features.copy()
            dealt[:, column] = rng.permutation(dealt[:, column])
            without = logits(dealt)
            losses[draw] = base - average_precision_score(target, without)
            pair = [average_precision_score(target, score, sample_weight=counts) for score in (whole, without)]
            resampled[draw] = pair[0] - pair[1]
        low, high = np.quantile(resampled, tails).tolist()
        found.append(Importance(name=name, value=float(losses.mean()), low=low, high=high))
    return found

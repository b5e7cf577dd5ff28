"""A fold: which objects a network is trained, validated and tested on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Fold:
    """One fit of a cross-validation; the three sets of rows share no group and no object.

    Attributes
    ----------
    repeat, fold
        Numbers from 0 on; each repeat tests every object once.
    seed
        Seed that made the folds of this repeat.
    train, validation, test
        Ascending row numbers: for weights, scaling and imputation; for early stopping, calibration and threshold; for
        scores.
    """

    repeat: int
    fold: int
    seed: int
    train: Rows
    validation: Rows
    test: Rows

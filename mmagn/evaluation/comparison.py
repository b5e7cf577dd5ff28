"""Difference between two models on the same objects, and Holm's correction of p values."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Score of model a minus score of model b on the same objects; None where undefined.

    Attributes
    ----------
    metric, value_a, value_b, value
        Which score, that of each model, and their difference.
    low, high
        Ends of the percentile interval of the paired stratified bootstrap.
    p_value
        Two-sided probability of a difference this far from 0 if there is none; below 1 - confidence exactly where
        the interval leaves out 0 (up to the granularity of the draws).
    confidence, bootstrap_draws
        Of the interval.
    """

    metric: str
    value_a: float | None
    value_b: float | None
    value: float | None
    low: float | None
    high: float | None
    p_value: float | None
    confidence: float
    bootstrap_draws: int


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number, in the same order (Holm 1979, step down).

    The chance of any false rejection stays below alpha where corrected values below alpha are rejected. ``ValueError``
    where a value is not between 0 and 1.
    """
    values = np.asarray(p_values, dtype=np.float64)
    if wrong := values[~((values >= 0) & (values <= 1))].tolist():
        raise ValueError(f"p value is {wrong[0]}; allowed: 0 to 1")
    order = np.argsort(values, kind="stable")
    stepped = values[order] * np.arange(len(values), 0, -1)
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(stepped))
    return [float(value) for value in corrected]

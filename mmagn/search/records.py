"""A finished trial of a search as a record."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One finished trial.

    Attributes
    ----------
    number
        Its number in the study, from 1; interrupted trials have numbers too.
    state
        ``complete``, ``pruned`` after some of its folds, or ``diverged``.
    score
        Mean average precision of the folds that it was fitted on, NaN where there is none.
    folds
        Average precision of each of them.
    values
        Its settings by name.
    duration_s
        Seconds it took.
    """

    number: int
    state: str
    score: float
    folds: tuple[float, ...]
    values: Mapping[str, Any]
    duration_s: float

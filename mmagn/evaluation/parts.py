"""What each modality alone states about an object, and whether two of them contradict each other."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logit
from sklearn.metrics import average_precision_score

from mmagn.evaluation.permutation import Importance
from mmagn.models.config import Branch
from mmagn.records import Floats

BAYES_FACTOR = 10**0.5
"""Change of the odds of an AGN from which on one modality is evidence: "substantial" in Jeffreys (1961)."""
PARTS: tuple[Branch, ...] = get_args(Branch)
PART_COLUMNS = {name: f"p_{name}" for name in PARTS}
"""Column of the calibrated probability from each modality alone."""
DISAGREE_COLUMN = "modalities_disagree"


def part_columns(probabilities: Mapping[str, Floats], prevalence: ArrayLike) -> dict[str, NDArray[Any]]:
    """Return the columns (object,) on single modalities: a probability from each, and whether they disagree.

    They disagree where one modality alone raises the odds of an AGN over those of the prevalence by ``BAYES_FACTOR`` or
    more and another one lowers them by as much. A weak modality, whose calibrated probabilities stay near the
    prevalence, contradicts nothing.

    Parameters
    ----------
    probabilities
        (object,) calibrated probability by modality; NaN where an object lacks it. Absent modalities become NaN.
    prevalence
        Fraction of positives, () or (object,); where it is undefined nothing disagrees.
    """
    count = len(next(iter(probabilities.values())))
    columns: dict[str, NDArray[Any]] = {
        column: np.asarray(probabilities.get(name, np.full(count, np.nan))) for name, column in PART_COLUMNS.items()
    }
    evidence = logit(np.stack(list(columns.values()))) - logit(np.asarray(prevalence, dtype=np.float64))
    limit = np.log(BAYES_FACTOR)
    return columns | {DISAGREE_COLUMN: (evidence >= limit).any(axis=0) & (evidence <= -limit).any(axis=0)}


def input_scores(
    probabilities: Mapping[str, Floats], target: Floats, importances: Sequence[Importance]
) -> list[dict[str, Any]]:
    """Return the use of each input by a model as plain values, from (object,) probabilities of each alone.

    ``average_precision_alone`` is that of what the input alone states, None where a class or the input is absent; the
    fields of its importance are left out where the model has no other input.
    """
    by_name = {each.name: each for each in importances}
    scores = []
    for name, probability in probabilities.items():
        there = np.isfinite(probability) & np.isfinite(target)
        truth, alone = target[there], None
        if 0 < truth.sum() < len(truth):
            alone = float(average_precision_score(truth, probability[there]))
        of_input = asdict(by_name[name]) if name in by_name else {"name": name}
        scores.append(of_input | {"average_precision_alone": alone})
    return scores


def parts_text(row: Mapping[str, Any]) -> str:
    """Return a row of :func:`part_columns` as text, "" where there are not two modalities."""
    values = {name: float(row[column]) for name, column in PART_COLUMNS.items()}
    stated = [f"{name} {value:.2f}" for name, value in values.items() if np.isfinite(value)]
    if len(stated) < 2:
        return ""
    return f"alone: {', '.join(stated)}" + (" (they disagree)" if row[DISAGREE_COLUMN] else "")

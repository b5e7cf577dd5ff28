"""What each modality alone states about an object, and whether two of them contradict each other."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logit

from mmagn.evaluation.permutation import Importance, average_precisions
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


@dataclass(frozen=True, kw_only=True)
class InputScore:
    """Use of one input by a model.

    Attributes
    ----------
    name
        Image, spectrum or features.
    alone
        Average precision of what this input alone states; None where a class or the input is absent.
    importance
        Loss of average precision where the input is permuted among the objects, and the share of the logit that
        depends on it; None where the model has no other input.
    """

    name: str
    alone: float | None
    importance: Importance | None

    def as_dict(self) -> dict[str, Any]:
        """Return one level of plain values for JSON."""
        of_input = {} if self.importance is None else asdict(self.importance)
        return {**of_input, "name": self.name, "average_precision_alone": self.alone}


def input_scores(
    probabilities: Mapping[str, Floats], target: Floats, importances: Sequence[Importance]
) -> list[InputScore]:
    """Return the use of each input, from (object,) probabilities of each alone and the importances of the inputs."""
    by_name = {each.name: each for each in importances}
    scores = []
    for name, probability in probabilities.items():
        there = np.isfinite(probability) & np.isfinite(target)
        truth, alone = target[there], None
        if 0 < truth.sum() < len(truth):
            alone = float(average_precisions(truth, probability[None, there], np.ones((1, len(truth))))[0])
        scores.append(InputScore(name=name, alone=alone, importance=by_name.get(name)))
    return scores


def parts_text(row: Mapping[str, Any]) -> str:
    """Return a row of :func:`part_columns` as text, "" where there are not two modalities."""
    values = {name: float(row[column]) for name, column in PART_COLUMNS.items()}
    stated = [f"{name} {value:.2f}" for name, value in values.items() if np.isfinite(value)]
    if len(stated) < 2:
        return ""
    return f"alone: {', '.join(stated)}" + (" (they disagree)" if row[DISAGREE_COLUMN] else "")

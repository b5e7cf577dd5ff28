"""Predictions of several networks for the same objects, and their mean and spread."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from mmagn.evaluation.calibration import unshifted_logits, with_prevalence
from mmagn.evaluation.parts import PARTS, part_columns
from mmagn.evaluation.subsets import SubsetCalibration
from mmagn.records import Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class MemberPrediction:
    """Predictions (object,) of one network; NaN where it has no usable input.

    Attributes
    ----------
    logit, probability, calibrated_probability
        Output, output corrected for the class weight of the loss, and calibrated.
    vote
        1 where the calibrated probability reaches the threshold of the network, else 0.
    distance
        From the training objects; 1 at the limit.
    prevalence
        Fraction of positives that the calibrated probability assumes.
    parts
        Calibrated probability of each modality alone, by modality.
    """

    logit: Floats
    probability: Floats
    calibrated_probability: Floats
    vote: Floats
    distance: Floats
    prevalence: Floats
    parts: dict[str, Floats]

    @classmethod
    def empty(cls, objects: int) -> "MemberPrediction":
        """Return NaN for every object."""
        columns = {name: np.full(objects, np.nan) for name in cls.__dataclass_fields__ if name != "parts"}
        return cls(**columns, parts={name: np.full(objects, np.nan) for name in PARTS})

    def fill(
        self,
        rows: NDArray[np.int64],
        logits: Floats,
        parts: Mapping[str, Floats],
        used: SubsetCalibration,
        prevalence: float | None,
    ) -> None:
        """Set the predictions of some objects of one subset of modalities.

        Parameters
        ----------
        rows, logits, parts
            (row,) which objects, the output of the network, and the logit of each modality alone, NaN without it.
        used
            Calibration and threshold of their subset.
        prevalence
            Fraction of positives in their population; None takes that of the calibration. The threshold moves along:
            it stays the same logit.
        """
        calibration, threshold = used.calibration, used.threshold
        self.logit[rows] = logits
        self.probability[rows] = expit(unshifted_logits(logits, calibration.pos_weight))
        self.calibrated_probability[rows] = calibration.probability(logits, target_prevalence=prevalence)
        self.prevalence[rows] = calibration.prevalence if prevalence is None else prevalence
        for name, of_part in used.parts.items():
            self.parts[name][rows] = of_part.probability(parts[name], target_prevalence=prevalence)
        if prevalence is not None and 0 < threshold < 1:
            threshold = float(with_prevalence(threshold, calibration.prevalence, prevalence))
        self.vote[rows] = self.calibrated_probability[rows] >= threshold


def ensemble_columns(members: Sequence[MemberPrediction]) -> dict[str, NDArray[Any]]:
    """Return columns (object,) of mean and spread over networks, NaN where no network has usable input."""
    names = ("logit", "probability", "calibrated_probability", "vote", "distance", "prevalence")
    stacked = {name: np.stack([getattr(member, name) for member in members]) for name in names}
    mean = {name: values.mean(axis=0) for name, values in stacked.items()}
    probability = stacked["calibrated_probability"]
    parts: dict[str, Floats] = {name: np.mean([member.parts[name] for member in members], axis=0) for name in PARTS}
    single = len(members) == 1
    return {
        **{name: mean[name] for name in names[:3]},
        "probability_spread": np.full(probability.shape[1], np.nan) if single else probability.std(axis=0, ddof=1),
        "votes": mean["vote"],
        "agn": mean["vote"] >= 0.5,
        **part_columns(parts, mean["prevalence"]),
        "training_distance": mean["distance"],
        "unlike_training": mean["distance"] > 1,
    }

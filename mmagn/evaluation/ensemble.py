"""Predictions of several networks for the same objects, and their mean and spread."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from mmagn.evaluation.calibration import unshifted_logits, with_prevalence
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
    """

    logit: Floats
    probability: Floats
    calibrated_probability: Floats
    vote: Floats
    distance: Floats

    @classmethod
    def empty(cls, objects: int) -> "MemberPrediction":
        """Return NaN for every object."""
        return cls(**{name: np.full(objects, np.nan) for name in cls.__dataclass_fields__})

    def fill(self, rows: NDArray[np.int64], logits: Floats, used: SubsetCalibration, prevalence: float | None) -> None:
        """Set the predictions of some objects.

        Parameters
        ----------
        rows, logits
            (row,) which objects, and the output of the network for them.
        used
            Calibration and threshold of their subset of modalities.
        prevalence
            Fraction of positives in their population; None takes that of the calibration. The threshold moves along:
            it stays the same logit.
        """
        calibration, threshold = used.calibration, used.threshold
        self.logit[rows] = logits
        self.probability[rows] = expit(unshifted_logits(logits, calibration.pos_weight))
        self.calibrated_probability[rows] = calibration.probability(logits, target_prevalence=prevalence)
        if prevalence is not None and 0 < threshold < 1:
            threshold = float(with_prevalence(threshold, calibration.prevalence, prevalence))
        self.vote[rows] = self.calibrated_probability[rows] >= threshold


def ensemble_columns(members: Sequence[MemberPrediction]) -> dict[str, NDArray[Any]]:
    """Return columns (object,) of mean and spread over networks, NaN where no network has usable input."""
    names = ("logit", "probability", "calibrated_probability", "vote", "distance")
    stacked = {name: np.stack([getattr(member, name) for member in members]) for name in names}
    mean = {name: values.mean(axis=0) for name, values in stacked.items()}
    probability = stacked["calibrated_probability"]
    single = len(members) == 1
    return {
        **{name: mean[name] for name in names[:3]},
        "probability_spread": np.full(probability.shape[1], np.nan) if single else probability.std(axis=0, ddof=1),
        "votes": mean["vote"],
        "agn": mean["vote"] >= 0.5,
        "training_distance": mean["distance"],
        "unlike_training": mean["distance"] > 1,
    }

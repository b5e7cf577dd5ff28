"""What several networks say of the same objects, and their mean and spread."""

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
class MemberSays:
    """What one network says; NaN where it could not be asked.

    Attributes
    ----------
    logit, probability, calibrated_probability
        (object,) output, with the prior shift undone, and calibrated.
    vote
        (object,) 1 where calibrated probability reaches the threshold of the network, else 0.
    distance
        (object,) from the training objects, 1 at the limit.
    """

    logit: Floats
    probability: Floats
    calibrated_probability: Floats
    vote: Floats
    distance: Floats

    @classmethod
    def empty(cls, objects: int) -> "MemberSays":
        """Return that nothing is said of any object."""
        return cls(**{name: np.full(objects, np.nan) for name in cls.__dataclass_fields__})

    def tell(self, rows: NDArray[np.int64], logits: Floats, used: SubsetCalibration, prevalence: float | None) -> None:
        """Fill in some objects from their logits.

        Parameters
        ----------
        rows
            (told,) which objects.
        logits
            (told,) of the network.
        used
            Calibration and threshold of the subset of modalities that these objects were shown by.
        prevalence
            Fraction of positives in their population; None takes that of the calibration. The threshold follows, so
            that it stays the same logit.
        """
        map_, threshold = used.calibration, used.threshold
        self.logit[rows] = logits
        self.probability[rows] = expit(unshifted_logits(logits, map_.pos_weight))
        self.calibrated_probability[rows] = map_.probability(logits, target_prevalence=prevalence)
        if prevalence is not None and 0 < threshold < 1:
            threshold = float(with_prevalence(threshold, map_.prevalence, prevalence))
        self.vote[rows] = self.calibrated_probability[rows] >= threshold


def averaged(said: Sequence[MemberSays]) -> dict[str, NDArray[Any]]:
    """Return columns (object,) of mean and spread over networks; an object that none was asked about has NaN."""
    probability = np.stack([each.calibrated_probability for each in said])
    votes = np.stack([each.vote for each in said]).mean(axis=0)
    distance = np.stack([each.distance for each in said]).mean(axis=0)
    one = len(said) == 1
    return {
        "logit": np.stack([each.logit for each in said]).mean(axis=0),
        "probability": np.stack([each.probability for each in said]).mean(axis=0),
        "calibrated_probability": probability.mean(axis=0),
        "probability_spread": np.full(probability.shape[1], np.nan) if one else probability.std(axis=0, ddof=1),
        "votes": votes,
        "agn": votes >= 0.5,
        "training_distance": distance,
        "unlike_training": distance > 1,
    }

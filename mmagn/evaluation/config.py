"""Settings of the scores."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How a trained model is judged.

    Attributes
    ----------
    bootstrap_draws
        Stratified bootstrap draws behind every interval.
    confidence
        Probability content of the intervals.
    threshold_metric
        Score that the decision threshold maximises on the validation split.
    seed
        Seed of the bootstrap.
    calibration
        Map from logits to probabilities fitted on the validation split, after the prior shift of the weighted loss
        is undone; ``isotonic`` needs 1,000 objects there.
    novelty_quantile
        An object is flagged as unlike the training set where its embedding lies farther out than those of this fraction
        of the validation split.
    calibration_bins
        Bins of about equal counts behind the calibration error, the parts of the Brier score and the reliability
        diagram.
    """

    bootstrap_draws: int = 2000
    confidence: float = 0.95
    threshold_metric: Literal["mcc", "f1"] = "mcc"
    seed: int = 0
    calibration: Literal["none", "temperature", "platt", "isotonic"] = "platt"
    novelty_quantile: float = 0.99
    calibration_bins: int = 10

    def __post_init__(self) -> None:
        if self.bootstrap_draws < 1:
            raise ValueError(f"evaluation.bootstrap_draws is {self.bootstrap_draws}; allowed: 1 or more")
        if not 0 < self.confidence < 1:
            raise ValueError(f"evaluation.confidence is {self.confidence}; allowed: between 0 and 1")
        if not 0 < self.novelty_quantile <= 1:
            raise ValueError(f"evaluation.novelty_quantile is {self.novelty_quantile}; allowed: above 0, at most 1")
        if self.calibration_bins < 1:
            raise ValueError(f"evaluation.calibration_bins is {self.calibration_bins}; allowed: 1 or more")

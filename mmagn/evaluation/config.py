"""Settings of the scores."""

from dataclasses import dataclass
from typing import Literal

from mmagn.storage.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Settings):
    """How a trained model is evaluated.

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

    SECTION = "evaluation"
    bootstrap_draws: int = setting(2000, "judging", at_least=1)
    confidence: float = setting(0.95, "judging", above=0, below=1)
    threshold_metric: Literal["mcc", "f1"] = setting("mcc", "calibration")
    seed: int = setting(0, "judging", at_least=0, below=2**32)
    calibration: Literal["none", "temperature", "platt", "isotonic"] = setting("platt", "calibration")
    novelty_quantile: float = setting(0.99, "calibration", above=0, at_most=1)
    calibration_bins: int = setting(10, "judging", at_least=1)

"""Scores of positive-unlabelled data: known positives against a background of objects whose label is unknown.

The background holds positives that nobody has found. Recall of the known positives is what it says, as far as they are
like all positives. Average precision and ROC-AUC against the background are those of separating *known* positives from
it, and lie below those against true negatives (Elkan & Noto 2008, for labels missing at random). Precision, accuracy,
MCC, Brier score and calibration would need negatives and stay undefined.
"""

from collections.abc import Mapping
from dataclasses import replace

from mmagn.evaluation.scorecard import Score, Scores

SCORABLE = ("average_precision", "roc_auc", "recall")
NEEDS_NEGATIVES = "needs negatives; the background is of unknown label"


def against_background(scored: Scores, background: int) -> Scores:
    """Remove the scores that need negatives, where a background of unknown label took the place of negatives."""
    if not background:
        return scored
    text = background_text(scored.positives, background)
    return replace(
        scored,
        scores=scorable(scored.scores),
        all_negative={name: value if name in SCORABLE else None for name, value in scored.all_negative.items()},
        classification_report={},
        classification_report_text=text,
    )


def scorable(scores: Mapping[str, Score]) -> dict[str, Score]:
    """Return scores by name, undefined where they need negatives."""
    return {name: score if name in SCORABLE else Score(reason=NEEDS_NEGATIVES) for name, score in scores.items()}


def background_text(positives: int, background: int) -> str:
    """Return what positive-unlabelled scores mean, in one sentence."""
    return (
        f"positive-unlabelled data: {positives} known positives against a background of {background} objects of "
        f"unknown label, which holds positives; average precision and ROC-AUC are of known positives against this "
        "background, the prevalence is a lower limit, and scores that need negatives are undefined"
    )

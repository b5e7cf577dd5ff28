"""Scores of a model as records: one score with its interval, and all scores with their baseline."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self


def number_text(value: float | None, low: float | None = None, high: float | None = None, *, sign: bool = False) -> str:
    """Return a number with its interval, such as ``0.731 [0.602, 0.838]``; a dash where it is undefined."""
    if value is None:
        return "–"
    form = "+.3f" if sign else ".3f"
    return f"{value:{form}}" + ("" if low is None or high is None else f" [{low:{form}}, {high:{form}}]")


@dataclass(frozen=True, kw_only=True)
class Score:
    """One score with its intervals; None where undefined.

    Attributes
    ----------
    value, low, high
        The score, and ends of its stratified bootstrap interval (BCa). Binned calibration scores of a finite sample lie
        above those of the model; their ``low`` is 0 where perfect calibration is not excluded.
    exact_low, exact_high
        Ends of the exact binomial interval (Clopper & Pearson 1934) of a plain fraction (precision, recall,
        accuracy), for a handful of objects, where bootstrap intervals are too narrow.
    calibrated_high
        For calibration_error and brier_reliability the level that a perfectly calibrated model with the same
        probabilities stays below with the probability of the interval.
    reason
        Why the score or its bootstrap interval is undefined, else "".
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    exact_low: float | None = None
    exact_high: float | None = None
    calibrated_high: float | None = None
    reason: str = ""

    def as_dict(self) -> dict[str, float | str | None]:
        """Return value, low, high and reason, and the other fields where they are defined."""
        always = {"value": self.value, "low": self.low, "high": self.high, "reason": self.reason or None}
        extra = {name: getattr(self, name) for name in ("exact_low", "exact_high", "calibrated_high")}
        return always | {name: value for name, value in extra.items() if value is not None}

    @classmethod
    def from_dict(cls, numbers: Mapping[str, Any]) -> Self:
        """Return what :meth:`as_dict` gave; other entries are ignored."""
        known = {each.name: numbers[each.name] for each in fields(cls) if numbers.get(each.name) is not None}
        return cls(**known)

    def __str__(self) -> str:
        """Return the score as text, such as ``0.731 [0.602, 0.838]``."""
        return self.reason if self.value is None else number_text(self.value, self.low, self.high)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """All scores of one model on one sample, with the baseline.

    Attributes
    ----------
    objects, positives, prevalence
        Counts of the sample, and fraction of positives, None for an empty one.
    threshold
        Probability from which on an object counts as predicted positive.
    confidence, bootstrap_draws
        Of the intervals.
    scores, all_negative
        By name, in the order of ``METRICS``; those of a model that predicts no positives.
    confusion_matrix
        Counts [[true negatives, false positives], [false negatives, true positives]].
    classification_report, classification_report_text
        That of scikit-learn as nested dict, and as text.
    """

    objects: int
    positives: int
    prevalence: float | None
    threshold: float
    confidence: float
    bootstrap_draws: int
    scores: Mapping[str, Score]
    all_negative: Mapping[str, float | None]
    confusion_matrix: list[list[int]]
    classification_report: Mapping[str, Any]
    classification_report_text: str

    def __getitem__(self, name: str) -> Score:
        """Return the score called ``name``."""
        return self.scores[name]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON; undefined scores are null with their reason."""
        scores = {name: score.as_dict() for name, score in self.scores.items()}
        return {each.name: getattr(self, each.name) for each in fields(self)} | {"scores": scores}

    @classmethod
    def from_dict(cls, numbers: Mapping[str, Any]) -> Self:
        """Return what :meth:`as_dict` gave; other entries are ignored."""
        scores = {name: Score.from_dict(each) for name, each in numbers["scores"].items()}
        return cls(**{each.name: numbers[each.name] for each in fields(cls)} | {"scores": scores})

    def text(self) -> str:
        """Return a plain table: each score with its interval and the all-negative baseline."""
        head = f"{self.objects} objects, {self.positives} positive"
        if self.prevalence is not None:
            head += f" (prevalence {self.prevalence:.3f})"
        rows = [
            f"{head}, threshold {self.threshold:.3f}; intervals {self.confidence:.0%}",
            f"{'score':<24}{'value [bootstrap]':<24}{'exact binomial':<18}all-negative",
        ]
        for name, score in self.scores.items():
            exact = "" if score.exact_low is None else f"[{score.exact_low:.3f}, {score.exact_high:.3f}]"
            baseline = self.all_negative.get(name)
            rows.append(f"{name:<24}{score!s:<24}{exact:<18}{'' if baseline is None else f'{baseline:.3f}'}".rstrip())
        return "\n".join(rows)

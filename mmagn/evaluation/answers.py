"""What an ablation found: a row per model and stratum, and a plain sentence per question."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from astropy.table import Table

from mmagn.evaluation.comparison import Difference, holm
from mmagn.evaluation.config import EvaluationConfig
from mmagn.evaluation.pooled import PooledScores, difference
from mmagn.evaluation.scorecard import Score
from mmagn.evaluation.variants import VARIANTS, Question

TABLE_METRICS = (
    "average_precision",
    "mcc",
    "roc_auc",
    "precision",
    "recall",
    "f1",
    "recall_at_precision_90",
    "brier",
    "log_loss",
    "calibration_error",
)
"""Scores of the tables, in their order."""
SHORT_METRICS = ("average_precision", "mcc", "roc_auc", "brier", "calibration_error")
"""Those of the Markdown table, which a page is wide enough for."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to one question.

    Attributes
    ----------
    question
        Which two models.
    difference
        Of their scores.
    p_corrected
        p value after Holm's correction for all questions, None where the difference is undefined.
    questions
        Number of questions that were corrected for.
    """

    question: Question
    difference: Difference
    p_corrected: float | None
    questions: int

    @property
    def shown(self) -> bool:
        """True where the corrected p value leaves out that there is no difference."""
        return self.p_corrected is not None and self.p_corrected < 1 - self.difference.confidence

    @property
    def sentence(self) -> str:
        """The answer in plain words: what was changed, by how much the score changed, and whether that is shown."""
        found, metric = self.difference, self.difference.metric.replace("_", " ")
        if found.value is None or found.low is None or found.high is None or self.p_corrected is None:
            return f"{self.question.change}: the change of {metric} is undefined in this sample"
        verdict = ("shown" if found.value > 0 else "shown, in the other direction") if self.shown else "not shown"
        interval = f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
        counted = f"p {self.p_corrected:.2g}, corrected for {self.questions} questions"
        return f"{self.question.change} changes {metric} by {interval}: {verdict} ({counted})"


def answers(
    pooled: Mapping[str, PooledScores], questions: Sequence[Question], metric: str, config: EvaluationConfig
) -> list[Answer]:
    """Return the answers to all questions, their p values corrected for the number of those that have one."""
    found = [difference(pooled[asked.better.name], pooled[asked.base.name], metric, config) for asked in questions]
    corrected = iter(holm([each.p_value for each in found if each.p_value is not None]))
    return [
        Answer(
            question=asked,
            difference=each,
            p_corrected=None if each.p_value is None else next(corrected),
            questions=len(questions),
        )
        for asked, each in zip(questions, found, strict=True)
    ]


@dataclass(frozen=True, kw_only=True)
class Row:
    """Scores of one model on the sample or on one stratum of it.

    Attributes
    ----------
    variant
        Name of the model.
    stratum, part
        What the sample is parted by and which part it is; "" for the whole sample.
    objects, positives
        Counts.
    scores
        By name, those of ``TABLE_METRICS``.
    """

    variant: str
    stratum: str
    part: str
    objects: int
    positives: int
    scores: Mapping[str, Score]

    def as_dict(self) -> dict[str, Any]:
        """Return one level of plain values: the score itself, ``_low`` and ``_high`` for each score."""
        flat: dict[str, Any] = {
            "variant": self.variant,
            "level": VARIANTS[self.variant].level,
            "stratum": self.stratum,
            "part": self.part,
            "objects": self.objects,
            "positives": self.positives,
            "prevalence": self.positives / self.objects,
        }
        for name, score in self.scores.items():
            flat |= {name: score.value, f"{name}_low": score.low, f"{name}_high": score.high}
        return flat


def score_row(
    variant: str, pooled: PooledScores, config: EvaluationConfig, *, stratum: str = "", part: str = ""
) -> Row:
    """Return the scores of a model that the tables have."""
    return Row(
        variant=variant,
        stratum=stratum,
        part=part,
        objects=pooled.objects,
        positives=pooled.positives,
        scores={name: pooled.score(name, config) for name in TABLE_METRICS},
    )


def rows_table(rows: Sequence[Row]) -> Table:
    """Return the rows as a flat table for CSV, NaN where a score is undefined."""
    flat = [row.as_dict() for row in rows]
    columns = {
        name: [float("nan") if line[name] is None else line[name] for line in flat]
        for name in (flat[0] if flat else ())
    }
    return Table(columns)


def markdown(rows: Sequence[Row], found: Sequence[Answer], *, title: str, strata: Sequence[Row] = ()) -> str:
    """Return the whole result as Markdown: the questions, the table of models, and the strata."""
    parts = [f"# {title}"]
    if found:
        parts.append("\n".join(f"- {answer.sentence}" for answer in found))
    parts.append(_markdown_table(rows, ("level", "variant", "objects", "positives")))
    for stratum in dict.fromkeys(row.stratum for row in strata):
        members = [row for row in strata if row.stratum == stratum]
        parts += [f"## By {stratum}", _markdown_table(members, ("variant", "part", "objects", "positives"))]
    return "\n\n".join(parts) + "\n"


def _markdown_table(rows: Sequence[Row], leading: Sequence[str]) -> str:
    head = [*leading, *(name.replace("_", " ") for name in SHORT_METRICS)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        flat = row.as_dict()
        cells = [str(flat[name]) for name in leading] + [str(row.scores[name]) for name in SHORT_METRICS]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)

"""Results of an ablation: a row of scores per model and stratum, and a sentence per question."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from astropy.table import Table

from mmagn.evaluation.config import EvaluationConfig
from mmagn.evaluation.pooled import Difference, PooledScores, difference, holm
from mmagn.evaluation.scorecard import Score, number_text
from mmagn.evaluation.unlabelled import background_text, scorable
from mmagn.evaluation.variants import VARIANTS, Question
from mmagn.storage.markdown import markdown_table

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
    """The answer to one question: the difference of the scores of its two models.

    ``p_corrected`` is the p value after Holm's correction for all ``questions``, None where the difference has none.
    """

    question: Question
    difference: Difference
    p_corrected: float | None
    questions: int

    @property
    def significant(self) -> bool:
        """True where the corrected p value is below the significance level."""
        return self.p_corrected is not None and self.p_corrected < 1 - self.difference.confidence

    @property
    def sentence(self) -> str:
        """What was changed, by how much the score changed, and whether the change is significant."""
        change, metric = self.difference, self.difference.metric.replace("_", " ")
        if change.value is None or change.low is None or change.high is None or self.p_corrected is None:
            return f"{self.question.change}: the change of {metric} is undefined in this sample"
        verdict = "significant" if self.significant else "not significant"
        interval = number_text(change.value, change.low, change.high, sign=True)
        count = f"{self.questions} question{'s' if self.questions > 1 else ''}"
        p_value = f"p = {self.p_corrected:.2g} after correction for {count}"
        return f"{self.question.change} changes {metric} by {interval} ({verdict}, {p_value})"

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "question": self.question.name,
            "sentence": self.sentence,
            "significant": self.significant,
            "p_corrected": self.p_corrected,
            **asdict(self.difference),
        }


def answers(
    pooled: Mapping[str, PooledScores], questions: Sequence[Question], metric: str, config: EvaluationConfig
) -> list[Answer]:
    """Return the answers to all questions, their p values corrected for the number of those that have one."""
    changes = [difference(pooled[each.better.name], pooled[each.base.name], metric, config) for each in questions]
    p_values = holm([change.p_value for change in changes])
    return [
        Answer(question=question, difference=change, p_corrected=p_value, questions=len(questions))
        for question, change, p_value in zip(questions, changes, p_values, strict=True)
    ]


@dataclass(frozen=True, kw_only=True)
class Row:
    """Scores of one model on the sample or on one stratum of it.

    Attributes
    ----------
    variant
        Name of the model.
    stratum, part
        Quantity that the sample is divided by, and the part; "" for the whole sample.
    objects, positives, scores
        Counts; scores by name, those of ``TABLE_METRICS``.
    independent
        Whether the label is made of what no input contains.
    background
        Objects of unknown label that count as negative; scores that need negatives are undefined where there are any.
    """

    variant: str
    stratum: str
    part: str
    objects: int
    positives: int
    scores: Mapping[str, Score]
    independent: bool = False
    background: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return one level of plain values: the score itself, ``_low`` and ``_high`` for each score."""
        flat: dict[str, Any] = {
            "variant": self.variant,
            "level": "L4" if self.independent and VARIANTS[self.variant].learns else VARIANTS[self.variant].level,
            "stratum": self.stratum,
            "part": self.part,
            "objects": self.objects,
            "positives": self.positives,
            "prevalence": self.positives / self.objects,
            "background": self.background,
        }
        for name, score in self.scores.items():
            flat |= {name: score.value, f"{name}_low": score.low, f"{name}_high": score.high}
        return flat


def score_row(
    variant: str,
    pooled: PooledScores,
    config: EvaluationConfig,
    part: tuple[str, str] = ("", ""),
    *,
    independent: bool = False,
    background: int = 0,
) -> Row:
    """Return the scores of ``TABLE_METRICS`` of a model on a part of the sample (stratum, name); see :class:`Row`."""
    scores = {name: pooled.score(name, config) for name in TABLE_METRICS}
    return Row(
        variant=variant,
        stratum=part[0],
        part=part[1],
        objects=pooled.objects,
        positives=pooled.positives,
        scores=scorable(scores) if background else scores,
        independent=independent,
        background=background,
    )


def rows_table(rows: Sequence[Row]) -> Table:
    """Return the rows as a flat table for CSV, NaN where a score is undefined."""
    flat = [row.as_dict() for row in rows]
    columns = {
        name: [float("nan") if line[name] is None else line[name] for line in flat]
        for name in (flat[0] if flat else ())
    }
    return Table(columns)


def markdown(
    rows: Sequence[Row],
    answered: Sequence[Answer],
    *,
    title: str,
    strata: Sequence[Row] = (),
    catalog: Sequence[Row] = (),
) -> str:
    """Return the result as Markdown: answers, table of models, the same on the labels of a catalogue, and strata."""
    parts = [f"# {title}"]
    if answered:
        parts.append("\n".join(f"- {answer.sentence}" for answer in answered))
    leading = ("level", "variant", "objects", "positives")
    parts += [*_background_lines(rows), _markdown_table(rows, leading)]
    if catalog:
        parts += ["## On the labels of the catalogue", *_background_lines(catalog), _markdown_table(catalog, leading)]
    for stratum in dict.fromkeys(row.stratum for row in strata):
        members = [row for row in strata if row.stratum == stratum]
        parts += [f"## By {stratum}", _markdown_table(members, ("variant", "part", "objects", "positives"))]
    return "\n\n".join(parts) + "\n"


def _background_lines(rows: Sequence[Row]) -> list[str]:
    return [background_text(row.positives, row.background) for row in rows[:1] if row.background]


def _markdown_table(rows: Sequence[Row], leading: Sequence[str]) -> str:
    head = [*leading, *(name.replace("_", " ") for name in SHORT_METRICS)]
    flat = [row.as_dict() for row in rows]
    cells = [
        [*(values[name] for name in leading), *(row.scores[name] for name in SHORT_METRICS)]
        for row, values in zip(rows, flat, strict=True)
    ]
    return markdown_table(head, cells).rstrip()

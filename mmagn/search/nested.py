"""The score of a whole search: what the settings that it chose are worth on objects that it never saw."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.table import vstack
from sklearn.metrics import average_precision_score

from mmagn.ablation.fits import FoldFits
from mmagn.config.run_config import RunConfig
from mmagn.evaluation.answers import TABLE_METRICS
from mmagn.evaluation.pooled import PooledScores, out_of_fold, pooled_scores
from mmagn.evaluation.scorecard import Score
from mmagn.reporting.figures.search import TrialRecord
from mmagn.runs.sample import Sample
from mmagn.search.folds import as_trained, fits_dir, own_variant, part_of, sample_folds
from mmagn.search.space import with_values

SearchedPart = Callable[[Sample, str], TrialRecord]
"""Best trial of a search on a part of the sample; the word tells its study from the others."""


@dataclass(frozen=True, kw_only=True)
class OuterFold:
    """One outer fold: what the search without its test objects chose, and what that is worth on them.

    Attributes
    ----------
    number
        From 0 on.
    best
        Best trial of the inner search.
    score
        Average precision on the test objects of the outer fold.
    objects, positives
        Counts of those.
    """

    number: int
    best: TrialRecord
    score: float
    objects: int
    positives: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "fold": self.number,
            "objects": self.objects,
            "positives": self.positives,
            "average_precision": self.score,
            "inner_score": self.best.score,
            "values": dict(self.best.values),
        }


@dataclass(frozen=True, kw_only=True)
class NestedSearch:
    """What a nested search found.

    Attributes
    ----------
    scores
        Pooled over the outer folds, by name, with intervals.
    objects, positives
        Counts of all objects.
    folds
        Outer folds.
    """

    scores: dict[str, Score]
    objects: int
    positives: int
    folds: tuple[OuterFold, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "scores": {name: score.as_dict() for name, score in self.scores.items()},
            "objects": self.objects,
            "positives": self.positives,
            "prevalence": self.positives / self.objects,
            "folds": [fold.as_dict() for fold in self.folds],
        }

    @property
    def sentence(self) -> str:
        """The unbiased score in words."""
        score, prevalence = self.scores["average_precision"], self.positives / self.objects
        return (
            f"nested search: average precision {score} on {self.objects} objects that no search saw "
            f"(prevalence {prevalence:.3f})"
        )


def nested_search(config: RunConfig, sample: Sample, searched: SearchedPart) -> NestedSearch:
    """Search anew for each outer fold without its test objects, fit what was found, and score it on them.

    Parameters
    ----------
    config
        Settings of the run.
    sample
        Objects that may be seen.
    searched
        The search.
    """
    tables, folds = [], []
    for fold in sample_folds(config, sample, config.search.outer_folds):
        rest = np.sort(np.concatenate([fold.train, fold.validation]))
        best = searched(part_of(sample, rest), f"outer-{fold.fold}")
        chosen = as_trained(with_values(config, best.values))
        table = FoldFits(chosen, sample, fits_dir(config)).table(own_variant(chosen), fold)
        truth = np.asarray(table["truth"])
        score = float(average_precision_score(truth, np.asarray(table["logit"])))
        count = len(truth), int(truth.sum())
        folds.append(OuterFold(number=fold.fold, best=best, score=score, objects=count[0], positives=count[1]))
        tables.append(table)
    pooled = _pooled(config, sample, tables)
    return NestedSearch(
        scores={name: pooled.score(name, config.evaluation) for name in TABLE_METRICS},
        objects=pooled.objects,
        positives=pooled.positives,
        folds=tuple(folds),
    )


def _pooled(config: RunConfig, sample: Sample, tables: list[Any]) -> PooledScores:
    object_id = np.asarray(sample.table["object_id"], dtype=np.str_)[sample.rows]
    return pooled_scores(out_of_fold(vstack(tables), object_id, sample.target), config.evaluation)

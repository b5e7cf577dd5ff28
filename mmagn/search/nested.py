"""Nested search: the score of a whole search on objects that it did not use."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.table import vstack
from sklearn.metrics import average_precision_score

from mmagn.ablation.fits import FoldFits
from mmagn.config.run_config import RunConfig
from mmagn.evaluation.answers import TABLE_METRICS
from mmagn.evaluation.pooled import out_of_fold, pooled_scores
from mmagn.evaluation.scorecard import Score
from mmagn.runs.sample import Sample
from mmagn.search.folds import as_trained, own_variant, sample_folds
from mmagn.search.results import TrialRecord
from mmagn.search.space import with_values

SearchedPart = Callable[[Sample, str], TrialRecord]
"""Returns the best trial of a search on a part of the sample; the text is part of the name of its study."""


@dataclass(frozen=True, kw_only=True)
class NestedSearch:
    """Result of a nested search.

    Attributes
    ----------
    scores
        Pooled over the outer folds, by name, with intervals.
    objects, positives
        Counts of all objects.
    folds
        Of each outer fold ``fold``, its number from 0, ``objects`` and ``positives`` among its test objects, their
        ``average_precision``, and ``inner_score`` and ``values`` of the best trial of the search without them.
    """

    scores: dict[str, Score]
    objects: int
    positives: int
    folds: tuple[dict[str, Any], ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "scores": {name: score.as_dict() for name, score in self.scores.items()},
            "objects": self.objects,
            "positives": self.positives,
            "prevalence": self.positives / self.objects,
            "folds": self.folds,
        }

    @property
    def sentence(self) -> str:
        """The unbiased score as a sentence."""
        score, prevalence = self.scores["average_precision"], self.positives / self.objects
        return (
            f"nested search: average precision {score} on {self.objects} objects outside each search "
            f"(prevalence {prevalence:.3f})"
        )


def nested_search(config: RunConfig, sample: Sample, searched: SearchedPart) -> NestedSearch:
    """Return the score of a search that is repeated for each outer fold without its test objects."""
    tables, folds = [], []
    for fold in sample_folds(config, sample, config.search.outer_folds):
        rest = np.sort(np.concatenate([fold.train, fold.validation]))
        best = searched(sample.part(rest), f"outer-{fold.fold}")
        chosen = as_trained(with_values(config, best.values))
        table = FoldFits(chosen, sample).table(own_variant(chosen), fold)
        truth = np.asarray(table["truth"])
        score = float(average_precision_score(truth, np.asarray(table["logit"])))
        row = {"fold": fold.fold, "objects": len(truth), "positives": int(truth.sum()), "average_precision": score}
        folds.append(row | {"inner_score": best.score, "values": dict(best.values)})
        tables.append(table)
    pooled = pooled_scores(out_of_fold(vstack(tables), sample.object_id, sample.target), config.evaluation)
    return NestedSearch(
        scores={name: pooled.score(name, config.evaluation) for name in TABLE_METRICS},
        objects=pooled.objects,
        positives=pooled.positives,
        folds=tuple(folds),
    )

"""Permutation importance: loss of average precision where one feature is permuted (Breiman 2001)."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from mmagn.evaluation.bootstrap import stratified_counts
from mmagn.evaluation.intervals import percentile_interval
from mmagn.records import Floats
from mmagn.storage.files import as_written, write_json
from mmagn.training.heads.average_precision import average_precisions

CONFIDENCE = 0.95
"""Probability content of the intervals."""


@dataclass(frozen=True, kw_only=True)
class Importance:
    """Importance of one feature.

    Attributes
    ----------
    name, value, low, high
        The feature; loss of average precision, mean over permutations, and its interval over permutations and resampled
        objects.
    share
        Root mean square change of the logit over the spread of the logits, where objects have the value of another
        one: 0 where the model does not use it, about 1.4 where nothing else matters.
    """

    name: str
    value: float
    low: float
    high: float
    share: float


def permutation_importance(
    logits: Callable[[NDArray[np.float32]], Floats],
    features: NDArray[np.float32],
    target: Floats,
    names: Sequence[str],
    *,
    draws: int = 100,
    seed: int = 0,
) -> list[Importance]:
    """Return the importance of each feature, in order, on objects that the model was not trained on.

    Each draw permutes one feature among the objects and resamples the objects, class by class; scores with and without
    the feature are computed on the same resample.

    Parameters
    ----------
    logits
        Output (object,) of the model for features (object, feature), all else as it is.
    features, target
        (object, feature) as the model takes them; (object,) 1 positive, 0 negative, both of which must occur.
    names
        Of the features.
    draws, seed
        Permutations of each feature, and the seed of all draws.
    """
    rng = np.random.default_rng(seed)
    whole, once = logits(features)[None], np.ones((1, len(target)))
    importances = []
    for column, name in enumerate(names):
        permuted, counts = np.empty((draws, len(target))), stratified_counts(target, draws, rng)
        for draw in range(draws):
            changed = features.copy()
            changed[:, column] = rng.permutation(changed[:, column])
            permuted[draw] = logits(changed)
        losses = _average_precisions(target, whole, once) - _average_precisions(target, permuted, once)
        resampled = _average_precisions(target, whole, counts) - _average_precisions(target, permuted, counts)
        low, high = percentile_interval(resampled, CONFIDENCE)
        share = float(np.sqrt(np.square(permuted - whole).mean()) / max(whole.std(), 1e-12))
        importances.append(Importance(name=name, value=float(losses.mean()), low=low, high=high, share=share))
    return importances


def _average_precisions(target: Floats, score: Floats, counts: NDArray[Any]) -> Floats:
    """(draw,) average precision of scores and counts of resampled objects, both (draw or 1, object)."""
    size = (max(len(score), len(counts)), len(target))
    lists = (torch.as_tensor(values).expand(size) for values in (score, target, counts))
    return np.asarray(average_precisions(*lists).numpy())


def mean_importances(members: Sequence[Sequence[Importance]]) -> list[Importance]:
    """Return the mean importances over several networks, of those that have any."""
    measured = [{each.name: each for each in importances} for importances in members if importances]
    return [
        Importance(
            name=name,
            **{
                key: float(np.mean([getattr(each[name], key) for each in measured]))
                for key in ("value", "low", "high", "share")
            },
        )
        for name in (measured[0] if measured else ())
    ]


def save_importances(path: Path, importances: Sequence[Importance], inputs: Sequence[Importance] = ()) -> None:
    """Write importances of the features and of the inputs image, spectrum and features as JSON."""
    parts = {"features": [asdict(each) for each in importances], "inputs": [asdict(each) for each in inputs]}
    write_json(path, {"split": "test", "unit": "loss of average precision; share: of the logit", **parts})


def load_importances(path: Path, of: Literal["features", "inputs"] = "features") -> list[Importance]:
    """Return what :func:`save_importances` wrote, nothing without such a file; ``ValueError`` for other content."""
    if not path.is_file():
        return []
    with as_written(path, "importances of features"):
        importances: list[Importance] = [
            Importance(**each) for each in json.loads(path.read_text(encoding="utf-8"))[of]
        ]
    return importances

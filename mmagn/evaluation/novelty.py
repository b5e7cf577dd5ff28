"""Novelty of an object: Mahalanobis distance of its embedding from the training set over a validation quantile."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from sklearn.covariance import ledoit_wolf

from mmagn.records import Floats
from mmagn.storage.files import whole_file
from mmagn.tensors.missing import SUBSETS, Subset


@dataclass(frozen=True, kw_only=True, eq=False)
class Novelty:
    """Mean and covariance of training embeddings, and the limit that validation objects set.

    Attributes
    ----------
    mean, whitening
        (embedding,) of the training objects; (embedding, embedding) that makes their covariance the identity, with the
        shrinkage of Ledoit & Wolf (2004).
    limit, quantile
        Distance that a fraction ``quantile`` of the validation objects stays within.
    """

    mean: Floats
    whitening: Floats
    limit: float
    quantile: float

    def distance(self, embedding: NDArray[np.floating[Any]]) -> Floats:
        """Return the distance (object,) of each embedding in units of ``limit``: above 1 is unlike the training set."""
        return np.asarray(_lengths(embedding, self.mean, self.whitening) / self.limit)


def fitted_novelty(
    training: NDArray[np.floating[Any]], validation: NDArray[np.floating[Any]], quantile: float
) -> Novelty:
    """Return the novelty measure that training and validation embeddings, (object, embedding), give.

    The limit is the distance that a ``quantile`` of the validation objects stays within; without any, of the training
    objects. ``ValueError`` with fewer than two training objects.
    """
    if len(training) < 2:
        raise ValueError(f"novelty needs 2 or more training objects; there are {len(training)}")
    values = np.asarray(training, dtype=np.float64)
    mean, (covariance, _) = values.mean(axis=0), ledoit_wolf(values)
    variances, axes = np.linalg.eigh(covariance)
    floor = max(float(variances.max()) * 1e-6, np.finfo(np.float64).tiny)
    whitening = axes / np.sqrt(np.maximum(variances, floor))
    lengths = _lengths(validation if len(validation) else training, mean, whitening)
    limit = float(np.quantile(lengths, quantile, method="higher")) or 1.0
    return Novelty(mean=mean, whitening=whitening, limit=limit, quantile=quantile)


def _lengths(embedding: NDArray[np.floating[Any]], mean: Floats, whitening: Floats) -> Floats:
    return np.asarray(np.linalg.norm((np.asarray(embedding, dtype=np.float64) - mean) @ whitening, axis=1))


def save_novelty(path: Path, by_subset: Mapping[Subset, Novelty]) -> None:
    """Write the novelty of each subset as safetensors in single precision."""
    arrays: dict[str, Any] = {}
    for name, each in by_subset.items():
        arrays |= {f"{name}.mean": each.mean, f"{name}.whitening": each.whitening}
        arrays[f"{name}.limit"] = np.array([each.limit, each.quantile])
    with whole_file(path) as part:
        save_file({name: array.astype(np.float32) for name, array in arrays.items()}, part)


def load_novelty(path: Path) -> dict[Subset, Novelty]:
    """Return what :func:`save_novelty` wrote, nothing without such a file; ``ValueError`` for other content."""
    if not path.is_file():
        return {}
    try:
        arrays = {name: array.astype(np.float64) for name, array in load_file(path).items()}
        return {
            name: Novelty(
                mean=arrays[f"{name}.mean"],
                whitening=arrays[f"{name}.whitening"],
                limit=float(arrays[f"{name}.limit"][0]),
                quantile=round(float(arrays[f"{name}.limit"][1]), 6),
            )
            for name in SUBSETS
            if f"{name}.mean" in arrays
        }
    except (ValueError, OSError, LookupError, SafetensorError) as error:
        raise ValueError(f"{path} does not hold training embeddings by subset of modalities: {error}") from error

"""A trained network judged on its own sample: logits of all objects, calibration and novelty for every subset."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmagn.evaluation.calibration import fitted_calibration
from mmagn.evaluation.config import EvaluationConfig
from mmagn.evaluation.logits import checked_logits
from mmagn.evaluation.novelty import Novelty, fitted_novelty, save_novelty
from mmagn.evaluation.scores import best_threshold
from mmagn.evaluation.subsets import SubsetCalibration, known_subsets, save_calibrations
from mmagn.models.fusion import FusionModel
from mmagn.tensors.batches import Batch, OrderedBatches
from mmagn.tensors.missing import FeatureOrigin, Subset, shown_batch

CALIBRATION_FILE = "calibration.json"
NOVELTY_FILE = "novelty.npz"
NOVELTY_OBJECTS = 4096
"""Most training objects behind the cloud of usual embeddings."""
JUDGED_AT_ONCE = 64
"""Objects that a network is shown in one batch. With twice as many, a layer of the small backbone takes nearly 32 MB;
glibc gives such blocks back each time, and a third of the time goes into new pages."""

Rows = NDArray[np.int64]
BatchOf = Callable[[Tensor], dict[str, Tensor]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """What a trained network says of its sample, and how that is to be read.

    Attributes
    ----------
    logits
        (object,) of the widest subset, NaN for objects that were not asked for.
    calibrations, novelty
        By subset, the widest first.
    """

    logits: NDArray[np.float64]
    calibrations: dict[Subset, SubsetCalibration]
    novelty: dict[Subset, Novelty]

    def save(self, folder: Path) -> None:
        """Write calibrations and novelty into the folder of the network's weights."""
        save_calibrations(folder / CALIBRATION_FILE, self.calibrations)
        save_novelty(folder / NOVELTY_FILE, self.novelty)


@dataclass(frozen=True, kw_only=True, eq=False)
class JudgedSample:
    """The objects that a network is judged on.

    Attributes
    ----------
    batch_of
        Batch of the given rows, as the network takes it.
    target
        (object,) 1 positive, 0 negative.
    train, validation
        Rows that it was trained on, and those that calibration, threshold and limit of novelty come from.
    features
        Names of the features.
    origin
        What they are measured on, and what stands in for them.
    """

    batch_of: BatchOf
    target: NDArray[np.float64]
    train: Rows
    validation: Rows
    features: Sequence[str]
    origin: FeatureOrigin


def judged(
    model: FusionModel,
    sample: JudgedSample,
    config: EvaluationConfig,
    *,
    pos_weight: float,
    device: str,
    wanted: Rows | None = None,
) -> Judged:
    """Return logits, and calibration and novelty of every subset of modalities that the network knows.

    Parameters
    ----------
    model
        Trained network; it is moved to the device and put into evaluation mode.
    sample
        Its objects.
    config
        Kind of calibration, score that the threshold maximises, quantile of novelty.
    pos_weight
        Weight of the positives in its loss.
    device
        Where it runs.
    wanted
        Rows whose logits are asked for beside those of training and validation; None asks for all.

    Raises
    ------
    ValueError
        Where a logit is not finite.
    """
    count = len(sample.target)
    few = sample.train[:: max(1, -(-len(sample.train) // NOVELTY_OBJECTS))]
    needed = np.unique(np.concatenate([few, sample.validation]))
    every = np.arange(count) if wanted is None else np.unique(np.concatenate([needed, wanted]))
    logits = np.full(count, np.nan)
    calibrations: dict[Subset, SubsetCalibration] = {}
    novelty: dict[Subset, Novelty] = {}
    known = known_subsets(model.branches, sample.features)
    for subset in known:
        rows = every if subset == known[0] else needed
        batches = (sample.batch_of(part) for part in OrderedBatches(torch.from_numpy(rows), JUDGED_AT_ONCE).batches())
        if subset != known[0]:
            batches = (shown_batch(batch, subset, sample.origin) for batch in batches)
        found, embedding = embedded(model, batches, device)
        of_row = np.full(count, np.nan)
        of_row[rows] = checked_logits(rows, found)
        logits = of_row if subset == known[0] else logits
        calibrations[subset] = calibrated(
            sample.target[sample.validation], of_row[sample.validation], config, pos_weight=pos_weight
        )
        place = np.searchsorted(rows, few), np.searchsorted(rows, sample.validation)
        novelty[subset] = fitted_novelty(embedding[place[0]], embedding[place[1]], config.novelty_quantile)
    return Judged(logits=logits, calibrations=calibrations, novelty=novelty)


def calibrated(
    target: NDArray[np.float64], logits: NDArray[np.float64], config: EvaluationConfig, *, pos_weight: float
) -> SubsetCalibration:
    """Return calibration and threshold that fit (object,) targets and logits of the validation split."""
    map_ = fitted_calibration(target, logits, pos_weight=pos_weight, kind=config.calibration)
    threshold = best_threshold(target, map_.probability(logits), config.threshold_metric)
    return SubsetCalibration(calibration=map_, threshold=threshold)


def embedded(
    model: FusionModel, batches: Iterable[Batch], device: str
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return logits (object,) and embeddings (object, embedding), what the head sees, in the order of the batches."""
    model.to(device).eval()
    logits, embeddings = [], []
    with torch.inference_mode():
        for batch in batches:
            shown = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
            embedding = model.embedding(shown)
            logits.append(model.head(embedding).squeeze(-1).float().cpu().numpy().astype(np.float64))
            embeddings.append(embedding.float().cpu().numpy())
    return np.concatenate(logits), np.concatenate(embeddings)

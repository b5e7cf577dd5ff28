"""Evaluation of a trained network on its own sample: logits, and calibration and novelty of every subset of inputs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmagn.evaluation.calibration import Calibration, fitted_calibration
from mmagn.evaluation.config import EvaluationConfig
from mmagn.evaluation.folds import Fold
from mmagn.evaluation.novelty import Novelty, fitted_novelty, save_novelty
from mmagn.evaluation.permutation import Importance, permutation_importance, save_importances
from mmagn.evaluation.scores import best_threshold
from mmagn.evaluation.subsets import SubsetCalibration, known_subsets, save_calibrations
from mmagn.models.fusion import FusionModel
from mmagn.models.heads import Logits, fused_logits
from mmagn.records import Floats
from mmagn.storage.run_folder import RunFolder
from mmagn.tensors.batches import Batch
from mmagn.tensors.missing import FeatureOrigin, Subset, shown_batch
from mmagn.tensors.scaling import FeatureScaling
from mmagn.tensors.sources import BatchSource

NOVELTY_OBJECTS = 4096
"""Largest number of training objects that novelty is fitted to."""
EVALUATION_BATCH = 64
"""Objects of a batch in evaluation on a CPU. With twice as many, a layer of the small backbone takes nearly 32 MB;
glibc returns such blocks to the kernel each time, and a third of the time goes into new pages."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EvaluationSample:
    """The objects that a network is evaluated on.

    Attributes
    ----------
    source
        What batches of the objects are cut from, as the network takes them.
    target
        (object,) 1 positive, 0 negative.
    fold
        Rows that it was trained on; validation rows, to which calibration, threshold and the limit of novelty are
        fitted; and test rows.
    features, scaling, pos_weight
        Names of the features, their scaling, and the weight of the positive class in its loss.
    """

    source: BatchSource
    target: Floats
    fold: Fold
    features: Sequence[str]
    scaling: FeatureScaling
    pos_weight: float


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkEvaluation:
    """Output of a trained network on its sample, and what turns it into probabilities.

    Attributes
    ----------
    logits
        (object,) with all modalities; NaN in training rows where these were not requested.
    parts
        (object,) logits of each modality alone, by modality; NaN as above, and where an object lacks the modality.
    calibrations, novelty
        By subset of modalities, the widest first.
    importances, inputs
        Permutation importance of the features, and of the branches, on the test rows; empty without both classes,
        without features, and for a single branch.
    """

    logits: Floats
    parts: dict[str, Floats]
    calibrations: dict[Subset, SubsetCalibration]
    novelty: dict[Subset, Novelty]
    importances: list[Importance]
    inputs: list[Importance]

    def save(self, run: RunFolder) -> None:
        """Write calibrations, novelty and importances into the folder of the network's weights."""
        save_calibrations(run.calibration, self.calibrations)
        save_novelty(run.novelty, self.novelty)
        save_importances(run.importance, self.importances, self.inputs)


def network_evaluation(
    model: FusionModel, sample: EvaluationSample, config: EvaluationConfig, device: str, *, training_logits: bool = True
) -> NetworkEvaluation:
    """Return logits, calibration and novelty of every subset of modalities, and the importance of the inputs.

    The model is moved to the device and put into evaluation mode. With ``training_logits`` all training rows are
    evaluated, not only those that novelty is fitted to. ``ValueError`` where a logit is not finite.
    """
    train, validation, count = sample.fold.train, sample.fold.validation, len(sample.target)
    usual = train[:: max(1, -(-len(train) // NOVELTY_OBJECTS))]
    fitting = np.unique(np.concatenate([usual, validation]))
    every = np.arange(count) if training_logits else np.unique(np.concatenate([fitting, sample.fold.test]))
    origin = FeatureOrigin.of(sample.features, sample.scaling).to(device)
    widest, *narrower = known_subsets(model.branches, sample.features)
    logits: dict[Subset, Floats] = {}
    parts_of: dict[Subset, dict[str, Floats]] = {}
    calibrations: dict[Subset, SubsetCalibration] = {}
    novelty: dict[Subset, Novelty] = {}
    importances: list[Importance] = []
    inputs: list[Importance] = []
    for subset in (widest, *narrower):
        rows = every if subset == widest else fitting
        batches: Iterator[Batch] = sample.source.batches(rows, EVALUATION_BATCH)
        if subset != widest:
            batches = (shown_batch(_on_device(batch, device), subset, origin) for batch in batches)
        output = network_output(model, batches, device)
        values, embedding = output.arrays()
        logits[subset] = _placed(checked_logits(rows, values), rows, count)
        parts_of[subset] = {name: _placed(part, rows, count) for name, part in output.part_arrays().items()}
        fused = validation_calibration(
            sample.target[validation], logits[subset][validation], config, pos_weight=sample.pos_weight
        )
        alone = {name: part[validation] for name, part in parts_of[subset].items()}
        calibrations[subset] = replace(fused, parts=_part_calibrations(sample, alone, config))
        places = np.searchsorted(rows, usual), np.searchsorted(rows, validation)
        novelty[subset] = fitted_novelty(embedding[places[0]], embedding[places[1]], config.novelty_quantile)
        if subset == widest:
            of_test = embedding[np.searchsorted(rows, sample.fold.test)]
            importances = _importances(model, sample, of_test, config.seed)
            inputs = input_importances(model, sample.target[sample.fold.test], of_test, config.seed)
    return NetworkEvaluation(
        logits=logits[widest],
        parts=parts_of[widest],
        calibrations=calibrations,
        novelty=novelty,
        importances=importances,
        inputs=inputs,
    )


def _placed(values: Floats, rows: NDArray[np.int64], count: int) -> Floats:
    """(object,) values in their rows, NaN elsewhere."""
    placed = np.full(count, np.nan)
    placed[rows] = values
    return placed


def _part_calibrations(
    sample: EvaluationSample, alone: Mapping[str, Floats], config: EvaluationConfig
) -> dict[str, Calibration]:
    """Calibration of each modality alone on the validation rows that have it."""
    target = sample.target[sample.fold.validation]
    return {
        name: fitted_calibration(
            target[defined], logits[defined], pos_weight=sample.pos_weight, kind=config.calibration
        )
        for name, logits in alone.items()
        if (defined := np.isfinite(logits)).any()
    }


def _importances(
    model: FusionModel, sample: EvaluationSample, embedding: NDArray[np.float32], seed: int
) -> list[Importance]:
    """Importance of the features, which are the last columns of the head inputs (test row, embedding)."""
    target = sample.target[sample.fold.test]
    if "features" not in model.branches or not 0 < target.sum() < len(target):
        return []
    width = len(sample.features)
    others = torch.from_numpy(embedding[:, :-width])

    def logits(features: NDArray[np.float32]) -> Floats:
        return _fused_logits(model, torch.cat([others, torch.from_numpy(features)], dim=1))

    return permutation_importance(logits, embedding[:, -width:], target, sample.features, seed=seed)


def _fused_logits(model: FusionModel, embedding: Tensor) -> Floats:
    """(object,) fused logits from (object, embedding) head inputs of objects that have every modality."""
    logits = fused_logits(model.heads, embedding.to(next(model.parameters()).device))
    return np.asarray(logits.double().cpu().numpy())


def input_importances(
    model: FusionModel, target: Floats, embedding: NDArray[np.float32], seed: int
) -> list[Importance]:
    """Return the importance of each branch: its part of the head inputs (object, embedding) is permuted."""
    if len(model.branches) < 2 or not 0 < target.sum() < len(target):
        return []
    names = list(model.branches)
    blocks = np.split(embedding, np.cumsum(list(model.heads.widths.values()))[:-1], axis=1)

    def logits(rows: NDArray[np.float32]) -> Floats:
        chosen = [block[row] for block, row in zip(blocks, rows.astype(np.int64).T, strict=True)]
        return _fused_logits(model, torch.from_numpy(np.concatenate(chosen, axis=1)))

    rows = np.repeat(np.arange(len(target), dtype=np.float32)[:, None], len(names), axis=1)
    return permutation_importance(logits, rows, target, names, seed=seed)


def validation_calibration(
    target: Floats, logits: Floats, config: EvaluationConfig, *, pos_weight: float
) -> SubsetCalibration:
    """Return calibration and threshold fitted to (object,) targets and logits of validation objects."""
    calibration = fitted_calibration(target, logits, pos_weight=pos_weight, kind=config.calibration)
    threshold = best_threshold(target, calibration.probability(logits), config.threshold_metric)
    return SubsetCalibration(calibration=calibration, threshold=threshold)


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkOutput:
    """Output of a network for some objects, on the device where it was computed.

    Attributes
    ----------
    logits, embedding
        (object,) logits and (object, embedding) head inputs.
    parts, modalities
        (object, modality) logits of each modality alone, NaN where an object lacks it, and their names.
    """

    logits: Tensor
    embedding: Tensor
    parts: Tensor
    modalities: Sequence[str]

    def arrays(self) -> tuple[Floats, NDArray[np.float32]]:
        """Return logits and head inputs as arrays; waits for the device."""
        return self.logits.cpu().numpy().astype(np.float64), self.embedding.cpu().numpy()

    def part_arrays(self) -> dict[str, Floats]:
        """Return the (object,) logits of each modality alone; waits for the device."""
        return dict(zip(self.modalities, self.parts.cpu().numpy().astype(np.float64).T, strict=True))


def network_output(model: FusionModel, batches: Iterable[Batch], device: str) -> NetworkOutput:
    """Return the output of a network in the order of the batches.

    The model is moved to the device and put into evaluation mode. Half-precision input becomes single precision on
    the device. A GPU works on while this function returns.
    """
    model.to(device).eval()
    logits, embeddings = [torch.zeros(0, device=device)], [torch.zeros(0, 0, device=device)]
    parts = [torch.zeros(0, len(model.branches), device=device)]
    with torch.inference_mode():
        for batch in batches:
            inputs = _on_device(batch, device)
            embedding, present = model.embedding(inputs), model.present(inputs)
            result: Logits = model.heads(embedding, present)
            alone = torch.stack([result.parts.get(name, result.fused) for name in model.branches], dim=1)
            parts.append(alone.where(present, torch.nan))
            logits.append(result.fused)
            embeddings.append(embedding.float())
        return NetworkOutput(
            logits=torch.cat(logits[1:] or logits),
            embedding=torch.cat(embeddings[1:] or embeddings),
            parts=torch.cat(parts),
            modalities=model.branches,
        )


def _on_device(batch: Batch, device: str) -> dict[str, Tensor]:
    """Batch on a device, its half-precision values in single precision there."""
    moved = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
    return {name: value.float() if value.dtype == torch.float16 else value for name, value in moved.items()}


def checked_logits(index: NDArray[np.int64], logits: Floats) -> Floats:
    """Return the logits (object,) of the objects numbered ``index``; ``ValueError`` where one is not finite."""
    if wrong := np.flatnonzero(~np.isfinite(logits)).tolist():
        raise ValueError(f"the logit of object {index[wrong[0]]} is {logits[wrong[0]]}; the network has diverged")
    return logits

"""Networks of folds: fitted, those on features alone as one batch; evaluated as members; and their embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mmagn.ablation.inputs import FoldInputs
from mmagn.config.run_config import RunConfig
from mmagn.evaluation.folds import Fold
from mmagn.evaluation.network import EVALUATION_BATCH, checked_logits, network_evaluation, network_output
from mmagn.evaluation.variants import Variant
from mmagn.models.fusion import FusionModel
from mmagn.records import Floats
from mmagn.runs.members import evaluation_sample
from mmagn.runs.sample import network, training_pos_weight
from mmagn.storage.run_folder import RunFolder
from mmagn.tensors.datamodule import BatchPlan, PairDataModule
from mmagn.training.fold_fit import fold_fit
from mmagn.training.heads.fit import Member, many_fits, many_logits
from mmagn.training.heads.fusion import HeadsSettings, HeadsTask, fit_heads, heads_task
from mmagn.training.module import AgnModule
from mmagn.training.side_by_side import side_by_side
from mmagn.training.weights import load_weights, save_weights

FITS_ON_A_GPU = 8
"""Networks that are fitted on a GPU at the same time: as many as it has queues for."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedNetwork:
    """A network of a fold.

    Attributes
    ----------
    model
        The network with the weights of its best epoch.
    logits
        (object,) of validation and test rows; those of training rows are undefined.
    """

    model: FusionModel
    logits: Floats


class FoldNetworks:
    """Fits networks to folds of one sample.

    Parameters
    ----------
    inputs
        What the fits are made from.
    """

    def __init__(self, inputs: FoldInputs) -> None:
        self.inputs, self.device = inputs, inputs.device

    def pos_weight(self, fold: Fold) -> float:
        """Weight of the positive class: the one given, or negatives over positives of the training rows."""
        return training_pos_weight(self.inputs.config, self.inputs.sample, fold.train)

    def fitted(self, variant: Variant, folds: Sequence[Fold]) -> list[FittedNetwork]:
        """Networks of some folds: one after another, side by side on a GPU, or as one batch on features alone."""
        config = self.inputs.variant_config(variant)
        if config.models.branches == ("features",):
            return self._heads(config, folds)
        fits = [partial(self._branches, replace(config, seed=fold.seed), fold) for fold in folds]
        several = self.device == "cuda" and len(fits) > 1
        networks = side_by_side(fits, FITS_ON_A_GPU) if several else [fit() for fit in fits]
        if tasks := [task for _, task in networks if task is not None]:
            fit_heads(tasks)
        return [self._predicted(config, fold, model) for fold, (model, _) in zip(folds, networks, strict=True)]

    def _branches(self, config: RunConfig, fold: Fold) -> tuple[FusionModel, HeadsTask | None]:
        """Network of a fold with trained branches, and what its heads are to be fitted to."""
        tensors, weight = self.inputs.tensors(config, fold), self.pos_weight(fold)
        model = self.inputs.network(config, fold)
        origin = self.inputs.origin(config, fold)
        plan = BatchPlan(
            batch_size=config.training.batch_size,
            augment=config.tensors.augment,
            seed=fold.seed,
            workers=0,
            stream=1,
        )
        model.to(memory_format=torch.channels_last)  # on CPUs too: an image backbone trains 1.6 times as fast
        fold_fit(
            AgnModule(model, config.training, weight, fold.seed),
            PairDataModule(tensors, split_names(fold, len(tensors)), plan),
        )
        settings = HeadsSettings(config=config.training, origin=origin, pos_weight=weight, seed=fold.seed)
        return model, heads_task(model, tensors, (fold.train, fold.validation), settings)

    def _predicted(self, config: RunConfig, fold: Fold, model: FusionModel) -> FittedNetwork:
        """Network of a fold with its logits."""
        tensors = self.inputs.tensors(config, fold)
        rows = np.concatenate([fold.validation, fold.test])
        output = network_output(model, tensors.batches(rows, EVALUATION_BATCH), self.device)
        logits = np.full(len(tensors), np.nan)
        logits[rows] = checked_logits(rows, output.arrays()[0])
        return FittedNetwork(model=model, logits=logits)

    def _heads(self, config: RunConfig, folds: Sequence[Fold]) -> list[FittedNetwork]:
        views = np.stack([self.inputs.scaled(config, fold)[1] for fold in folds])
        target = np.stack([self.inputs.target(fold) for fold in folds])
        members = [
            Member(
                train=fold.train,
                validation=fold.validation,
                pos_weight=self.pos_weight(fold),
                seed=fold.seed,
                view=view,
            )
            for view, fold in enumerate(folds)
        ]
        models = [network(replace(config, seed=fold.seed)) for fold in folds]
        heads, inputs = [model.heads.head for model in models], torch.from_numpy(views).to(self.device)
        many_fits(heads, inputs, torch.from_numpy(target).to(self.device), members, config.training)
        logits = many_logits(heads, inputs, range(len(folds))).double().cpu().numpy()
        rows = np.arange(logits.shape[1])
        return [
            FittedNetwork(model=model, logits=checked_logits(rows, row))
            for model, row in zip(models, logits, strict=True)
        ]

    def save(self, model: FusionModel, variant: Variant, fold: Fold, folder: Path) -> None:
        """Write weights and scaling of a network into a folder."""
        folder.mkdir(exist_ok=True)
        scaling, _ = self.inputs.scaled(self.inputs.variant_config(variant), fold)
        scaling.save(RunFolder(folder).scaling)
        save_weights(model.state_dict(), RunFolder(folder).weights)

    def load(self, variant: Variant, folder: Path) -> FusionModel:
        """Network with the weights of a folder."""
        model = network(self.inputs.variant_config(variant))
        load_weights(model, RunFolder(folder).weights)
        return model

    def evaluate(self, variant: Variant, fold: Fold, folder: Path) -> None:
        """Write calibration and novelty of every subset of modalities into the folder of the weights of a network."""
        config = self.inputs.variant_config(variant)
        tensors, scaling = self.inputs.tensors(config, fold), self.inputs.scaled(config, fold)[0]
        sample = evaluation_sample(config, self.inputs.sample, fold, tensors, scaling, self.pos_weight(fold))
        model = self.load(variant, folder)
        network_evaluation(model, sample, config.evaluation, self.device, training_logits=False).save(RunFolder(folder))

    def embedding(self, variant: Variant, fold: Fold, folder: Path) -> NDArray[np.float32]:
        """(object, embedding) what the head of the network in a folder sees of all objects."""
        tensors = self.inputs.tensors(self.inputs.variant_config(variant), fold)
        batches = tensors.batches(np.arange(len(tensors)), EVALUATION_BATCH)
        return network_output(self.load(variant, folder), batches, self.device).arrays()[1]


def split_names(fold: Fold, objects: int) -> NDArray[np.str_]:
    """(object,) split that each object belongs to in a fold; objects of no split are in ``test``."""
    names = np.full(objects, "test", dtype="<U10")
    names[fold.train], names[fold.validation] = "train", "validation"
    return names

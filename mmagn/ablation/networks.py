"""Networks of folds: fitted, those on features alone as one batch; judged as members; and what their heads see."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mmagn.ablation.inputs import FoldInputs
from mmagn.config.run_config import RunConfig
from mmagn.evaluation.crossval import Fold
from mmagn.evaluation.judging import JUDGED_AT_ONCE, JudgedSample, embedded, judged
from mmagn.evaluation.logits import checked_logits, predicted_logits
from mmagn.evaluation.variants import Variant
from mmagn.models.fusion import FusionModel
from mmagn.records import Floats
from mmagn.runs.members import SCALING_FILE, WEIGHTS_FILE
from mmagn.runs.sample import network
from mmagn.tensors.augment import augment_batch
from mmagn.tensors.batches import BatchLoader, OrderedBatches
from mmagn.tensors.missing import FeatureOrigin, narrow_views
from mmagn.training.crossval_fit import short_fit
from mmagn.training.heads.fit import Member, many_fits, many_logits
from mmagn.training.heads.warm_start import features_first
from mmagn.training.losses import pos_weight
from mmagn.training.weights import load_weights, save_weights


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedNetwork:
    """A network of a fold.

    Attributes
    ----------
    model
        The network with the weights of its best epoch.
    logits
        (object,) of validation and test rows; what stands in training rows is not to be used.
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
        given = self.inputs.config.training.pos_weight
        return pos_weight(self.inputs.target(fold)[fold.train]) if given is None else given

    def fitted(self, variant: Variant, folds: Sequence[Fold]) -> list[FittedNetwork]:
        """Networks of some folds: one after another, or as one batch where they see the features alone."""
        config = self.inputs.variant_config(variant)
        if config.models.branches == ("features",):
            return self._heads(config, folds)
        return [self._network(replace(config, seed=fold.seed), fold) for fold in folds]

    def _network(self, config: RunConfig, fold: Fold) -> FittedNetwork:
        tensors = self.inputs.tensors(config, fold)
        model = network(config)
        origin = FeatureOrigin.of(config.tensors.features, self.inputs.scaled(config, fold)[0]).to(self.device)
        features_first(
            model,
            tensors,
            fold.train,
            fold.validation,
            config.training,
            pos_weight=self.pos_weight(fold),
            seed=fold.seed,
        )
        short_fit(
            model,
            tensors.batch,
            torch.from_numpy(fold.train),
            torch.from_numpy(fold.validation),
            config.training,
            pos_weight=self.pos_weight(fold),
            seed=fold.seed,
            augment=lambda batch, draws: augment_batch(
                batch, config.tensors.augment, draws, softening=tensors.softening, origin=origin
            ),
            views=narrow_views(config.tensors.augment, config.models.branches, origin),
        )
        asked = torch.from_numpy(np.concatenate([fold.validation, fold.test]))
        loader = BatchLoader(tensors.batch, OrderedBatches(asked, JUDGED_AT_ONCE))
        logits = np.full(len(tensors), np.nan)
        rows, found = predicted_logits(model, loader, self.device)
        logits[rows] = found
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
                config=config.training,
                view=view,
            )
            for view, fold in enumerate(folds)
        ]
        models = [network(replace(config, seed=fold.seed)) for fold in folds]
        heads, inputs = [model.head for model in models], torch.from_numpy(views).to(self.device)
        many_fits(heads, inputs, torch.from_numpy(target).to(self.device), members)
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
        scaling.save(folder / SCALING_FILE)
        save_weights(model.state_dict(), folder / WEIGHTS_FILE)

    def load(self, variant: Variant, folder: Path) -> FusionModel:
        """Network with the weights of a folder."""
        model = network(self.inputs.variant_config(variant))
        load_weights(model, folder / WEIGHTS_FILE)
        return model

    def judge(self, variant: Variant, fold: Fold, folder: Path) -> None:
        """Write calibration and novelty of every subset of modalities beside the weights of a network."""
        config = self.inputs.variant_config(variant)
        sample = JudgedSample(
            batch_of=self.inputs.tensors(config, fold).batch,
            target=self.inputs.sample.target,
            train=fold.train,
            validation=fold.validation,
            features=config.tensors.features,
            origin=FeatureOrigin.of(config.tensors.features, self.inputs.scaled(config, fold)[0]),
        )
        found = judged(
            self.load(variant, folder),
            sample,
            config.evaluation,
            pos_weight=self.pos_weight(fold),
            device=self.device,
            wanted=fold.test,
        )
        found.save(folder)

    def embedding(self, variant: Variant, fold: Fold, folder: Path) -> NDArray[np.float32]:
        """(object, embedding) what the head of the network in a folder sees of all objects."""
        tensors = self.inputs.tensors(self.inputs.variant_config(variant), fold)
        batches = OrderedBatches(torch.arange(len(tensors)), JUDGED_AT_ONCE).batches()
        return embedded(self.load(variant, folder), map(tensors.batch, batches), self.device)[1]

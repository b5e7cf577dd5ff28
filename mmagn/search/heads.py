"""Scores of settings of the head, on embeddings of branches that are fitted once per fold."""

import logging
import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor

from mmagn.ablation.fits import FoldFits
from mmagn.config.run_config import RunConfig
from mmagn.evaluation.folds import Fold
from mmagn.models.heads import FusionHeads, fused_logits
from mmagn.search.folds import own_variant
from mmagn.tensors.residency import vector_columns
from mmagn.training.heads.fusion import HeadsSettings, HeadsTask, fit_heads
from mmagn.workers import one_thread

logger = logging.getLogger(__name__)


class HeadScores:
    """Scores of settings with which only the head is fitted.

    The branches are those of a network that is fitted once to the training rows of each inner fold with the other
    settings of the run, and cached on disk.
    """

    def __init__(self, fits: FoldFits, folds: Sequence[Fold]) -> None:
        self.folds, self.truth = folds, fits.sample.target
        device = fits.inputs.device
        started = time.monotonic()
        self.embeddings = fold_embeddings(fits, folds).to(device)
        logger.info("embeddings of %d folds: %.1f s", len(folds), time.monotonic() - started)
        self.target = torch.from_numpy(np.stack([fits.inputs.target(fold) for fold in folds])).to(device)
        self.pos_weight = [fits.networks.pos_weight(fold) for fold in folds]
        self.heads = [fold_heads(fits, fold) for fold in folds]
        self.origins = [fits.inputs.origin(fits.config, fold) for fold in folds]
        self.present = _present(fits, list(self.heads[0].widths), device)

    def __call__(self, config: RunConfig) -> Iterator[float]:
        """Average precision on the test objects of one inner fold after another; all but the first are one batch."""
        yield from self._scores(config, range(1))
        yield from self._scores(config, range(1, len(self.folds)))

    def _scores(self, config: RunConfig, numbers: Sequence[int]) -> list[float]:
        tasks = [self._task(config, number) for number in numbers]
        with one_thread():
            fit_heads(tasks)
            logits = [fused_logits(task.heads, task.embedding, task.present).cpu().numpy() for task in tasks]
        tests = [self.folds[number].test for number in numbers]
        return [
            float(average_precision_score(self.truth[test], row[test])) for row, test in zip(logits, tests, strict=True)
        ]

    def _task(self, config: RunConfig, number: int) -> HeadsTask:
        """Heads with the searched settings for the branches of a fold, whose own auxiliary heads are kept."""
        fold, fitted = self.folds[number], self.heads[number]
        torch.manual_seed(fold.seed)
        heads = FusionHeads(fitted.widths, config.models)
        for name, auxiliary in heads.auxiliary.items():
            if name != "features":
                auxiliary.load_state_dict(fitted.auxiliary[name].state_dict())
        return HeadsTask(
            heads=heads.to(self.embeddings.device),
            embedding=self.embeddings[number],
            present=self.present,
            target=self.target[number],
            train=fold.train,
            validation=fold.validation,
            settings=HeadsSettings(
                config=config.training,
                origin=self.origins[number],
                pos_weight=self.pos_weight[number],
                seed=fold.seed,
            ),
        )


def _present(fits: FoldFits, names: Sequence[str], device: str) -> Tensor:
    """(object, modality) which modalities an object has."""
    every = torch.ones(len(fits.sample.target), dtype=torch.bool)
    valid = {"features": fits.sample.features_valid(fits.config)}
    if "embedding" in names and fits.inputs.vectors is not None:
        valid["embedding"] = vector_columns(fits.inputs.vectors)["embedding_valid"]
    flags = [valid.get(name) for name in names]
    return torch.stack([every if flag is None else flag for flag in flags], dim=1).to(device)


def fold_embeddings(fits: FoldFits, folds: Sequence[Fold]) -> Tensor:
    """Return head inputs (fold, object, embedding) of all objects from the network of each fold."""
    config = fits.config
    if config.models.branches == ("features",):
        return torch.from_numpy(np.stack([fits.inputs.scaled(config, fold)[1] for fold in folds]))
    variant = own_variant(config)
    fits.make([variant], folds, config.ablation.workers)
    return torch.from_numpy(np.stack([fits.embedding(variant, fold) for fold in folds]))


def fold_heads(fits: FoldFits, fold: Fold) -> FusionHeads:
    """Return the heads of the network of a fold; fresh ones where it has features alone."""
    config = fits.config
    if config.models.branches == ("features",):
        return FusionHeads({"features": len(config.tensors.features)}, config.models)
    return fits.heads(own_variant(config), fold)

"""Scores of settings of the head, on embeddings of branches that are fitted once per fold."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor, nn

from mmagn.ablation.fits import FoldFits
from mmagn.config.run_config import RunConfig
from mmagn.evaluation.folds import Fold
from mmagn.models.fusion import FusionModel
from mmagn.search.folds import own_variant
from mmagn.tensors.spectrum import spectrum_pixels
from mmagn.training.heads.fit import Member, many_fits, many_logits
from mmagn.workers import one_thread

logger = logging.getLogger(__name__)


class HeadScores:
    """Scores of settings with which only the head is fitted.

    The branches are those of a network that is fitted once to the training rows of each fold with the other settings
    of the run, and cached on disk.

    Parameters
    ----------
    fits, folds
        Fits of the run on the objects of the search, and inner folds.
    """

    def __init__(self, fits: FoldFits, folds: Sequence[Fold]) -> None:
        self.folds, self.truth = folds, fits.sample.target
        device = fits.inputs.device
        started = time.monotonic()
        self.embeddings = fold_embeddings(fits, folds).to(device)
        logger.info("embeddings of %d folds: %.1f s", len(folds), time.monotonic() - started)
        self.target = torch.from_numpy(np.stack([fits.inputs.target(fold) for fold in folds])).to(device)
        self.pos_weight = [fits.networks.pos_weight(fold) for fold in folds]

    def __call__(self, config: RunConfig) -> Iterator[float]:
        """Average precision on the test objects of one inner fold after another; all but the first are one batch."""
        yield from self._scores(config, range(1))
        yield from self._scores(config, range(1, len(self.folds)))

    def _scores(self, config: RunConfig, numbers: Sequence[int]) -> list[float]:
        members = [
            Member(
                train=self.folds[number].train,
                validation=self.folds[number].validation,
                pos_weight=self.pos_weight[number],
                seed=self.folds[number].seed,
                config=config.training,
                view=number,
            )
            for number in numbers
        ]
        with one_thread():
            heads = [self._head(config, member.seed) for member in members]
            many_fits(heads, self.embeddings, self.target, members)
            logits = many_logits(heads, self.embeddings, numbers).cpu().numpy()
        tested = [self.folds[number].test for number in numbers]
        return [
            float(average_precision_score(self.truth[test], row[test]))
            for row, test in zip(logits, tested, strict=True)
        ]

    def _head(self, config: RunConfig, seed: int) -> nn.Sequential:
        torch.manual_seed(seed)
        models, width = replace(config.models, branches=("features",)), self.embeddings.shape[-1]
        return FusionModel(models, spectrum_pixels=spectrum_pixels(config.tensors), features=width).head


def fold_embeddings(fits: FoldFits, folds: Sequence[Fold]) -> Tensor:
    """Return head inputs (fold, object, embedding) of all objects from the network of each fold."""
    config = fits.config
    if config.models.branches == ("features",):
        return torch.from_numpy(np.stack([fits.inputs.scaled(config, fold)[1] for fold in folds]))
    variant = own_variant(config)
    fits.make([variant], folds, config.ablation.workers)
    return torch.from_numpy(np.stack([fits.embedding(variant, fold) for fold in folds]))

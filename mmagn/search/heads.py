"""What settings of the head are worth, on embeddings of branches that were fitted once per fold."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from sklearn.metrics import average_precision_score
from torch import Tensor, nn

from mmagn.config import RunConfig
from mmagn.evaluation.crossval import Fold
from mmagn.models.fusion import FusionModel
from mmagn.sample import Sample, training_target
from mmagn.tensors.spectrum import spectrum_pixels
from mmagn.training.losses import pos_weight
from mmagn.training.many_fits import Member, many_fits, many_logits


class HeadScores:
    """What settings are worth when only the head is fitted with them.

    Parameters
    ----------
    sample
        Objects that the search may see.
    folds
        Inner folds.
    embeddings
        (fold, object, embedding) what the head sees, from branches that were fitted to the training rows of the fold.
    """

    def __init__(self, sample: Sample, folds: Sequence[Fold], embeddings: Tensor) -> None:
        self.sample, self.folds, self.embeddings = sample, folds, embeddings

    def __call__(self, config: RunConfig) -> Iterator[float]:
        """Average precision on the test objects of one inner fold after another; all but the first are one batch."""
        together = [range(1), range(1, len(self.folds))]
        alone = [range(number, number + 1) for number in range(len(self.folds))]
        for numbers in alone if config.labels.soft else together:
            yield from self._scores(config, numbers)

    def _scores(self, config: RunConfig, numbers: Sequence[int]) -> list[float]:
        shown = training_target(config, self.sample, self.folds[numbers[0]].train)
        members = [self._member(config, number) for number in numbers]
        heads = [self._head(config, member.seed) for member in members]
        target = torch.as_tensor(shown, dtype=torch.float32, device=self.embeddings.device)
        many_fits(heads, self.embeddings, target, members)
        logits = many_logits(heads, self.embeddings, numbers).cpu().numpy()
        tested = [self.folds[number].test for number in numbers]
        return [
            float(average_precision_score(self.sample.target[test], row[test]))
            for row, test in zip(logits, tested, strict=True)
        ]

    def _member(self, config: RunConfig, number: int) -> Member:
        fold, given = self.folds[number], config.training.pos_weight
        shown = training_target(config, self.sample, fold.train)
        return Member(
            train=fold.train,
            validation=fold.validation,
            pos_weight=pos_weight(shown[fold.train]) if given is None else given,
            seed=fold.seed,
            config=config.training,
            view=number,
        )

    def _head(self, config: RunConfig, seed: int) -> nn.Sequential:
        torch.manual_seed(seed)
        models = replace(config.models, branches=("features",))
        width = self.embeddings.shape[-1]
        return FusionModel(models, spectrum_pixels=spectrum_pixels(config.tensors), features=width).head

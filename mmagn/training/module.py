"""The LightningModule: any network from batch to logits, its loss, its optimiser and its scores."""

import logging
from collections.abc import Mapping
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import (
    BinaryAUROC,
    BinaryAveragePrecision,
    BinaryPrecision,
    BinaryRecall,
    BinaryStatScores,
)

from mmagn.training.config import TrainingConfig
from mmagn.training.losses import weighted_bce

Batch = Mapping[str, Tensor]

SELECTION = "selection/score"
"""What early stop and best checkpoint maximise; see :meth:`AgnModule.on_train_epoch_end`."""

logger = logging.getLogger(__name__)


def step_seed(seed: int, epoch: int, batch_index: int, rank: int) -> int:
    """Seed of all random numbers of one training step, different for every step, device and run."""
    return int(np.random.SeedSequence((seed, epoch, batch_index, rank)).generate_state(1, np.uint64)[0])


class EpochScores(nn.Module):
    """Loss and scores over one epoch, gathered on the device without waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = MeanMetric(nan_strategy="disable")
        self.counts = BinaryStatScores(validate_args=False)
        self.scores = MetricCollection(
            {
                "average_precision": BinaryAveragePrecision(validate_args=False),
                "roc_auc": BinaryAUROC(validate_args=False),
                "recall": BinaryRecall(validate_args=False),
                "precision": BinaryPrecision(validate_args=False),
            }
        )

    def update(self, losses: Tensor, logits: Tensor, target: Tensor) -> None:
        """Add a batch: (batch,) losses, logits and targets."""
        probability = logits.detach().sigmoid()
        truth = (target >= 0.5).int()  # soft targets count as the likelier class
        self.loss.update(losses.detach())
        self.counts.update(probability, truth)
        self.scores.update(probability, truth)

    def compute(self) -> dict[str, Tensor]:
        """Return the scores by name and start anew; only ``loss`` where one class was absent."""
        true_positive, false_positive, true_negative, false_negative, _ = self.counts.compute().tolist()
        values = {"loss": self.loss.compute()}
        if true_positive + false_negative and true_negative + false_positive:
            values |= self.scores.compute()
        for metric in (self.loss, self.counts, self.scores):
            metric.reset()
        return values


class AgnModule(lightning.LightningModule):
    """A network with its loss, its optimiser and its scores.

    All random numbers of a training step come from (seed, epoch, batch index): a run that was interrupted
    and resumed draws what an uninterrupted one draws, and no random state needs to be saved.

    Parameters
    ----------
    model
        Network from a batch to (batch,) logits.
    config
        Settings of the optimisation.
    pos_weight
        Weight of the positive class in the loss.
    seed
        Seed of the random numbers of training.
    """

    pos_weight: Tensor
    gradient_norm: Tensor
    """() norm of the latest gradient before clipping."""

    def __init__(self, model: nn.Module, config: TrainingConfig, pos_weight: float, seed: int) -> None:
        super().__init__()
        if seed < 0:
            raise ValueError(f"seed is {seed}; allowed: 0 or more")
        self.model = model
        self.config = config
        self.seed = seed
        self.register_buffer("pos_weight", torch.tensor(float(pos_weight)))
        self.train_scores = EpochScores()
        self.validation_scores = EpochScores()
        self._validation: dict[str, Tensor] = {}
        self._told_selection = False

    def forward(self, batch: Batch) -> Tensor:
        """Return the (batch,) logits as float32, whatever precision the network ran in."""
        logits: Tensor = self.model(batch)
        return logits.float()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam with the configured learning rate and weight decay."""
        return torch.optim.Adam(self.parameters(), lr=self.config.learning_rate, weight_decay=self.config.weight_decay)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the mean loss of a batch."""
        torch.manual_seed(step_seed(self.seed, self.current_epoch, batch_idx, self.global_rank))
        losses, _ = self._losses(batch, self.train_scores)
        loss = losses.mean()
        self.log("train/loss_step", loss.detach(), on_step=True, on_epoch=False, batch_size=len(losses))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:  # noqa: ARG002 Lightning passes it
        """Return the (batch,) ``logits`` and ``target`` of a batch."""
        _, logits = self._losses(batch, self.validation_scores)
        return {"logits": logits, "target": batch["target"]}

    def _losses(self, batch: Batch, scores: EpochScores) -> tuple[Tensor, Tensor]:
        logits, target = self(batch), batch["target"]
        losses = weighted_bce(logits, target, self.pos_weight)
        scores.update(losses, logits, target)
        return losses, logits

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:  # noqa: ARG002
        """Clip the gradient to ``config.gradient_clip`` and keep its norm."""
        largest = self.config.gradient_clip or float("inf")
        self.gradient_norm = nn.utils.clip_grad_norm_(self.parameters(), largest).detach()
        self.log("train/gradient_norm", self.gradient_norm, on_step=True, on_epoch=False)

    def on_validation_epoch_end(self) -> None:
        """Log the validation scores."""
        self._validation = self.validation_scores.compute()
        self.log_dict({f"validation/{name}": value for name, value in self._validation.items()})

    def on_train_epoch_end(self) -> None:
        """Log the training scores, the learning rate and the score that selects the best epoch.

        That score is the validation average precision. Where the validation split lacks a class it is undefined
        and minus the validation loss takes its place; where there is no validation split, minus the training loss.
        """
        train = self.train_scores.compute()
        self.log_dict({f"train/{name}": value for name, value in train.items()})
        self.log("train/learning_rate", float(self.optimizers().param_groups[0]["lr"]))  # type: ignore[union-attr]
        if "average_precision" in self._validation:
            score = self._validation["average_precision"]
        else:
            score = -self._validation.get("loss", train["loss"])
            self._tell_selection("validation" if self._validation else "training")
        self.log(SELECTION, score)

    def _tell_selection(self, split: str) -> None:
        if not self._told_selection:
            reason = "lacks a class" if self._validation else "is empty"
            logger.warning(
                "the validation split %s, so that its average precision is undefined:"
                " early stop and best checkpoint follow the %s loss instead",
                reason,
                split,
            )
        self._told_selection = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write the seed into the checkpoint."""
        checkpoint["seed"] = self.seed

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to go on with another seed or another network.

        Raises
        ------
        ValueError
            With what differs.
        """
        if checkpoint.get("seed") != self.seed:
            raise ValueError(
                f"the checkpoint was trained with seed {checkpoint.get('seed')}, not {self.seed};"
                " resume with the seed of the run"
            )
        if difference := state_difference(checkpoint["state_dict"], self.state_dict()):
            raise ValueError(f"the checkpoint holds another network: {difference}")


def state_difference(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """Return one phrase that names how two state dicts differ in names and shapes; "" where they agree."""
    phrases = []
    if missing := [name for name in wanted if name not in found]:
        phrases.append(f"{len(missing)} of the wanted weights are missing, such as {missing[0]}")
    if extra := [name for name in found if name not in wanted]:
        phrases.append(f"{len(extra)} weights are not wanted, such as {extra[0]}")
    shapes = [name for name in wanted if name in found and found[name].shape != wanted[name].shape]
    if shapes:
        name = shapes[0]
        phrases.append(f"{name} has shape {tuple(found[name].shape)}, wanted {tuple(wanted[name].shape)}")
    return "; ".join(phrases)

"""The LightningModule: any network from batch to logits, its loss, its optimiser and its scores."""

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from mmagn.tensors.batches import Batch
from mmagn.training.config import TrainingConfig
from mmagn.training.epoch_scores import EpochScores
from mmagn.training.losses import weighted_bce
from mmagn.training.optimiser import optimiser, schedule

NarrowViews = Mapping[str, Callable[[Batch], Batch]]
"""What else a network is asked about in validation, by name: each makes a narrower batch of a whole one."""

SELECTION = "selection/score"
"""What early stop and best checkpoint maximise; see :meth:`AgnModule.on_train_epoch_end`."""

logger = logging.getLogger(__name__)


def step_seed(seed: int, epoch: int, batch_index: int, rank: int) -> int:
    """Seed of all random numbers of one training step, different for every step, device and run."""
    return int(np.random.SeedSequence((seed, epoch, batch_index, rank)).generate_state(1, np.uint64)[0])


class AgnModule(lightning.LightningModule):
    """A network with its loss, its optimiser and its scores.

    All random numbers of a training step come from (seed, epoch, batch index): a run that was interrupted
    and resumed draws what an uninterrupted one draws, whatever random state it starts from.

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
    views
        What validation asks about besides whole batches; the best epoch is the best on average over all of it.
    """

    pos_weight: Tensor
    gradient_norm: Tensor
    """() norm of the latest gradient before clipping."""
    branch_norms: dict[str, Tensor]
    """() norm of the latest gradient that was logged, for each part of the network by its name."""

    def __init__(
        self,
        model: nn.Module,
        config: TrainingConfig,
        pos_weight: float,
        seed: int,
        views: NarrowViews | None = None,
    ) -> None:
        super().__init__()
        if seed < 0:
            raise ValueError(f"seed is {seed}; allowed: 0 or more")
        self.model = model
        self.config = config
        self.seed = seed
        self.register_buffer("pos_weight", torch.tensor(float(pos_weight)))
        self.train_scores = EpochScores()
        self.validation_scores = EpochScores()
        self.views = dict(views or {})
        self.view_scores = nn.ModuleDict({name: EpochScores() for name in self.views})
        self.branch_norms = {}
        self._compiled: Callable[[Batch], Tensor] | None = None
        self._validation: dict[str, Tensor] = {}
        self._selection: Tensor | None = None
        self._told_selection = False

    def forward(self, batch: Batch) -> Tensor:
        """Return the (batch,) logits as float32, whatever precision the network ran in."""
        if self._compiled is not None:
            try:
                return self._compiled(batch).float()
            except TorchDynamoException as error:
                self._tell_uncompiled(error)
        logits: Tensor = self.model(batch)
        return logits.float()

    def on_fit_start(self) -> None:
        """Lay out the images as the device likes them best and compile the network where that is asked for."""
        self.gradient_norm = torch.zeros((), device=self.device)
        if self.device.type == "cuda":
            self.model.to(memory_format=torch.channels_last)
        if self.config.compile:
            try:
                self._compiled = torch.compile(lambda batch: self.model(batch))
            except RuntimeError as error:
                self._tell_uncompiled(error)

    def _tell_uncompiled(self, error: Exception) -> None:
        self._compiled = None
        reason = str(error).strip().partition("\n")[0]
        logger.warning("training.compile: the network cannot be compiled and is trained as it is: %s", reason)

    def configure_optimizers(self) -> Any:
        """Return the optimiser, with the course of its learning rate where that is not constant."""
        adam = optimiser(self.model, self.config)
        if self.config.schedule == "constant" and not self.config.warmup_epochs:
            return adam
        batches = len(self.trainer.datamodule.train_dataloader())  # type: ignore[attr-defined]
        rates = schedule(adam, self.config, math.ceil(batches / self.config.accumulate))
        return {"optimizer": adam, "lr_scheduler": {"scheduler": rates, "interval": "step"}}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the mean loss of a batch; times the ``share`` of this process where several share the batch."""
        torch.manual_seed(step_seed(self.seed, self.current_epoch, batch_idx, self.global_rank))
        losses, _ = self._losses(batch, self.train_scores)
        return losses.mean() * batch["share"] if "share" in batch else losses.mean()

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:  # noqa: ARG002 Lightning passes it
        """Return the (batch,) ``logits`` and ``target`` of a batch."""
        _, logits = self._losses(batch, self.validation_scores)
        for name, view in self.views.items():
            self._losses(view(batch), cast("EpochScores", self.view_scores[name]))
        return {"logits": logits, "target": batch["target"]}

    def _losses(self, batch: Batch, scores: EpochScores) -> tuple[Tensor, Tensor]:
        logits, target = self(batch), batch["target"]
        losses = weighted_bce(logits, target, self.pos_weight)
        scores.update(losses, logits, target)
        return losses, logits

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:  # noqa: ARG002
        """Clip the gradient to ``config.gradient_clip`` and keep its norm, and each branch's where it is logged."""
        if (self.global_step + 1) % self.config.log_every == 0:
            self.branch_norms = {name: gradient_norm(part) for name, part in self.model.named_children()}
        largest = self.config.gradient_clip or float("inf")
        self.gradient_norm = nn.utils.clip_grad_norm_(self.parameters(), largest).detach()

    def on_validation_epoch_start(self) -> None:
        """Start the scores of the views anew."""
        for scores in self.view_scores.values():
            cast("EpochScores", scores).reset()

    def on_validation_epoch_end(self) -> None:
        """Log the validation scores."""
        self._validation = self.validation_scores.compute()
        self.validation_scores.reset()
        self.log_dict({f"validation/{name}": value for name, value in self._validation.items()})
        self._selection = self._validation.get("average_precision")
        if self._selection is None or not self.views:
            return
        narrow = {}
        for name in self.views:
            scores = cast("EpochScores", self.view_scores[name])
            narrow[f"validation/average_precision_{name}"] = scores.compute()["average_precision"]
        self.log_dict(narrow)
        self._selection = torch.stack([self._selection, *narrow.values()]).mean()

    def on_train_epoch_end(self) -> None:
        """Log the training scores, the learning rate and the score that selects the best epoch.

        That score is the validation average precision, on average over whole batches and all views. Where the
        validation split lacks a class it is undefined and minus the validation loss takes its place; where there is no
        validation split, minus the training loss.
        """
        train = self.train_scores.compute()
        self.train_scores.reset()
        self.log_dict({f"train/{name}": value for name, value in train.items()})
        groups = self.trainer.optimizers[0].param_groups
        self.log("train/learning_rate", max(float(group["lr"]) for group in groups))
        if self._selection is not None:
            score = self._selection
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
        """Write the seed and the scores of an epoch that has begun into the checkpoint."""
        checkpoint["seed"] = self.seed
        checkpoint["train_scores"] = self.train_scores.gathered()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the scores of an epoch that had begun; refuse to go on with another seed or another network.

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
        if self.global_rank == 0:  # what was gathered is of all devices
            self.train_scores.take_up(checkpoint.get("train_scores", {}))


def gradient_norm(part: nn.Module) -> Tensor:
    """() norm of the gradient of a part of a network; 0 where none of its parameters has one."""
    norms = [parameter.grad.norm() for parameter in part.parameters() if parameter.grad is not None]
    return torch.stack(norms).norm() if norms else torch.zeros(())


def first_pairs(batch: Batch, count: int) -> dict[str, Tensor]:
    """Batch of the first pairs of a batch."""
    return {name: value[:count] if value.ndim else value for name, value in batch.items()}


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

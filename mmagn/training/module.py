"""The LightningModule: any network from batch to logits, its loss, its optimiser and its scores."""

import logging
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, cast, runtime_checkable

import lightning
import torch
from torch import Tensor, nn

from mmagn.tensors.batches import Batch, seed_of
from mmagn.training.best_branches import BestBranches
from mmagn.training.captured import CapturedFunction, CudaGraphs, Outputs
from mmagn.training.config import TrainingConfig
from mmagn.training.device import autocast
from mmagn.training.epoch_scores import EpochScores
from mmagn.training.losses import weighted_bce
from mmagn.training.optimiser import LearningRates, clipped_gradients, learning_rate_factor, optimiser

SELECTION = "selection/score"
"""What early stop and best checkpoint maximise; see :meth:`AgnModule.on_train_epoch_end`."""

logger = logging.getLogger(__name__)


@runtime_checkable
class AugmentingData(Protocol):
    """Data whose training batches are completed on the device, within the step."""

    def training_batch(
        self, batch: Batch, generator: torch.Generator | None, *, without: Collection[str]
    ) -> dict[str, Tensor]:
        """Batch as the network is trained on it, all random numbers from a generator or that of the device."""
        ...

    def augmentation_seed(self, epoch: int, step: int) -> int:
        """Seed of the random numbers of a step on the CPU."""
        ...


@runtime_checkable
class BranchedModel(Protocol):
    """A network whose branches learn through logits of their own."""

    def branch_logits(self, batch: Batch, names: Collection[str]) -> dict[str, Tensor]:
        """(batch,) logits of the named branches."""
        ...

    def branch_modules(self) -> dict[str, tuple[str, ...]]:
        """Names of the modules that learn through the logits of each branch."""
        ...


class AgnModule(lightning.LightningModule):
    """A network from a batch to (batch,) logits, with its loss, its optimiser and its scores.

    Each branch of a network learns through a logit of its own; the loss is the sum of theirs, and each branch has its
    own best epoch. One that is out of patience takes no part in further steps. A network that is no
    :class:`BranchedModel` is one branch.

    All random numbers of a training step come from (seed, epoch, batch index): a run that was interrupted
    and resumed draws what an uninterrupted one draws, whatever random state it starts from. On a GPU the whole step,
    from the rows of a batch to the new weights, is one CUDA graph, and so is that of validation.

    Attributes
    ----------
    branches
        Modules of each branch.
    best
        Weights of each branch at its best epoch so far, and the score there.
    after_step
        Called after each step of the optimiser, within the graph.
    parts
        Names of the parts of the network whose gradient norms are logged.
    """

    pos_weight: Tensor
    captures = True
    """Whether steps are captured where that is possible; False runs all in eager mode."""

    def __init__(self, model: nn.Module, config: TrainingConfig, pos_weight: float, seed: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model, self.config, self.seed = model, config, seed
        self.register_buffer("pos_weight", torch.tensor(float(pos_weight)))
        self.train_scores = EpochScores()
        self.validation_scores = EpochScores()
        self.branches = model.branch_modules() if isinstance(model, BranchedModel) else {"model": ("",)}
        several = self.branches if len(self.branches) > 1 else {}
        self.branch_scores = nn.ModuleDict({name: EpochScores() for name in several})
        self.best = BestBranches(model, self.branches)
        self.parts = [name for name, _ in model.named_children()]
        self.after_step: Callable[[], None] | None = None
        self.graphs: CudaGraphs | None = None
        self._validation: dict[str, Tensor] = {}
        self._branch_validation: dict[str, dict[str, Tensor]] = {}
        self._warned_about_selection = False

    @property
    def learning(self) -> tuple[str, ...]:
        """Names of the branches that are not out of patience."""
        return self.best.learning(self.config.patience)

    def forward(self, batch: Batch) -> Tensor:
        """Return the (batch,) logits as float32, whatever precision the network ran in."""
        with autocast(self.config, self.device):
            logits: Tensor = self.model(batch)
        return logits.float()

    def on_fit_start(self) -> None:
        """Lay out the images as the device likes them best, and have the steps captured where that is possible."""
        record = None
        if self.device.type == "cuda":
            self.model.to(memory_format=torch.channels_last)
            self.graphs = self.graphs or CudaGraphs(self.device)
            record = self.graphs.record if self.captures else None
        if record and self.trainer.world_size > 1:
            logger.warning("the training step runs without a CUDA graph: several processes share each batch")
            record = None
        self._step = CapturedFunction(self._training_outputs, "the training step", record)
        self._validate = CapturedFunction(self._losses, "validation", record)
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        self._data = data if isinstance(data, AugmentingData) else None

    def on_fit_end(self) -> None:
        """Give the memory of the graphs back."""
        del self._step, self._validate
        self.graphs = None

    def on_train_start(self) -> None:
        """Take over the learning rates, from a resumed run too."""
        self._steps_per_epoch = math.ceil(self.trainer.num_training_batches / self.config.accumulate)
        self._rates = LearningRates(self._adam, self._base_rates, self.device)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimiser."""
        self._adam = optimiser(self.model, self.config)
        self._base_rates = [float(group["lr"]) for group in self._adam.param_groups]
        return self._adam

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Train on a batch and return ``figures``: loss, gradient norm, and the norm of each of the ``parts``.

        The optimiser takes a step after every ``config.accumulate`` batches and after the last one of an epoch.
        """
        steps = (batch_idx + 1) % self.config.accumulate == 0 or self.trainer.is_last_batch
        if steps:
            self._rates.set(learning_rate_factor(self.global_step, self.config, self._steps_per_epoch))
        with self._draws(batch_idx):
            values, figures = self._step(batch, (steps, self.learning))
        if steps:
            progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
            progress.increment_ready()
            progress.increment_completed()
        self.train_scores.update(*values.clone())
        return {"figures": figures.clone()}

    def repeated_steps(self, batch: Batch, count: int) -> None:
        """Take steps on one batch while training, with nothing around them: how fast the device can be."""
        for number in range(count):
            with self._draws(number):
                self._step(batch, (True, self.learning))

    def completed(self, batch: Batch) -> Batch:
        """Batch as the network is trained on it."""
        if self._data is None:
            return batch
        without = self.branches.keys() - set(self.learning)
        return self._data.training_batch(batch, self._generator, without=without)

    @contextmanager
    def _draws(self, batch_idx: int) -> Iterator[None]:
        """Block within which all random numbers are those of a step."""
        seed = seed_of(self.seed, self.current_epoch, batch_idx, self.global_rank)
        self._generator: torch.Generator | None = None
        if self.graphs is not None:
            with self.graphs.draws(seed):
                yield
            return
        torch.default_generator.manual_seed(seed)
        if self._data is not None:
            augmentation_seed = self._data.augmentation_seed(self.current_epoch, batch_idx)
            self._generator = torch.Generator(self.device).manual_seed(augmentation_seed)
        yield

    def _training_outputs(self, batch: dict[str, Tensor], mode: tuple[bool, tuple[str, ...]]) -> Outputs:
        """(3, batch) losses, logits and targets; (2 + part,) loss and gradient norms: a function of tensors alone.

        The mode is whether the optimiser takes a step, and the branches that learn.
        """
        steps, learning = mode
        whole = self.completed(batch)
        losses, logits = self._losses(whole, learning)
        losses, logits = losses.sum(0), logits.mean(0)
        loss = losses.mean() * whole["share"] if "share" in whole else losses.mean()
        self.manual_backward(loss / self.config.accumulate)
        norms = torch.zeros(1 + len(self.parts), device=loss.device)
        if steps:
            norms = clipped_gradients(self.model, self.config.gradient_clip)
            self._adam.step()
            self._adam.zero_grad(set_to_none=self.config.accumulate == 1)  # else graphs share the gradients
            if self.after_step is not None:
                self.after_step()
        return torch.stack((losses, logits, whole["target"])).detach(), torch.cat((loss.detach()[None], norms))

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return the (batch,) ``logits`` and ``target`` of a batch."""
        learning = self.learning
        losses, logits = (values.clone() for values in self._validate(batch, learning))
        mean, target = logits.mean(0), batch["target"]
        self.validation_scores.update(losses.sum(0), mean, target)
        for name, loss, logit in zip(learning, losses, logits, strict=True):
            if name in self.branch_scores:
                cast("EpochScores", self.branch_scores[name]).update(loss, logit, target)
        return {"logits": mean, "target": target}

    def _losses(self, batch: Batch, learning: Collection[str]) -> tuple[Tensor, Tensor]:
        """(branch, batch) losses and logits of the branches that learn; the loss is 0 without the input of a branch."""
        with autocast(self.config, self.device):
            if isinstance(self.model, BranchedModel):
                parts = self.model.branch_logits(batch, learning)
            else:
                parts = {"": self.model(batch)}
        logits = torch.stack([part.float() for part in parts.values()])
        losses = weighted_bce(logits, batch["target"].expand_as(logits), self.pos_weight)
        valid = [batch.get(f"{name}_valid") for name in parts]
        kept = [each if flags is None else each * flags for each, flags in zip(losses, valid, strict=True)]
        return torch.stack(kept), logits

    def on_validation_epoch_start(self) -> None:
        """Reset the scores of the branches."""
        for scores in self.branch_scores.values():
            cast("EpochScores", scores).reset()

    def on_validation_epoch_end(self) -> None:
        """Log the validation scores, those of several branches on their mean logit, and the epoch, from 1."""
        self._log_epoch()
        self._validation = self.validation_scores.compute()
        self.validation_scores.reset()
        self.log_dict({f"validation/{name}": value for name, value in self._validation.items()})
        self._branch_validation = dict.fromkeys(self.learning, self._validation)
        for name in self.learning if self.branch_scores else ():
            self._branch_validation[name] = cast("EpochScores", self.branch_scores[name]).compute()
            self.log_dict(
                {f"validation/{score}_{name}": value for score, value in self._branch_validation[name].items()}
            )

    def on_train_epoch_end(self) -> None:
        """Log the training scores, the learning rate and the score that selects the best epochs.

        That score is the largest validation average precision so far of each branch, on average over the branches: it
        grows as long as one of them improves. Where the validation split lacks a class it is undefined and minus the
        validation loss takes its place; where there is no validation split, minus the training loss.
        """
        self._log_epoch()
        train = self.train_scores.compute()
        self.train_scores.reset()
        self.log_dict({f"train/{name}": value for name, value in train.items()})
        self.log("train/learning_rate", torch.tensor(self._rates.largest))
        if "average_precision" in self._validation:
            scores = {name: values["average_precision"] for name, values in self._branch_validation.items()}
        else:
            validation = self._branch_validation or dict.fromkeys(self.learning, train)
            scores = {name: -values["loss"] for name, values in validation.items()}
            self._warn_about_selection("validation" if self._validation else "training")
        self.log(SELECTION, self.best.selection({name: float(score) for name, score in scores.items()}))

    def _log_epoch(self) -> None:
        self.log("epoch", float(self.current_epoch + 1))

    def _warn_about_selection(self, split: str) -> None:
        if not self._warned_about_selection:
            reason = "lacks a class" if self._validation else "is empty"
            logger.warning(
                "the validation split %s, so that its average precision is undefined:"
                " early stop and best checkpoint follow the %s loss instead",
                reason,
                split,
            )
        self._warned_about_selection = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write the seed and the scores of an unfinished epoch into the checkpoint."""
        checkpoint["seed"] = self.seed
        checkpoint["train_scores"] = self.train_scores.gathered()
        checkpoint["best_branches"] = self.best.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the scores of an unfinished epoch; ``ValueError`` with what differs for another seed or network."""
        if checkpoint.get("seed") != self.seed:
            raise ValueError(
                f"the checkpoint was trained with seed {checkpoint.get('seed')}, not {self.seed};"
                " resume with the seed of the run"
            )
        if difference := state_difference(checkpoint["state_dict"], self.state_dict()):
            raise ValueError(f"the checkpoint holds another network: {difference}")
        self.best.load_state_dict(checkpoint.get("best_branches", {}))
        if self.global_rank == 0:  # gathered from all devices
            self.train_scores.restore(checkpoint.get("train_scores", {}))


def first_pairs(batch: Batch, count: int) -> dict[str, Tensor]:
    """Batch of the first pairs of a batch."""
    return {name: value[:count] if value.ndim else value for name, value in batch.items()}


def state_difference(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """Return one phrase that names how two state dicts differ in names and shapes; "" where they agree."""
    phrases = []
    if missing := [name for name in wanted if name not in state]:
        phrases.append(f"{len(missing)} of the wanted weights are missing, such as {missing[0]}")
    if extra := [name for name in state if name not in wanted]:
        phrases.append(f"{len(extra)} weights are not wanted, such as {extra[0]}")
    shapes = [name for name in wanted if name in state and state[name].shape != wanted[name].shape]
    if shapes:
        name = shapes[0]
        phrases.append(f"{name} has shape {tuple(state[name].shape)}, wanted {tuple(wanted[name].shape)}")
    return "; ".join(phrases)

"""The LightningModule: any network from batch to logits, its loss, its optimiser and its scores."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, cast, runtime_checkable

import lightning
import torch
from torch import Tensor, nn

from mmagn.tensors.batches import Batch, seed_of
from mmagn.training.captured import CapturedFunction, CudaGraphs, Outputs
from mmagn.training.config import TrainingConfig
from mmagn.training.device import autocast
from mmagn.training.epoch_scores import EpochScores
from mmagn.training.losses import weighted_bce
from mmagn.training.optimiser import LearningRates, clipped_gradients, learning_rate_factor, optimiser

NarrowViews = Mapping[str, Callable[[Batch], Batch]]
"""What else a network is evaluated on in validation, by name: each makes a narrower batch of a whole one."""

SELECTION = "selection/score"
"""What early stop and best checkpoint maximise; see :meth:`AgnModule.on_train_epoch_end`."""

logger = logging.getLogger(__name__)


@runtime_checkable
class AugmentingData(Protocol):
    """Data whose training batches are completed on the device, within the step."""

    def training_batch(self, batch: Batch, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Batch as the network is trained on it, all random numbers from a generator or that of the device."""
        ...

    def augmentation_seed(self, epoch: int, step: int) -> int:
        """Seed of the random numbers of a step on the CPU."""
        ...


class AgnModule(lightning.LightningModule):
    """A network with its loss, its optimiser and its scores.

    All random numbers of a training step come from (seed, epoch, batch index): a run that was interrupted
    and resumed draws what an uninterrupted one draws, whatever random state it starts from. On a GPU the whole step,
    from the rows of a batch to the new weights, is one CUDA graph, and so is that of validation.

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
        What validation evaluates besides whole batches; the best epoch is the best on average over all of it.

    Attributes
    ----------
    after_step
        Called after each step of the optimiser, within the graph.
    parts
        Names of the parts of the network whose gradient norms are logged.
    """

    pos_weight: Tensor
    captures = True
    """Whether steps are captured where that is possible; False runs all in eager mode."""

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
        self.automatic_optimization = False
        self.model, self.config, self.seed = model, config, seed
        self.register_buffer("pos_weight", torch.tensor(float(pos_weight)))
        self.train_scores = EpochScores()
        self.validation_scores = EpochScores()
        self.views = dict(views or {})
        self.view_scores = nn.ModuleDict({name: EpochScores() for name in self.views})
        self.parts = [name for name, _ in model.named_children()]
        self.after_step: Callable[[], None] | None = None
        self.graphs: CudaGraphs | None = None
        self._validation: dict[str, Tensor] = {}
        self._selection: Tensor | None = None
        self._warned_about_selection = False

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
        self._validate = CapturedFunction(self._validation_outputs, "validation", record)
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
            values, figures = self._step(batch, steps)
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
                self._step(batch, True)

    def completed(self, batch: Batch) -> Batch:
        """Batch as the network is trained on it."""
        return batch if self._data is None else self._data.training_batch(batch, self._generator)

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

    def _training_outputs(self, batch: dict[str, Tensor], steps: bool) -> Outputs:
        """(3, batch) losses, logits and targets; (2 + part,) loss and gradient norms: a function of tensors alone."""
        whole = self.completed(batch)
        losses, logits = self._losses(whole)
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

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:  # noqa: ARG002 Lightning passes it
        """Return the (batch,) ``logits`` and ``target`` of a batch."""
        values, *views = (values.clone() for values in self._validate(batch))
        self.validation_scores.update(*values)
        for name, view in zip(self.views, views, strict=True):
            cast("EpochScores", self.view_scores[name]).update(*view)
        return {"logits": values[1], "target": values[2]}

    def _validation_outputs(self, batch: dict[str, Tensor], _: None) -> Outputs:
        """(3, batch) losses, logits and targets of a batch, and of each view."""
        batches = [batch, *(view(batch) for view in self.views.values())]
        return tuple(torch.stack((*self._losses(each), each["target"])) for each in batches)

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        logits = self(batch)
        return weighted_bce(logits, batch["target"], self.pos_weight), logits

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
        self.log("train/learning_rate", torch.tensor(self._rates.largest))
        if self._selection is not None:
            score = self._selection
        else:
            score = -self._validation.get("loss", train["loss"])
            self._warn_about_selection("validation" if self._validation else "training")
        self.log(SELECTION, score)

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

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the scores of an unfinished epoch; refuse to resume with another seed or another network.

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

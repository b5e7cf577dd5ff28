"""What happens beside the steps: checkpoints, early stop, the watch for a loss that is no number, figures."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray
from torch import Tensor

from mmagn.training.module import SELECTION, AgnModule
from mmagn.training.runs import RunFolder, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ScoreFigure = Callable[[NDArray[np.float64], NDArray[np.float64]], "Figure"]
"""Draws a figure from (object,) target and (object,) probability."""
StaticFigure = Callable[[], "Figure"]

logger = logging.getLogger(__name__)


class NonFiniteLossError(ValueError):
    """The loss or its gradient is NaN or infinite.

    Attributes
    ----------
    index
        Rows of the objects in the batch where it happened first.
    """

    def __init__(self, message: str, index: tuple[int, ...]) -> None:
        super().__init__(message)
        self.index = index


class PatienceStop(EarlyStopping):
    """Early stop on the selection score; a run that has stopped early stays stopped when resumed."""

    def __init__(self, patience: int) -> None:
        super().__init__(
            monitor=SELECTION, mode="max", patience=patience, check_finite=False, check_on_train_epoch_end=True
        )

    @property
    def out_of_patience(self) -> bool:
        """True where the score has not improved for ``patience`` epochs."""
        return self.wait_count >= self.patience

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Stop at once where the resumed run had stopped."""
        if self.out_of_patience:
            trainer.should_stop = True


class BestAndLast(Checkpoint):
    """Write ``best.ckpt`` (weights) and ``last.ckpt`` (all state) and one line of text after each epoch.

    Instead of Lightning's ModelCheckpoint, which keeps absolute paths in its state, so that a run folder that was
    moved cannot be resumed, and writes its last checkpoint only where the best one was written too.
    Checkpoints are made between epochs only: a run stopped within an epoch repeats that epoch, bit for bit.

    Attributes
    ----------
    best_score, best_epoch
        Largest selection score so far, and its epoch from 0; -inf and -1 before the first.
    epochs, steps
        How many ``last.ckpt`` holds.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.best_score = float("-inf")
        self.best_epoch = -1
        self.epochs = 0
        self.steps = 0
        self._epoch_start_s = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return all four attributes."""
        return {name: getattr(self, name) for name in ("best_score", "best_epoch", "epochs", "steps")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over all four attributes."""
        for name in ("best_score", "best_epoch", "epochs", "steps"):
            setattr(self, name, state_dict[name])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Write the very first checkpoint, so that a run can be resumed from its first step on."""
        if trainer.global_step == 0:
            trainer.save_checkpoint(self.run.last)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Look at the clock."""
        self._epoch_start_s = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Write the checkpoints of this epoch and say how it went."""
        score = float(trainer.callback_metrics[SELECTION])
        better = score > self.best_score
        if better:
            self.best_score, self.best_epoch = score, trainer.current_epoch
            trainer.save_checkpoint(self.run.best, weights_only=True)
        self.epochs, self.steps = trainer.current_epoch + 1, trainer.global_step
        trainer.save_checkpoint(self.run.last)
        logger.info(self._line(trainer, better))

    def _line(self, trainer: Trainer, better: bool) -> str:
        names = {
            "train/loss": "loss",
            "validation/loss": "validation loss",
            "validation/average_precision": "average precision",
        }
        values = trainer.callback_metrics
        parts = [f"{text} {float(values[name]):.4f}" for name, text in names.items() if name in values]
        last = trainer.max_epochs
        seconds = time.monotonic() - self._epoch_start_s
        head = f"epoch {trainer.current_epoch + 1:{len(str(last))}d}/{last}"
        return "  ".join([head, *parts, f"{seconds:.1f} s", *(["best"] if better else [])])


class FiniteLoss(Callback):
    """Stop a run whose loss or gradient is NaN or infinite, and name the batch.

    Looks every ``log_every`` steps and before every validation, since a look makes the host wait for the device.
    """

    def __init__(self, run: RunFolder, log_every: int) -> None:
        self.run = run
        self.log_every = log_every
        self._unseen: list[tuple[int, Tensor, Tensor, Tensor]] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remember this step, and look at the remembered ones when it is time.

        Raises
        ------
        NonFiniteLossError
            Naming the step and the rows of its batch, which are also written to ``bad_batch.json``.
        """
        assert isinstance(pl_module, AgnModule)
        self._unseen.append((batch_idx, outputs["loss"], pl_module.gradient_norm, batch["index"]))
        if len(self._unseen) < self.log_every and not trainer.is_last_batch:
            return
        values = torch.stack([torch.stack([loss, norm]) for _, loss, norm, _ in self._unseen]).float()
        bad = ~torch.isfinite(values).all(dim=1).cpu()
        if bad.any():
            position = int(bad.nonzero()[0, 0])
            step, _, _, index = self._unseen[position]
            self._stop(trainer, step, values[position].tolist(), tuple(index.tolist()))
        self._unseen.clear()

    def _stop(self, trainer: Trainer, step: int, values: list[float], index: tuple[int, ...]) -> None:
        epoch = trainer.current_epoch
        record = {"epoch": epoch, "step": step, "loss": str(values[0]), "gradient_norm": str(values[1])}
        write_json(self.run.bad_batch, {**record, "index": index})
        raise NonFiniteLossError(
            f"training stopped at epoch {epoch + 1}, step {step + 1}: the loss is {values[0]} and the norm of its"
            f" gradient {values[1]}; the batch holds the objects of rows {', '.join(map(str, index))}"
            f" (also in {self.run.bad_batch}); try a smaller training.learning_rate or look at these objects",
            index,
        )


class Figures(Callback):
    """Draw figures into TensorBoard.

    Parameters
    ----------
    scored
        Figures of the validation split by tag, drawn after the first epoch, each ``every`` epochs and the last;
        left out where the split lacks a class.
    static
        Figures drawn once at the start, by tag.
    every
        Epochs between figures.
    """

    def __init__(self, scored: Mapping[str, ScoreFigure], static: Mapping[str, StaticFigure], every: int) -> None:
        self.scored = scored
        self.static = static
        self.every = every
        self._outputs: list[dict[str, Tensor]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Draw the static figures of a run that begins."""
        if trainer.global_step == 0:
            for tag, draw in self.static.items():
                self._add(trainer, tag, draw())

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Forget the outputs of the epoch before."""
        self._outputs.clear()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,  # noqa: ARG002
        outputs: Any,
        batch: Any,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
        dataloader_idx: int = 0,  # noqa: ARG002
    ) -> None:
        """Keep the logits of a batch where figures are due."""
        last = trainer.current_epoch + 1 == trainer.max_epochs
        if self.scored and (last or trainer.current_epoch % self.every == 0):
            self._outputs.append(outputs)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Draw the figures where they are due."""
        if not self._outputs:
            return
        logits = torch.cat([output["logits"] for output in self._outputs])
        target = torch.cat([output["target"] for output in self._outputs]).double().cpu().numpy()
        score = logits.double().sigmoid().cpu().numpy()
        if 0 < target.sum() < target.size:
            for tag, draw in self.scored.items():
                self._add(trainer, tag, draw(target, score))

    @staticmethod
    def _add(trainer: Trainer, tag: str, figure: "Figure") -> None:
        for board in trainer.loggers:
            if isinstance(board, TensorBoardLogger):
                board.experiment.add_figure(tag, figure, trainer.global_step)

"""What happens beside the steps: early stop, the watch for a loss that is no number, what is logged, figures."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors

from mmagn.storage.files import write_json
from mmagn.storage.run_folder import RunFolder
from mmagn.training.module import SELECTION, AgnModule

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ScoreFigure = Callable[[NDArray[np.float64], NDArray[np.float64]], "Figure"]
"""Draws a figure from (object,) target and (object,) probability."""
StaticFigure = Callable[[], "Figure"]


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


class StepWatch(Callback):
    """Look at the steps from time to time: stop where a loss is no number, and log how training goes.

    A look makes the host wait for the device, so there is one every ``log_every`` steps and before every validation,
    and none besides.

    Parameters
    ----------
    run
        Where a bad batch is written down.
    log_every
        Steps of the optimiser between looks.
    object_ids
        (object,) name of each row; empty where rows have none.

    Attributes
    ----------
    pairs_per_s
        Pairs trained on per second, on all devices, as of the latest look.
    batch
        The batch of the current step, once it is on its device.
    """

    def __init__(self, run: RunFolder, log_every: int, object_ids: Sequence[str] = ()) -> None:
        self.run = run
        self.log_every = log_every
        self.object_ids = object_ids
        self.pairs_per_s = 0.0
        self.batch: Mapping[str, Tensor] | None = None
        self._unseen: list[tuple[int, Tensor, Tensor, Tensor]] = []
        self._since_s: float | None = None
        self._pairs = 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Take hold of the batch."""
        self.batch = batch
        if self._since_s is None:
            self._since_s = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remember this step, and look at the remembered ones when it is time.

        Raises
        ------
        NonFiniteLossError
            Naming the step and the objects of its batch, which are also written to ``bad_batch.json``.
        """
        assert isinstance(pl_module, AgnModule)
        self.batch = None
        loss = outputs["loss"] * trainer.accumulate_grad_batches  # Lightning has divided it
        self._unseen.append((batch_idx, loss, pl_module.gradient_norm, batch["index"]))
        self._pairs += len(batch["index"]) * trainer.world_size
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch
        due = stepped and trainer.global_step % self.log_every == 0
        if due or trainer.is_last_batch:
            values = self._look(trainer)
            if due:
                self._log(trainer, pl_module, values)
        if trainer.is_last_batch:
            self._since_s, self._pairs = None, 0  # what comes before the next step is no training

    def _look(self, trainer: Trainer) -> list[float]:
        """Loss and gradient norm of the latest step, once all that were not looked at are known to be numbers."""
        values = torch.stack([torch.stack([loss, norm]) for _, loss, norm, _ in self._unseen]).tolist()
        for (step, _, _, index), pair in zip(self._unseen, values, strict=True):
            if not np.isfinite(pair).all():
                self._stop(trainer, step, pair, tuple(index.tolist()))
        self._unseen.clear()
        latest: list[float] = values[-1]
        return latest

    def _log(self, trainer: Trainer, module: AgnModule, values: list[float]) -> None:
        """Log a look; the device has come as far as the host, so the clock tells the truth."""
        now_s = time.monotonic()
        if self._since_s is not None and now_s > self._since_s:
            self.pairs_per_s = self._pairs / (now_s - self._since_s)
        self._since_s, self._pairs = now_s, 0
        names = list(module.branch_norms)
        norms = torch.stack([module.branch_norms[name].to(module.device) for name in names]).tolist() if names else []
        logged = {"train/loss_step": values[0], "train/gradient_norm": values[1], "speed/pairs_per_s": self.pairs_per_s}
        logged |= {f"gradient_norm/{name}": norm for name, norm in zip(names, norms, strict=True)}
        if module.device.type == "cuda":
            logged["speed/gpu_memory_gib"] = torch.cuda.max_memory_allocated(module.device) / 2**30
        for board in trainer.loggers:
            board.log_metrics(logged, trainer.global_step - 1)

    def _stop(self, trainer: Trainer, step: int, values: list[float], index: tuple[int, ...]) -> None:
        epoch = trainer.current_epoch
        names = [self.object_ids[row] for row in index] if len(self.object_ids) else []
        record = {"epoch": epoch, "step": step, "loss": str(values[0]), "gradient_norm": str(values[1])}
        write_json(self.run.bad_batch, {**record, "index": index, "object_ids": names})
        objects = ", ".join(names) if names else f"of rows {', '.join(map(str, index))}"
        raise NonFiniteLossError(
            f"training stopped at epoch {epoch + 1}, step {step + 1}: the loss is {values[0]} and the norm of its"
            f" gradient {values[1]}; the batch holds the objects {objects}"
            f" (also in {self.run.bad_batch}); try a smaller training.learning_rate or look at these objects",
            index,
        )


class PairsProgressBar(TQDMProgressBar):
    """Progress bar that says how many pairs are trained on per second."""

    def __init__(self, watch: StepWatch) -> None:
        super().__init__(leave=False)
        self.watch = watch

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Pairs per second, beside what was logged for the bar."""
        metrics = {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}
        return {**metrics, "pairs/s": f"{self.watch.pairs_per_s:,.0f}"}


class Figures(Callback):
    """Draw figures into TensorBoard.

    Parameters
    ----------
    scored
        Figures of the validation split by tag, drawn after the first epoch, each ``every`` epochs and the last;
        left out where the split lacks a class.
    static
        Figures drawn once, after the first epoch, by tag.
    every
        Epochs between figures.
    """

    def __init__(self, scored: Mapping[str, ScoreFigure], static: Mapping[str, StaticFigure], every: int) -> None:
        self.scored = scored
        self.static = static
        self.every = every
        self._outputs: list[dict[str, Tensor]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Draw the static figures after the first epoch: its steps do not wait for them."""
        if trainer.current_epoch == 0 and trainer.is_global_zero:
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
        parts = {name: torch.cat([output[name] for output in self._outputs]) for name in ("logits", "target")}
        if trainer.world_size > 1:
            parts = {name: torch.cat(gather_all_tensors(part)) for name, part in parts.items()}
        target = parts["target"].double().cpu().numpy()
        score = parts["logits"].double().sigmoid().cpu().numpy()
        if 0 < target.sum() < target.size and trainer.is_global_zero:
            for tag, draw in self.scored.items():
                self._add(trainer, tag, draw(target, score))

    @staticmethod
    def _add(trainer: Trainer, tag: str, figure: "Figure") -> None:
        for board in trainer.loggers:
            if isinstance(board, TensorBoardLogger):
                board.experiment.add_figure(tag, figure, trainer.global_step)

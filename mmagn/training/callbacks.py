"""Callbacks around the steps: early stop, the watch for a non-finite loss, what is logged, figures."""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, TQDMProgressBar
from lightning.pytorch.loggers import Logger
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors

from mmagn.storage.files import write_json
from mmagn.storage.run_folder import RunFolder
from mmagn.training.loggers import log_figure, log_pr_curve, takes_figures
from mmagn.training.module import SELECTION, AgnModule
from mmagn.training.side_by_side import wait_for_device

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ScoreFigure = Callable[[NDArray[np.float64], NDArray[np.float64]], "Figure"]
"""Draws a figure from (object,) target and (object,) probability."""
StaticFigure = Callable[[], "Figure"]
FIGURES_APART_S = 30.0
"""Least seconds between figures of the validation split: short epochs would wait for them."""

logger = logging.getLogger(__name__)


class NonFiniteLossError(ValueError):
    """The loss or its gradient is NaN or infinite; ``index`` are the rows of the batch where it happened first."""

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

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop at once where the resumed run had stopped."""
        if self.out_of_patience:
            trainer.should_stop = True


@dataclass(kw_only=True, eq=False)
class _Look:
    """Steps on their way to the host: their figures (step, figure) are there once ``arrived`` is past."""

    epoch: int
    steps: list[int]
    index: list[Tensor]
    figures: Tensor
    global_step: int
    pairs: int
    logged: bool
    arrived: torch.cuda.Event | None


class StepWatch(Callback):
    """Look at the steps from time to time: stop where a loss is not finite, and log how training goes.

    There is a look every ``log_every`` steps and after the last step of an epoch. On a GPU the figures of a look are
    read at a later one, when they have arrived, so that the host never waits within an epoch.

    Parameters
    ----------
    run
        Where a bad batch is written down; None writes nothing.
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

    def __init__(self, run: RunFolder | None, log_every: int, object_ids: Sequence[str] = ()) -> None:
        self.run, self.log_every, self.object_ids = run, log_every, object_ids
        self.pairs_per_s = 0.0
        self.batch: Mapping[str, Tensor] | None = None
        self._unseen: list[tuple[int, Tensor, Tensor]] = []
        self._looks: deque[_Look] = deque()
        self._start_s: float | None = None
        self._first_step_s: float | None = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Keep the batch, and the time."""
        self.batch = batch
        self._start_s = time.monotonic() if self._start_s is None else self._start_s
        self._first_step_s = time.time() if self._first_step_s is None else self._first_step_s

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remember this step, and look at the remembered ones when it is time.

        ``NonFiniteLossError`` names the step and the objects of its batch, which ``bad_batch.json`` holds too.
        """
        assert isinstance(pl_module, AgnModule)
        self.batch = None
        if self.run is not None and self._first_step_s is not None:
            self._log_start_up(self._first_step_s)
        self._unseen.append((batch_idx, outputs["figures"], batch["index"]))
        stepped = (batch_idx + 1) % pl_module.config.accumulate == 0 or trainer.is_last_batch
        due = stepped and trainer.global_step % self.log_every == 0
        if due or trainer.is_last_batch:
            self._look(trainer, logged=due)
            self._read(trainer, pl_module, wait=trainer.is_last_batch)
        if trainer.is_last_batch:
            self._start_s = None  # what comes before the next step is no training

    def settle(self, trainer: Trainer, module: AgnModule) -> None:
        """Wait until all steps so far are known to be finite."""
        if self._unseen:
            self._look(trainer, logged=False)
        self._read(trainer, module, wait=True)

    def _log_start_up(self, first_step_s: float) -> None:
        self._first_step_s = float("nan")
        if np.isfinite(first_step_s):
            before_s, step_s = first_step_s - psutil.Process().create_time(), time.time() - first_step_s
            logger.info("start-up took %.1f s, the first training step %.1f s", before_s, step_s)

    def _look(self, trainer: Trainer, *, logged: bool) -> None:
        """Send the figures of the remembered steps to the host."""
        steps, figures, index = zip(*self._unseen, strict=True)
        self._unseen.clear()
        stacked = torch.stack(figures)
        arrived = torch.cuda.Event() if stacked.is_cuda else None  # type: ignore[no-untyped-call]
        self._looks.append(
            _Look(
                epoch=trainer.current_epoch,
                steps=list(steps),
                index=list(index),
                figures=stacked.to("cpu", non_blocking=True),
                global_step=trainer.global_step,
                pairs=sum(map(len, index)) * trainer.world_size,
                logged=logged,
                arrived=arrived,
            )
        )
        if arrived is not None:
            arrived.record()

    def _read(self, trainer: Trainer, module: AgnModule, *, wait: bool) -> None:
        """Check and log the figures that have arrived."""
        while self._looks:
            look = self._looks[0]
            if look.arrived is not None and not look.arrived.query():  # type: ignore[no-untyped-call]
                if not wait:
                    return
                wait_for_device(module.device)
            self._looks.popleft()
            values = look.figures.tolist()
            for step, index, (loss, norm, *_) in zip(look.steps, look.index, values, strict=True):
                if not (np.isfinite(loss) and np.isfinite(norm)):
                    self._stop(look.epoch, step, (loss, norm), tuple(index.tolist()))
            self._log(trainer, module, look, values[-1])

    def _log(self, trainer: Trainer, module: AgnModule, look: _Look, values: list[float]) -> None:
        now_s = time.monotonic()
        if self._start_s is not None and now_s > self._start_s:
            self.pairs_per_s = look.pairs / (now_s - self._start_s)
            self._start_s = now_s
        if not look.logged:
            return
        loss, norm, *parts = values
        logged = {"train/loss_step": loss, "train/gradient_norm": norm, "speed/pairs_per_s": self.pairs_per_s}
        logged |= {f"gradient_norm/{name}": norm for name, norm in zip(module.parts, parts, strict=True)}
        if module.device.type == "cuda":
            logged["speed/gpu_memory_gib"] = torch.cuda.max_memory_allocated(module.device) / 2**30
        for board in trainer.loggers:
            board.log_metrics(logged, look.global_step - 1)

    def _stop(self, epoch: int, step: int, values: tuple[float, float], index: tuple[int, ...]) -> None:
        names = [self.object_ids[row] for row in index] if len(self.object_ids) else []
        record = {"epoch": epoch + 1, "step": step + 1, "loss": str(values[0]), "gradient_norm": str(values[1])}
        where = ""
        if self.run is not None:
            write_json(self.run.bad_batch, {**record, "index": index, "object_ids": names})
            where = f" (also in {self.run.bad_batch})"
        objects = ", ".join(names) if names else f"of rows {', '.join(map(str, index))}"
        raise NonFiniteLossError(
            f"training stopped at epoch {epoch + 1}, step {step + 1}: the loss is {values[0]} and the norm of its"
            f" gradient {values[1]}; the batch holds the objects {objects}{where};"
            " try a smaller training.learning_rate or look at these objects",
            index,
        )


class PairsProgressBar(TQDMProgressBar):
    """Progress bar that shows how many pairs are trained on per second."""

    def __init__(self, watch: StepWatch) -> None:
        super().__init__(leave=False)
        self.watch = watch

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return pairs per second, and what was logged for the bar."""
        metrics = {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}
        return {**metrics, "pairs/s": f"{self.watch.pairs_per_s:,.0f}"}


class Figures(Callback):
    """Draw figures for the loggers, in a thread of their own: no step waits for them.

    Parameters
    ----------
    scored
        Figures of the validation split by tag, drawn after the first epoch, each ``every`` epochs and the last, but
        where epochs are short at least ``FIGURES_APART_S`` apart; left out where the split lacks a class.
    static
        Figures drawn once, after the first epoch, by tag.
    every
        Epochs between figures of the validation split.
    """

    def __init__(self, scored: Mapping[str, ScoreFigure], static: Mapping[str, StaticFigure], every: int) -> None:
        self.scored, self.static, self.every = scored, static, every
        self._outputs: list[dict[str, Tensor]] = []
        self._drawn_s = float("-inf")
        self._pool = ThreadPoolExecutor(1)
        self._drawn: list[Future[None]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the static figures after the first epoch."""
        if trainer.current_epoch == 0:
            for tag, draw in self.static.items():
                self._draw(trainer, tag, draw)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the outputs of the epoch before."""
        self._outputs.clear()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the logits of a batch where figures are due."""
        epoch, apart = trainer.current_epoch, time.monotonic() - self._drawn_s >= FIGURES_APART_S
        if self.scored and (epoch + 1 == trainer.max_epochs or (epoch % self.every == 0 and apart)):
            self._outputs.append(outputs)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the figures where they are due."""
        if not self._outputs:
            return
        self._drawn_s = time.monotonic()
        parts = {name: torch.cat([output[name] for output in self._outputs]) for name in ("logits", "target")}
        if trainer.world_size > 1:
            parts = {name: torch.cat(gather_all_tensors(part)) for name, part in parts.items()}
        target = parts["target"].double().cpu().numpy()
        score = parts["logits"].double().sigmoid().cpu().numpy()
        if 0 < target.sum() < target.size:
            for logger in trainer.loggers if trainer.is_global_zero else ():
                log_pr_curve(logger, "validation/precision_recall", target, score, trainer.global_step)
            for tag, draw in self.scored.items():
                self._draw(trainer, tag, partial(draw, target, score))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wait for the figures, and raise what went wrong in drawing one."""
        self._pool.shutdown()
        for drawn in self._drawn:
            drawn.result()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Wait for the figure that is being drawn, and draw no more."""
        self._pool.shutdown(cancel_futures=True)

    def _draw(self, trainer: Trainer, tag: str, draw: StaticFigure) -> None:
        boards = [logger for logger in trainer.loggers if takes_figures(logger)]
        if trainer.is_global_zero and boards:
            self._drawn.append(self._pool.submit(_log_figure, boards, tag, draw, trainer.global_step))


def _log_figure(loggers: Sequence[Logger], tag: str, draw: StaticFigure, step: int) -> None:
    figure = draw()
    for board in loggers:
        log_figure(board, tag, figure, step)

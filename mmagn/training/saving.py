"""When checkpoints are written: after every epoch, every few minutes, and on a signal to stop."""

import logging
import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from mmagn.storage.run_folder import RunFolder
from mmagn.training.averaging import MovingAverage
from mmagn.training.callbacks import StepWatch
from mmagn.training.config import TrainingConfig
from mmagn.training.module import SELECTION, AgnModule
from mmagn.training.signals import StopSignals, TrainingStopped

logger = logging.getLogger(__name__)


class BestAndLast(Checkpoint):
    """Write ``best.ckpt`` (weights) and ``last.ckpt`` (all state) and one line of text after each epoch.

    Instead of Lightning's ModelCheckpoint, which keeps absolute paths in its state, so that a run folder that was
    moved cannot be resumed, and writes its last checkpoint only where the best one was written too. Within an epoch
    ``last.ckpt`` is also written every few minutes and on a signal to stop, always between two steps
    of the optimiser; the one before stays as ``previous.ckpt``.

    Parameters
    ----------
    run, config
        Where the checkpoints go, and the settings of the optimisation.
    identity
        What the run was made from, such as the fingerprint of its pairs: a checkpoint of anything else is refused.
    settings
        All settings of the run, plain values, for whoever opens a checkpoint.
    average
        The moving average of the weights, which is what ``best.ckpt`` holds; None where there is none.
    watch
        Knows whether the steps so far were finite.

    Attributes
    ----------
    signals
        Ctrl-C and SIGTERM.
    best_score, best_epoch
        Largest selection score so far, and its epoch from 0; -inf and -1 before the first.
    epochs, steps
        How many ``last.ckpt`` holds.
    """

    def __init__(
        self,
        run: RunFolder,
        config: TrainingConfig,
        *,
        identity: Mapping[str, str] | None = None,
        settings: Mapping[str, Any] | None = None,
        average: MovingAverage | None = None,
        watch: StepWatch | None = None,
    ) -> None:
        self.run, self.config, self.watch = run, config, watch
        self.identity = dict(identity or {})
        self.settings = dict(settings or {})
        self.average = average
        self.signals = StopSignals()
        self.best_score = float("-inf")
        self.best_epoch = -1
        self.epochs = 0
        self.steps = 0
        self._start_s = self._epoch_start_s = 0.0
        self._resumed = 0
        self._saved_s = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return all four attributes."""
        return {name: getattr(self, name) for name in ("best_score", "best_epoch", "epochs", "steps")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore all four attributes."""
        for name in ("best_score", "best_epoch", "epochs", "steps"):
            setattr(self, name, state_dict[name])

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add what the run was made from and its settings."""
        checkpoint |= {"identity": self.identity, "settings": self.settings}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint that was made from something else: ``ValueError`` with what differs."""
        for name, value in checkpoint.get("identity", {}).items():
            if self.identity.get(name, value) != value:
                raise ValueError(
                    f"the checkpoint was trained with other {name} than there are now"
                    f" ({value}, not {self.identity[name]}); start a new run"
                )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the very first checkpoint, so that a run can be resumed from its first step on; watch for signals."""
        self._start_s = self._epoch_start_s = time.monotonic()
        self._resumed = trainer.current_epoch
        if trainer.global_step == 0:
            self._save(trainer, epochs=0)
        self._saved_s = time.monotonic()
        self.signals.install()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the signals back."""
        self.signals.restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the signals back."""
        self.signals.restore()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the epoch."""
        self._epoch_start_s = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write a checkpoint when one is due or a signal came; the last step of an epoch has the epoch's.

        ``TrainingStopped`` after a signal.
        """
        if trainer.is_last_batch or (batch_idx + 1) % self.config.accumulate:
            return
        if trainer.world_size > 1 and trainer.global_step % self.config.log_every:
            return  # to agree on a checkpoint the devices wait for each other
        due = time.monotonic() - self._saved_s >= 60 * self.config.checkpoint_every_minutes
        stop = self._stop_requested(trainer)
        if stop or trainer.strategy.reduce_boolean_decision(due, all=False):
            assert isinstance(pl_module, AgnModule)
            if self.watch is not None:
                self.watch.settle(trainer, pl_module)
            self._save(trainer, epochs=trainer.current_epoch)
        if stop:
            raise TrainingStopped(self.signals.received or "sigterm")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the checkpoints of this epoch, log a line, and end training where a signal requested it."""
        assert isinstance(pl_module, AgnModule)
        with nullcontext() if self.average is None else self.average.in_place():
            better = pl_module.best.update()
            if better:
                self.best_score, self.best_epoch = float(trainer.callback_metrics[SELECTION]), trainer.current_epoch
                with pl_module.best.in_place():
                    trainer.save_checkpoint(self.run.best, weights_only=True)
        self._save(trainer, epochs=trainer.current_epoch + 1)
        logger.info(self._line(trainer, better))
        if self._stop_requested(trainer):
            self.signals.received = self.signals.received or "sigterm"
            trainer.should_stop = True

    def _stop_requested(self, trainer: Trainer) -> bool:
        """Return whether a signal came, to whichever process."""
        return trainer.strategy.reduce_boolean_decision(self.signals.received is not None, all=False)

    def _save(self, trainer: Trainer, *, epochs: int) -> None:
        """Write ``last.ckpt`` after so many whole epochs."""
        self.epochs, self.steps = epochs, trainer.global_step
        trainer.save_checkpoint(self.run.last, weights_only=False, storage_options={"keep": self.run.previous})
        self._saved_s = time.monotonic()

    def _line(self, trainer: Trainer, better: bool) -> str:
        names = {
            "train/loss": "loss",
            "validation/loss": "validation loss",
            "validation/average_precision": "average precision",
        }
        values = trainer.callback_metrics
        parts = [f"{text} {float(values[name]):.4f}" for name, text in names.items() if name in values]
        parts.append(f"best so far, mean over branches {float(values[SELECTION]):.4f}{' (improved)' if better else ''}")
        last = trainer.max_epochs
        now_s, epoch = time.monotonic(), trainer.current_epoch + 1
        parts.append(f"{now_s - self._epoch_start_s:.1f} s")
        left_s = (now_s - self._start_s) / (epoch - self._resumed) * ((last or epoch) - epoch)
        parts += [f"at most {duration_text(left_s)} left"] if left_s else []
        return "  ".join([f"epoch {epoch:{len(str(last))}d}/{last}", *parts])


def duration_text(seconds: float) -> str:
    """Return a duration in the unit that suits it: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"

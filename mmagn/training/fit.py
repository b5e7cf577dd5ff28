"""Train a network into a run folder, with checkpoints, TensorBoard and figures; the result of that."""

import logging
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lightning import Callback, LightningDataModule, Trainer, seed_everything
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy

from mmagn.storage.run_folder import RunFolder
from mmagn.training.averaging import MovingAverage
from mmagn.training.callbacks import Figures, PairsProgressBar, PatienceStop, ScoreFigure, StaticFigure, StepWatch
from mmagn.training.checkpoints import WholeCheckpointIO, read_checkpoint
from mmagn.training.config import TrainingConfig
from mmagn.training.device import device_name
from mmagn.training.loggers import BEST_SCORE, log_settings, run_loggers
from mmagn.training.memory import batch_too_large, is_out_of_memory
from mmagn.training.module import AgnModule
from mmagn.training.process_group import launched_group
from mmagn.training.saving import BestAndLast
from mmagn.training.signals import StopSignal, TrainingStopped
from mmagn.training.trainer import calm_console, own_stream, plain_trainer
from mmagn.training.weights import save_weights

Stopped = Literal["epochs", "patience"] | StopSignal

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """Result of a training run.

    Attributes
    ----------
    best_path, last_path
        Checkpoint of the best epoch, None where no epoch was completed, and the one to resume from.
    best_score, best_epoch
        Its selection score (validation average precision over all views, or minus a loss where undefined) and its
        epoch from 0; -inf and -1 where no epoch was completed.
    epochs, steps
        Whole epochs and steps of the optimiser in all, before and after a resume; what ``last_path`` holds.
    stopped
        Why training ended: ``epochs`` (all of them), ``patience`` (early stop), ``interrupt`` (Ctrl-C) or
        ``sigterm``.
    seconds, loggers
        Wall time of this call, and where the run is logged.
    """

    best_path: Path | None
    last_path: Path
    best_score: float
    best_epoch: int
    epochs: int
    steps: int
    stopped: Stopped
    seconds: float
    loggers: Sequence[Logger] = ()

    @property
    def complete(self) -> bool:
        """True where training ended by itself; otherwise it can be resumed."""
        return self.stopped in ("epochs", "patience")

    @property
    def exit_code(self) -> int:
        """Exit code of a script that ends here: 130 after Ctrl-C, else 0."""
        return 130 if self.stopped == "interrupt" else 0


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What a run shows and records besides its weights.

    Attributes
    ----------
    hyperparameters
        Settings for loggers and checkpoints, may be nested.
    figures, static_figures
        Figures for the loggers by tag: of validation target and probability, and of nothing.
    object_ids
        (object,) name of each row that ``index`` of a batch can name; empty where there are none.
    identity
        What the run is made from, such as the fingerprint of its pairs; a checkpoint of anything else is refused.
    callbacks
        Further callbacks of the Trainer.
    finish
        Called with the network once training is complete and it has its best weights: fits what steps do not train.
    """

    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, ScoreFigure] = field(default_factory=dict)
    static_figures: Mapping[str, StaticFigure] = field(default_factory=dict)
    object_ids: Sequence[str] = ()
    identity: Mapping[str, str] = field(default_factory=dict)
    callbacks: Sequence[Callback] = ()
    finish: Callable[[Any], None] | None = None


class DeviceFailedError(OSError):
    """The GPU reported an error; no program can continue after it."""


def fit(
    module: AgnModule,
    datamodule: LightningDataModule,
    run: RunFolder,
    record: RunRecord,
    *,
    resume: Path | None = None,
) -> FitResult:
    """Train a module and return the result.

    Batches must be a function of seed, epoch and step for a resumed run to be exact. ``resume`` is a ``last.ckpt``;
    that of another run folder brings its best checkpoint along.

    Raises
    ------
    NonFiniteLossError
        Where the loss is NaN or infinite; names the batch.
    BatchTooLargeError
        Where the memory does not hold a batch; names the size that it holds.
    DeviceFailedError
        Where the GPU fails; names the last good checkpoint.
    ValueError, FileNotFoundError
        Where ``resume`` is missing, damaged or of another network, seed or identity, or the device does not exist.
    """
    start_s, config = time.monotonic(), module.config
    seed_everything(module.seed, workers=True, verbose=False)
    average = MovingAverage(config.ema) if config.ema else None
    patience, watch = PatienceStop(config.patience), StepWatch(run, config.log_every, record.object_ids)
    checkpoints = BestAndLast(
        run, config, identity=record.identity, settings=record.hyperparameters, average=average, watch=watch
    )
    drawing = Figures(record.figures, record.static_figures, config.figures_every)
    callbacks = [*([average] if average else []), watch, drawing, patience, checkpoints]
    callbacks += record.callbacks
    step = 0 if resume is None else int(read_checkpoint(resume).get("global_step", 0))
    loggers = run_loggers(config.loggers, run, step=step)
    with calm_console():
        trainer = _run_trainer(config, run, loggers, callbacks, watch)
        log_settings(loggers, record.hyperparameters)
        if resume is not None and trainer.is_global_zero:
            _bring_best(resume, run)
        try:
            with own_stream(device_name(config)):
                stopped = _stopped(trainer, module, datamodule, resume) or checkpoints.signals.received
        except (MemoryError, RuntimeError) as error:
            if (explained := _explained(error, module, watch, run)) is None:
                raise
            raise explained from None
        for board in loggers:
            board.log_metrics({BEST_SCORE: checkpoints.best_score}, trainer.global_step)
            board.save()
    result = FitResult(
        best_path=run.best if checkpoints.best_epoch >= 0 else None,
        last_path=run.last,
        best_score=checkpoints.best_score,
        best_epoch=checkpoints.best_epoch,
        epochs=checkpoints.epochs,
        steps=checkpoints.steps,
        stopped=stopped or ("patience" if patience.out_of_patience else "epochs"),
        seconds=time.monotonic() - start_s,
        loggers=loggers,
    )
    if result.complete and result.best_path is not None and trainer.is_global_zero:
        _finish(module, run, record)
    logger.info(_sentence(result))
    return result


def _finish(module: AgnModule, run: RunFolder, record: RunRecord) -> None:
    """Give the network its best weights, fit what steps do not train, and write both."""
    checkpoint = read_checkpoint(run.best)
    module.load_state_dict(checkpoint["state_dict"])
    if record.finish is not None:
        record.finish(module.model)
        state = {name: value.detach().cpu() for name, value in module.state_dict().items()}
        WholeCheckpointIO().save_checkpoint({**checkpoint, "state_dict": state}, run.best)
    save_weights(module.model.state_dict(), run.weights)


def _explained(error: BaseException, module: AgnModule, watch: StepWatch, run: RunFolder) -> Exception | None:
    """Return an error that names what can be done; None where that is unknown."""
    if is_out_of_memory(error):
        return batch_too_large(error, module, watch.batch)
    if "CUDA error" not in str(error):
        return None
    reason = str(error).strip().partition("\n")[0]
    kept = f"resume with --resume {run.path}" if run.last.is_file() else "no checkpoint was written"
    return DeviceFailedError(f"the GPU failed ({reason}); {kept}")


def _stopped(
    trainer: Trainer, module: AgnModule, datamodule: LightningDataModule, resume: Path | None
) -> StopSignal | None:
    """Train, and return the signal that ended it within an epoch, None where there was none.

    Lightning turns a Ctrl-C that no callback handled into SystemExit.
    """
    try:
        trainer.fit(module, datamodule=datamodule, ckpt_path=None if resume is None else str(resume))
    except TrainingStopped as stop:
        return stop.signal
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        return "interrupt"
    return None


def _run_trainer(
    config: TrainingConfig, run: RunFolder, loggers: list[Logger], callbacks: list[Any], watch: StepWatch
) -> Trainer:
    group = launched_group()
    progress = sys.stderr.isatty() and group.leads
    return plain_trainer(
        config,
        [*callbacks, *([PairsProgressBar(watch)] if progress else [])],
        devices=group.devices,
        num_nodes=group.nodes,
        # a branch that a batch has no valid input for gets no gradient
        strategy="auto" if group.world == 1 else DDPStrategy(find_unused_parameters=True),
        # normalise over the whole batch, as on one device; each process of CPUs normalises by its own part
        sync_batchnorm=device_name(config) == "cuda" and group.world > 1,
        log_every_n_steps=config.log_every,
        default_root_dir=run.path,
        logger=loggers or False,
        plugins=[WholeCheckpointIO()],
        enable_progress_bar=progress,
    )


def _bring_best(resume: Path, run: RunFolder) -> None:
    best = resume.parent / run.best.name
    if best.is_file() and not run.best.exists():
        shutil.copyfile(best, run.best)


def _sentence(result: FitResult) -> str:
    """Return one line such as "early stop after 14 epochs (266 steps, 31 s); best epoch 2"."""
    best = "no epoch was completed" if result.best_path is None else f"best epoch {result.best_epoch + 1}"
    resume = f"; resume with --resume {result.last_path.parent}" if not result.complete else ""
    reason = {
        "epochs": "training ended",
        "patience": "early stop",
        "interrupt": "interrupted",
        "sigterm": "stopped by SIGTERM",
    }[result.stopped]
    epochs = f"{result.epochs} epoch{'' if result.epochs == 1 else 's'}"
    return f"{reason} after {epochs} ({result.steps} steps, {result.seconds:.0f} s); {best}{resume}"

"""Train a network: the Trainer with all that belongs to it, and what came of it."""

import logging
import shutil
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningDataModule, Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from tqdm.contrib.logging import logging_redirect_tqdm

from mmagn.storage.run_folder import RunFolder
from mmagn.training.averaging import MovingAverage
from mmagn.training.callbacks import Figures, PairsProgressBar, PatienceStop, ScoreFigure, StaticFigure, StepWatch
from mmagn.training.checkpoints import WholeCheckpointIO, read_checkpoint
from mmagn.training.config import TrainingConfig
from mmagn.training.first_step import FirstStep
from mmagn.training.memory import batch_too_large, is_out_of_memory
from mmagn.training.module import AgnModule
from mmagn.training.projector import EmbeddingProjector
from mmagn.training.saving import BestAndLast
from mmagn.training.signals import StopSignal, TrainingStopped
from mmagn.training.team import launched_team
from mmagn.training.weights import save_weights

Stopped = Literal["epochs", "patience"] | StopSignal

HARMLESS_WARNINGS = (
    r".*does not have many workers",
    r".*is smaller than the logging interval",
    r".*Total length of `.*` across ranks is zero",
    r".*does not have a deterministic implementation",
    r".*LeafSpec.* is deprecated",
    r".*It is recommended to use `self.log\(.*sync_dist=True",
)
"""Lightning and torch say these where nothing is wrong: batches are cut from tensors in memory, which needs no
workers; small surveys have few batches or no validation split; a few CUDA kernels have no deterministic twin;
Lightning calls torch by an old name; scores are of all devices before they are logged."""
BEST_SCORE = "selection/best_score"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """What came of a training run.

    Attributes
    ----------
    best_path
        Checkpoint of the best epoch; None where no epoch was completed.
    last_path
        Checkpoint to resume from.
    best_score, best_epoch
        Its selection score (validation average precision over all views, or minus a loss where undefined) and its
        epoch from 0; -inf and -1 where no epoch was completed.
    epochs, steps
        Whole epochs and steps of the optimiser in all, before and after a resume; what ``last_path`` holds.
    stopped
        Why training ended: ``epochs`` (as many as asked for), ``patience`` (early stop), ``interrupt`` (Ctrl-C) or
        ``sigterm``.
    seconds
        Wall time of this call.
    """

    best_path: Path | None
    last_path: Path
    best_score: float
    best_epoch: int
    epochs: int
    steps: int
    stopped: Stopped
    seconds: float

    @property
    def complete(self) -> bool:
        """True where training ended by itself; else it can be resumed."""
        return self.stopped in ("epochs", "patience")

    @property
    def exit_code(self) -> int:
        """Exit code of a script that ends here: 130 after Ctrl-C, else 0."""
        return 130 if self.stopped == "interrupt" else 0


def fit(
    module: AgnModule,
    datamodule: LightningDataModule,
    run: RunFolder,
    config: TrainingConfig,
    *,
    seed: int,
    hyperparameters: Mapping[str, Any],
    figures: Mapping[str, ScoreFigure] | None = None,
    static_figures: Mapping[str, StaticFigure] | None = None,
    object_ids: Sequence[str] = (),
    classes: Sequence[str] = (),
    identity: Mapping[str, str] | None = None,
    resume: Path | None = None,
) -> FitResult:
    """Train a module and return what came of it.

    Parameters
    ----------
    module, datamodule
        What is trained, on what. Batches must be a function of seed, epoch and step for a resumed run to be exact.
    run
        Folder for checkpoints and TensorBoard events.
    config
        Settings of the optimisation.
    seed
        Seed of whatever draws random numbers outside the steps.
    hyperparameters
        Settings to show in TensorBoard and to keep in checkpoints, may be nested.
    figures, static_figures
        Figures for TensorBoard by tag: of validation target and probability, and of nothing.
    object_ids, classes
        (object,) name and class of each row that ``index`` of a batch can name; empty where there are none.
    identity
        What the run is made from, such as the fingerprint of its pairs; a checkpoint of anything else is refused.
    resume
        ``last.ckpt`` to go on from; that of another run folder brings its best checkpoint along.

    Raises
    ------
    NonFiniteLossError
        Where the loss is NaN or infinite; names the batch.
    BatchTooLargeError
        Where the memory does not hold a batch; says what it holds.
    ValueError, FileNotFoundError
        Where ``resume`` is missing, damaged or of another network, seed or identity, or the device is not there.
    """
    start_s = time.monotonic()
    seed_everything(seed, workers=True, verbose=False)
    average = MovingAverage(config.ema) if config.ema else None
    checkpoints = BestAndLast(run, config, identity=identity, settings=hyperparameters, average=average)
    patience, watch = PatienceStop(config.patience), StepWatch(run, config.log_every, object_ids)
    drawing = Figures(figures or {}, static_figures or {}, config.figures_every)
    callbacks = [FirstStep(), watch, drawing, patience, checkpoints]
    callbacks += [EmbeddingProjector(classes, config.figures_every)] if len(classes) else []
    board = _board(run, resume)
    with _calm_console():
        trainer = _trainer(config, run, board, [*([average] if average else []), *callbacks], watch)
        board.log_hyperparams(dict(hyperparameters), {BEST_SCORE: 0.0})
        if resume is not None and trainer.is_global_zero:
            _bring_best(resume, run)
        try:
            stopped = _stopped(trainer, module, datamodule, resume) or checkpoints.signals.received
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise batch_too_large(error, module, watch.batch, config) from None
        board.log_metrics({BEST_SCORE: checkpoints.best_score}, trainer.global_step)
        board.experiment.flush()
    result = FitResult(
        best_path=run.best if checkpoints.best_epoch >= 0 else None,
        last_path=run.last,
        best_score=checkpoints.best_score,
        best_epoch=checkpoints.best_epoch,
        epochs=checkpoints.epochs,
        steps=checkpoints.steps,
        stopped=stopped or ("patience" if patience.out_of_patience else "epochs"),
        seconds=time.monotonic() - start_s,
    )
    if result.complete and result.best_path is not None and trainer.is_global_zero:
        state = read_checkpoint(result.best_path)["state_dict"]
        save_weights({name: state[f"model.{name}"] for name in module.model.state_dict()}, run.weights)
    logger.info(_sentence(result))
    return result


def _board(run: RunFolder, resume: Path | None) -> TensorBoardLogger:
    """Logger whose events replace those that a killed run wrote after its last checkpoint."""
    step = None if resume is None else int(read_checkpoint(resume).get("global_step", 0))
    return TensorBoardLogger(
        run.path, name="", version=run.tensorboard.name, default_hp_metric=False, purge_step=step or None
    )


def _stopped(
    trainer: Trainer, module: AgnModule, datamodule: LightningDataModule, resume: Path | None
) -> StopSignal | None:
    """Train, and return the signal that ended it within an epoch, None where there was none.

    Lightning turns a Ctrl-C that nothing else took note of into SystemExit.
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


def _trainer(
    config: TrainingConfig, run: RunFolder, board: TensorBoardLogger, callbacks: list[Any], watch: StepWatch
) -> Trainer:
    device, team = device_name(config), launched_team(config)
    progress = sys.stderr.isatty() and team.leads
    return Trainer(
        accelerator=device,
        devices=team.devices,
        num_nodes=team.nodes,
        # a branch that a batch has no valid input for gets no gradient
        strategy="auto" if team.world == 1 else DDPStrategy(find_unused_parameters=True),
        sync_batchnorm=config.sync_batchnorm and device == "cuda" and team.world > 1,
        use_distributed_sampler=False,  # batches are shared out where they are cut
        precision=precision_name(config, device),
        deterministic="warn" if device == "cuda" else None,
        max_epochs=config.epochs,
        accumulate_grad_batches=config.accumulate,
        log_every_n_steps=config.log_every,
        num_sanity_val_steps=0,
        default_root_dir=run.path,
        logger=board,
        plugins=[WholeCheckpointIO()],
        callbacks=[*callbacks, *([PairsProgressBar(watch)] if progress else [])],
        enable_progress_bar=progress,
        enable_model_summary=False,
    )


def device_name(config: TrainingConfig) -> Literal["cpu", "cuda"]:
    """Return the device that ``config.device`` means on this machine.

    Raises
    ------
    ValueError
        Where CUDA is asked for and there is none.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("training.device is cuda, but torch finds no CUDA device; allowed here: auto, cpu")
    return "cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu"


def precision_name(config: TrainingConfig, device: Literal["cpu", "cuda"]) -> Literal["32-true", "bf16-mixed"]:
    """Return the precision that ``config.precision`` means on ``device``."""
    if config.precision != "auto":
        return config.precision
    native = device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16-mixed" if native else "32-true"


def _bring_best(resume: Path, run: RunFolder) -> None:
    best = resume.parent / run.best.name
    if best.is_file() and not run.best.exists():
        shutil.copyfile(best, run.best)


def _sentence(result: FitResult) -> str:
    best = (
        "no epoch was completed" if result.best_path is None else f"the best of them is epoch {result.best_epoch + 1}"
    )
    reasons = {
        "epochs": "training ended after all epochs",
        "patience": "training stopped early, since the score no longer improved",
        "interrupt": f"training was interrupted; go on with --resume {result.last_path.parent}",
        "sigterm": f"training was asked to end (SIGTERM); go on with --resume {result.last_path.parent}",
    }
    return f"{reasons[result.stopped]}: epochs {result.epochs}, steps {result.steps}, {result.seconds:.0f} s; {best}"


@contextmanager
def _calm_console() -> Iterator[None]:
    """Keep Lightning's notices and its harmless warnings off the console, and log lines clear of the progress bar."""
    lightning_logger = logging.getLogger("lightning.pytorch")
    level = lightning_logger.level
    lightning_logger.setLevel(logging.WARNING)
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        for message in HARMLESS_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        if sys.stderr.isatty():
            stack.enter_context(logging_redirect_tqdm())
        try:
            yield
        finally:
            lightning_logger.setLevel(level)

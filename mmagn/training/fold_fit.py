"""The fit of one fold of many: trained as a run is, without a run folder."""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from mmagn.training.averaging import MovingAverage
from mmagn.training.callbacks import NonFiniteLossError, PatienceStop, StepWatch
from mmagn.training.device import device_name
from mmagn.training.module import SELECTION, AgnModule
from mmagn.training.side_by_side import pass_turn
from mmagn.training.trainer import calm_console, own_stream, plain_trainer


@dataclass(frozen=True, kw_only=True)
class FoldFit:
    """Result of a fit.

    Attributes
    ----------
    best_epoch, best_score
        Latest epoch from 0 at which a branch was at its best, and the best validation average precision on average over
        the branches, or minus the loss where the validation rows lack a class.
    epochs
        Epochs trained.
    """

    best_epoch: int
    best_score: float
    epochs: int


def fold_fit(module: AgnModule, datamodule: LightningDataModule) -> FoldFit:
    """Train a module and leave each branch of its model with the weights of its best epoch, in evaluation mode.

    ``NonFiniteLossError`` where a loss, or every validation score, is not finite.
    """
    config = module.config
    average = MovingAverage(config.ema) if config.ema else None
    best = BestEpochs(average)
    callbacks: list[Any] = [StepWatch(None, config.log_every), PatienceStop(config.patience), best]
    with calm_console(), own_stream(device_name(config)):
        trainer = plain_trainer(config, [*([average] if average else []), *callbacks])
        trainer.fit(module, datamodule=datamodule)
    if best.epoch < 0:
        raise NonFiniteLossError("no epoch has a finite validation score; lower the learning rate", ())
    module.best.restore()
    module.model.eval()
    return FoldFit(best_epoch=best.epoch, best_score=best.score, epochs=trainer.current_epoch)


class BestEpochs(Checkpoint):
    """Keep the weights of the best epoch of each branch in memory, and let other fits continue after each step.

    ``score`` and ``epoch`` are the largest selection score and its epoch from 0; -inf and -1 before the first.
    """

    def __init__(self, average: MovingAverage | None) -> None:
        self.average = average
        self.score, self.epoch = float("-inf"), -1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Pass the turn."""
        pass_turn()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy the weights of branches that are better than ever."""
        assert isinstance(pl_module, AgnModule)
        with nullcontext() if self.average is None else self.average.in_place():
            if pl_module.best.update():
                self.score, self.epoch = float(trainer.callback_metrics[SELECTION]), trainer.current_epoch

"""The fit of one fold of many: trained as a run is, without a run folder."""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

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
        Epoch from 0 whose weights the model has now, and its validation average precision on average over all
        views, or minus its validation loss where the validation rows lack a class.
    epochs
        Epochs trained.
    """

    best_epoch: int
    best_score: float
    epochs: int


def fold_fit(module: AgnModule, datamodule: LightningDataModule) -> FoldFit:
    """Train a module and leave its model with the weights of the best epoch, in evaluation mode.

    Raises
    ------
    NonFiniteLossError
        Where a loss, or every validation score, is not finite.
    """
    config = module.config
    average = MovingAverage(config.ema) if config.ema else None
    best = BestWeights(average)
    callbacks: list[Any] = [StepWatch(None, config.log_every), PatienceStop(config.patience), best, TakeTurns()]
    with calm_console(), own_stream(device_name(config)):
        trainer = plain_trainer(config, [*([average] if average else []), *callbacks])
        trainer.fit(module, datamodule=datamodule)
    if best.epoch < 0:
        raise NonFiniteLossError("no epoch has a finite validation score; lower the learning rate", ())
    module.model.load_state_dict(best.state)
    module.model.eval()
    return FoldFit(best_epoch=best.epoch, best_score=best.score, epochs=trainer.current_epoch)


class TakeTurns(Callback):
    """Let other fits go on after each step."""

    def on_train_batch_end(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,  # noqa: ARG002
        outputs: Any,  # noqa: ARG002
        batch: Any,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Pass the turn."""
        pass_turn()


class BestWeights(Checkpoint):
    """Keep the weights of the best epoch in memory.

    Parameters
    ----------
    average
        The moving average of the weights, which is kept then; None where there is none.

    Attributes
    ----------
    state
        State dict of the model.
    score, epoch
        Its selection score and its epoch from 0; -inf and -1 before the first.
    """

    def __init__(self, average: MovingAverage | None) -> None:
        self.average = average
        self.state: dict[str, Tensor] = {}
        self.score, self.epoch = float("-inf"), -1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy the weights where the score is the best so far."""
        assert isinstance(pl_module, AgnModule)
        score = float(trainer.callback_metrics[SELECTION])
        if score > self.score:
            self.score, self.epoch = score, trainer.current_epoch
            with nullcontext() if self.average is None else self.average.in_place():
                self.state = {name: value.clone() for name, value in pl_module.model.state_dict().items()}

"""Training without a run folder: one of the many fits of a cross-validation, with as little around it as possible.

The optimisation is that of :func:`mmagn.training.fit.fit` (Adam and the course of its rate, weighted loss, clipping,
averaging, patience on the validation average precision of all views, random numbers from seed, epoch and step alone);
loggers, checkpoints and figures are left out.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mmagn.tensors.batches import Batch, OrderedBatches, ShuffledBatches
from mmagn.training.callbacks import NonFiniteLossError
from mmagn.training.config import TrainingConfig
from mmagn.training.fit import device_name, precision_name
from mmagn.training.losses import weighted_bce
from mmagn.training.module import NarrowViews, step_seed
from mmagn.training.optimiser import optimiser, schedule

Augment = Callable[[Batch, torch.Generator], Batch]
BatchOf = Callable[[Tensor], Batch]


@dataclass(frozen=True, kw_only=True)
class ShortFit:
    """What came of a fit.

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


def short_fit(
    model: nn.Module,
    batch_of: BatchOf,
    train: Tensor,
    validation: Tensor,
    config: TrainingConfig,
    *,
    pos_weight: float,
    seed: int,
    augment: Augment,
    views: NarrowViews | None = None,
) -> ShortFit:
    """Train a model in place and leave it with the weights of its best epoch, in evaluation mode.

    Parameters
    ----------
    model
        Maps a batch to (batch,) logits.
    batch_of
        Batch of the given rows, on the device of the training, with ``target``.
    train, validation
        (object,) int64 rows.
    config
        Settings of the optimisation.
    pos_weight
        Weight of the positive class in the loss.
    seed
        Seed of order, augmentation and dropout.
    augment
        Random changes of a training batch.
    views
        What validation asks about besides whole batches; the best epoch is the best on average over all of it.

    Raises
    ------
    NonFiniteLossError
        Where the loss of an epoch is not finite.
    """
    device = device_name(config)
    precision = torch.autocast(device, torch.bfloat16, enabled=precision_name(config, device) == "bf16-mixed")
    model.to(device)
    model.to(memory_format=torch.channels_last)  # on CPUs too: an image backbone trains 1.6 times as fast
    weight = torch.tensor(pos_weight, device=device)
    order = ShuffledBatches(train, config.batch_size, seed)
    steps = _Steps(model, config, math.ceil(len(order) / config.accumulate))
    best_score, best_epoch, epoch, best_state = -np.inf, -1, -1, {}
    while epoch + 1 < config.epochs and epoch - max(best_epoch, 0) < config.patience:
        epoch += 1
        order.set_epoch(epoch)
        model.train()
        total = torch.zeros((), device=device)
        for step, rows in enumerate(order.batches()):
            generator = torch.Generator(device=device).manual_seed(step_seed(seed, epoch, step, 1))
            batch = augment(batch_of(rows), generator)
            torch.manual_seed(step_seed(seed, epoch, step, 0))
            with precision:
                logits = model(batch)
            loss = weighted_bce(logits.float(), batch["target"], weight).mean()
            torch.autograd.backward(loss / config.accumulate)
            if (step + 1) % config.accumulate == 0 or step + 1 == len(order):
                steps.take()
            total += loss.detach()
        if not torch.isfinite(total):
            raise NonFiniteLossError(f"the loss of epoch {epoch + 1} is {float(total)}; lower the learning rate", ())
        asked = [batch_of, *(_viewed(batch_of, view) for view in (views or {}).values())]
        scores = [_selection_score(steps.judged, each, validation, weight, precision) for each in asked]
        score = sum(scores) / len(scores)
        if score > best_score:
            best_score, best_epoch = score, epoch
            best_state = {name: value.detach().clone() for name, value in steps.judged.state_dict().items()}
    model.load_state_dict(best_state)
    model.eval()
    return ShortFit(best_epoch=best_epoch, best_score=float(best_score), epochs=epoch + 1)


class _Steps:
    """The optimiser of a model with all that belongs to a step: clipping, course of the rate, average of the weights.

    Attributes
    ----------
    judged
        The model, or the moving average of its weights: what is validated and kept.
    """

    def __init__(self, model: nn.Module, config: TrainingConfig, steps_per_epoch: int) -> None:
        self.model, self.config, self.judged = model, config, model
        self.adam = optimiser(model, config)
        self.rates = schedule(self.adam, config, steps_per_epoch)
        self.average: AveragedModel | None = None
        if config.ema:
            decaying = get_ema_multi_avg_fn(config.ema)  # type: ignore[no-untyped-call]
            self.average = AveragedModel(model, multi_avg_fn=decaying, use_buffers=True)
            self.judged = self.average.module

    def take(self) -> None:
        """Take a step with the gradients that there are, and start new ones."""
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip or float("inf"))
        self.adam.step()
        self.adam.zero_grad()
        self.rates.step()
        if self.average is not None:
            self.average.update_parameters(self.model)


def _viewed(batch_of: BatchOf, view: Callable[[Batch], Batch]) -> BatchOf:
    return lambda rows: view(batch_of(rows))


@torch.inference_mode()
def _selection_score(
    model: nn.Module,
    batch_of: BatchOf,
    rows: Tensor,
    weight: Tensor,
    precision: torch.autocast,
) -> float:
    """Average precision on the validation rows, minus the loss where they lack a class."""
    model.eval()
    with precision:
        parts = [(model(batch), batch["target"]) for batch in map(batch_of, OrderedBatches(rows, 256).batches())]
    logits, target = (torch.cat(values).float() for values in zip(*parts, strict=True))
    if not torch.isfinite(logits).all():
        raise NonFiniteLossError("a validation logit is not finite; lower the learning rate", ())
    if 0 < float(target.sum()) < len(target):
        return float(average_precision_score(target.cpu().numpy(), logits.cpu().numpy()))
    return -float(weighted_bce(logits, target, weight).mean())

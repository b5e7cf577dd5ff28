"""Many fits of a small head at once: folds and seeds side by side, as one batch of networks.

Each member is optimised as :func:`mmagn.training.fold_fit.fold_fit` would do it alone: its own rows, order, dropout,
Adam, clipping, patience and best epoch. What else is in the batch changes nothing for it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from mmagn.tensors.batches import ShuffledBatches
from mmagn.training.callbacks import NonFiniteLossError
from mmagn.training.captured import CapturedFunction, CudaGraphs
from mmagn.training.config import TrainingConfig
from mmagn.training.fold_fit import FoldFit
from mmagn.training.heads.adam import BETAS, MemberState, adam_step
from mmagn.training.heads.average_precision import average_precisions
from mmagn.training.heads.stacked import StackedHeads
from mmagn.training.losses import weighted_bce
from mmagn.training.optimiser import learning_rate_factor
from mmagn.training.trainer import own_stream

STEPS_AT_ONCE = 64
"""Steps in one recording."""
_PREDICTED_AT_ONCE = 4096
_DROPOUT = 2
"""Separates the draws of dropout from others that come from (seed, epoch)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Member:
    """One fit among many.

    Attributes
    ----------
    train, validation
        (object,) rows to fit on, and to choose the epoch on.
    pos_weight, seed
        Weight of the positive class in the loss, and seed of order and dropout.
    view
        Which of the views of the inputs it sees, such as the one that was scaled by its fold.
    """

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    pos_weight: float
    seed: int
    view: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class _Epoch:
    """Batches and dropout of the members in one epoch.

    Attributes
    ----------
    rows, place
        (step, member, slot) rows, 0 where padded, and their numbers in the member's order.
    weight
        (step, member, slot) 1 over the size of the batch and the batches of a step, 0 where padded.
    active
        (step, member, 1) 1 where the optimiser of the member takes a step; 0 where it has no batch or accumulates more.
    kept
        (member, row, unit) bool: False where dropout takes a unit away.
    """

    rows: Tensor
    weight: Tensor
    active: Tensor
    place: Tensor
    kept: Tensor


def many_fits(
    heads: Sequence[nn.Sequential], inputs: Tensor, target: Tensor, members: Sequence[Member], config: TrainingConfig
) -> list[FoldFit]:
    """Train all heads in place, leave each with the weights of its best epoch, in evaluation mode, and return results.

    All arithmetic is float32.

    Parameters
    ----------
    heads, members
        (member,) networks of one architecture with their first weights, of Linear layers with bias, Dropout, and layers
        without weights between them, such as ``FusionHeads.head``; and what each is fitted to.
    inputs
        (view, object, feature) float32 on the device of the training; (object, feature) is one view.
    target
        (object,) float32: 1, 0 or the probability of 1; or (view, object) where it differs from view to view.
    config
        Settings of the optimisation.

    Raises
    ------
    NonFiniteLossError
        Where a loss or a validation logit is not finite; names the members.
    ValueError
        Where a member has fewer than two rows to train on, or none to validate on.
    """
    for number, member in enumerate(members):
        if len(member.train) < 2 or not len(member.validation):
            raise ValueError(
                f"member {number} has {len(member.train)} rows to train and {len(member.validation)} to validate on; "
                "needed: 2 and 1 or more"
            )
    batch = _MemberBatch(heads, inputs if inputs.ndim == 3 else inputs[None], target, members, config)
    with own_stream(inputs.device.type):
        return batch.fitted()


@torch.inference_mode()
def many_logits(heads: Sequence[nn.Sequential], inputs: Tensor, views: Sequence[int]) -> Tensor:
    """(member, object) logits of all objects from every head, without dropout.

    Heads and inputs (view, object, feature) are as for :func:`many_fits`; ``views`` (member,) what each head sees.
    """
    stacked, view = StackedHeads(heads, inputs.device), torch.tensor(list(views), device=inputs.device)
    parts = stacked.parts(stacked.weights)
    return torch.cat(
        [stacked.logits(parts, some[view]) for some in torch.split(inputs, _PREDICTED_AT_ONCE, dim=1)], dim=1
    )


class _MemberBatch:
    """Fits of heads of one architecture; views are (view, object, feature), targets (object,) or (view, object)."""

    def __init__(
        self,
        heads: Sequence[nn.Sequential],
        views: Tensor,
        target: Tensor,
        members: Sequence[Member],
        config: TrainingConfig,
    ) -> None:
        self.heads, self.members, self.config = heads, members, config
        self.views, self.target, self.device = views, target.float().expand(views.shape[:2]), views.device
        self.stacked = StackedHeads(heads, views.device)
        self.orders = [
            ShuffledBatches(torch.from_numpy(member.train), config.batch_size, member.seed) for member in members
        ]
        self.graphs = CudaGraphs(self.device) if self.device.type == "cuda" else None
        sizes = [[len(rows) for rows in order.batches()] for order in self.orders]
        self.places = [_places(size) for size in sizes]

    def fitted(self) -> list[FoldFit]:
        """Results; the heads have the weights of their best epochs."""
        epoch = 0
        results: dict[int, FoldFit] = {}
        self._keep(self._start())
        while self.running.any():
            state = self.state
            self._train(self._epoch(state, epoch), epoch)
            score = self._scores(state)
            better = score > state.best_score
            state.best_score = torch.where(better, score, state.best_score)
            state.best_epoch = torch.where(better, epoch, state.best_epoch)
            state.best_weights = torch.where(better[:, None], state.average, state.best_weights)
            epoch += 1
            out_of_patience = epoch - 1 - state.best_epoch.clamp(min=0) >= self.config.patience
            ended = self.running & (out_of_patience | (epoch >= self.config.epochs))
            if ended.any():
                results |= self._results(state.of(ended), epoch)
                self.running &= ~ended
                if self.graphs is None or 2 * int(self.running.sum()) < len(self.running):
                    self._keep(state.of(self.running))
        return [results[number] for number in range(len(self.heads))]

    def _keep(self, state: MemberState) -> None:
        """Train these members from now on; on a GPU their epochs are recorded anew."""
        self.state, self.gathered = state, torch.zeros_like(state.weights)
        self.running = torch.ones(len(state.number), dtype=torch.bool, device=self.device)
        self.scale = (1 / self.stacked.keep[state.number.cpu()]).to(self.device)[:, None]
        record = None if self.graphs is None else self.graphs.record
        self._steps = CapturedFunction(self._losses_of_steps, "the fit of many heads", record)

    def _results(self, state: MemberState, epochs: int) -> dict[int, FoldFit]:
        results = {}
        for row, number in enumerate(state.number.tolist()):
            self.stacked.write(state.best_weights[row], self.heads[number])
            self.heads[number].eval()
            results[number] = FoldFit(
                best_epoch=int(state.best_epoch[row]), best_score=float(state.best_score[row]), epochs=epochs
            )
        return results

    def _start(self) -> MemberState:
        weights, count = self.stacked.weights, len(self.members)
        rows = [torch.from_numpy(member.validation) for member in self.members]
        flags = [torch.ones(len(part), dtype=torch.bool) for part in rows]
        return MemberState(
            number=torch.arange(count, device=self.device),
            weights=weights.clone(),
            mean=torch.zeros_like(weights),
            square=torch.zeros_like(weights),
            average=weights.clone(),
            best_weights=weights.clone(),
            steps=torch.zeros((count, 1), dtype=torch.float64, device=self.device),
            decay=torch.full((count, 1), self.config.weight_decay, device=self.device).float(),
            clip=torch.full((count, 1), self.config.gradient_clip or torch.inf, device=self.device).float(),
            pos_weight=torch.tensor([[each.pos_weight] for each in self.members], device=self.device).float(),
            view=torch.tensor([member.view for member in self.members], device=self.device),
            validation=pad_sequence(rows, batch_first=True).to(self.device),
            valid=pad_sequence(flags, batch_first=True).to(self.device),
            best_epoch=torch.full((count,), -1, device=self.device),
            best_score=torch.full((count,), -torch.inf, dtype=torch.float64, device=self.device),
        )

    def _epoch(self, state: MemberState, epoch: int) -> _Epoch:
        """Order and dropout of an epoch: functions of seed and epoch of each member alone."""
        orders, kept = [], []
        numbers = state.number.tolist()
        for number in numbers:
            self.orders[number].set_epoch(epoch)
            orders.append(torch.cat(self.orders[number].batches()))
            kept.append(self._kept(number, epoch))
        # (member, step, slot) -> (step, member, slot), so that a step is one piece of memory
        steps = max(len(self.places[number]) for number in numbers)
        slots = max(self.places[number].shape[1] for number in numbers)
        place = torch.full((len(numbers), steps, slots), -1)
        for row, number in enumerate(numbers):
            own = self.places[number]
            place[row, : own.shape[0], : own.shape[1]] = own
        place = place.transpose(0, 1).contiguous()
        counted = place >= 0
        place.clamp_(min=0)
        order = pad_sequence(orders, batch_first=True)
        rows = order[torch.arange(len(numbers))[:, None], place]
        several, count = self.config.accumulate, counted.sum(2, keepdim=True)
        batch = torch.arange(1, steps + 1)[:, None, None]
        last = (count > 0).sum(0)
        active = (count > 0) & ((batch % several == 0) | (batch == last))
        return _Epoch(
            rows=rows.to(self.device),
            weight=(counted / (count * several).clamp(min=1)).to(self.device),
            active=active.double().to(self.device),
            place=place.to(self.device),
            kept=pad_sequence(kept, batch_first=True).to(self.device),
        )

    def _kept(self, number: int, epoch: int) -> Tensor:
        """(row, unit) bool of one member, in the order of the epoch."""
        member, keep = self.members[number], self.stacked.keep[number].numpy()
        draws = np.random.default_rng((member.seed, epoch, _DROPOUT))
        return torch.from_numpy(draws.random((len(member.train), len(keep)), dtype=np.float32) < keep)

    def _train(self, batches: _Epoch, epoch: int) -> None:
        """Take all steps of an epoch."""
        state = self.state
        taken = state.steps + batches.active.cumsum(0)
        steps = taken.clamp(min=1)  # before its first step a member is not active
        rates = batches.active * self.config.learning_rate * self._factors(state, steps) / (1 - BETAS[0] ** steps)
        blends = (batches.active * torch.where(taken == 1, 1.0, 1 - self.config.ema)).float()
        state.steps = taken[-1]
        steps_of = {
            "rows": batches.rows,
            "weight": batches.weight,
            "place": batches.place,
            "active": batches.active.float(),
            "rate": rates.float(),
            "spread": (1 - BETAS[1] ** steps).sqrt().float(),
            "blend": blends,
        }
        total = torch.zeros(len(state.number), device=self.device)
        for first in range(0, len(batches.rows), STEPS_AT_ONCE):
            part = {name: values[first : first + STEPS_AT_ONCE] for name, values in steps_of.items()}
            total += self._steps({**part, "kept": batches.kept})[0]
        if not (torch.isfinite(total) | ~self.running).all():
            self._refuse(state, ~torch.isfinite(total) & self.running, f"the loss of epoch {epoch + 1}")

    def _losses_of_steps(self, batches: dict[str, Tensor], _: None) -> tuple[Tensor]:
        """(member,) sum of the losses of steps, which are taken: a function of tensors alone."""
        state, widths = self.state, self.stacked.dropout_widths
        parts = [part.requires_grad_() for part in self.stacked.parts(state.weights)]
        member, view = torch.arange(len(state.number), device=self.device)[:, None], state.view[:, None]
        total = torch.zeros(len(state.number), device=self.device)
        for step in range(len(batches["rows"])):
            rows, active = batches["rows"][step], batches["active"][step]
            kept = batches["kept"][member, batches["place"][step]] * self.scale
            factors = torch.split(kept, widths, dim=2) if widths else ()
            logits = self.stacked.logits(parts, self.views[view, rows], factors)
            losses = weighted_bce(logits, self.target[view, rows], state.pos_weight)
            loss = (losses * batches["weight"][step]).sum(1)
            gradients = torch.autograd.grad(loss.sum(), parts)
            total += loss.detach()
            with torch.no_grad():
                self.gathered += torch.cat([part.flatten(1) for part in gradients], dim=1)
                adam_step(state, self.gathered.clone(), active, batches["rate"][step], batches["spread"][step])
                state.average.lerp_(state.weights, batches["blend"][step])
                self.gathered *= 1 - active
        return (total,)

    def _factors(self, state: MemberState, taken: Tensor) -> Tensor:
        """(step, member, 1) factors of the learning rate in steps that are counted from 1."""
        factors = torch.ones_like(taken)
        if self.config.schedule != "constant" or self.config.warmup_epochs:
            for row, number in enumerate(state.number.tolist()):
                each = math.ceil(len(self.orders[number]) / self.config.accumulate)
                steps = (taken[:, row, 0] - 1).tolist()
                values = [learning_rate_factor(int(step), self.config, each) for step in steps]
                factors[:, row, 0] = torch.tensor(values, dtype=factors.dtype)
        return factors

    @torch.no_grad()
    def _scores(self, state: MemberState) -> Tensor:
        """(member,) validation average precision, minus the loss where a class is absent."""
        logits = self.stacked.logits(
            self.stacked.parts(state.average), self.views[state.view[:, None], state.validation]
        )
        finite = (torch.isfinite(logits) | ~state.valid).all(1) | ~self.running
        if not finite.all():
            self._refuse(state, ~finite, "a validation logit")
        target, counts = self.target[state.view[:, None], state.validation], state.valid.sum(1)
        positives = (target * state.valid).sum(1)
        losses = (weighted_bce(logits, target, state.pos_weight) * state.valid).sum(1) / counts
        both_classes = (positives > 0) & (positives < counts)
        return torch.where(both_classes, average_precisions(logits, target, state.valid), -losses.double())

    def _refuse(self, state: MemberState, members: Tensor, what: str) -> None:
        names = ", ".join(map(str, state.number[members].tolist()))
        raise NonFiniteLossError(f"{what} is not finite for member {names}; lower the learning rate", ())


def _places(sizes: Sequence[int]) -> Tensor:
    """(step, slot) number of each row in the order of an epoch whose batches have these sizes; -1 where padded."""
    places = list(torch.split(torch.arange(sum(sizes)), list(sizes)))
    return pad_sequence(places, batch_first=True, padding_value=-1)

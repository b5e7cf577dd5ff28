"""The optimisation behind many fits: heads of one architecture, trained step by step until the last one has stopped."""

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
    config
        Settings of the optimisation; learning rate, weight decay, clipping, batch size, epochs and patience may
        differ from member to member.
    view
        Which of the views of the inputs it sees, such as the one that was scaled by its fold.
    """

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    pos_weight: float
    seed: int
    config: TrainingConfig
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


class MemberBatch:
    """Fits of heads of one architecture, and ``numbers`` (member,) by which results and errors name them.

    Views are (view, object, feature), targets (object,) or (view, object).
    """

    def __init__(
        self,
        heads: Sequence[nn.Sequential],
        views: Tensor,
        target: Tensor,
        members: Sequence[Member],
        numbers: Sequence[int],
    ) -> None:
        self.heads, self.members, self.numbers = heads, members, numbers
        self.views, self.target, self.device = views, target.float().expand(views.shape[:2]), views.device
        self.stacked = StackedHeads(heads, views.device)
        self.orders = [
            ShuffledBatches(torch.from_numpy(member.train), member.config.batch_size, member.seed) for member in members
        ]
        self.graphs = CudaGraphs(self.device) if self.device.type == "cuda" else None
        sizes = [[len(rows) for rows in order.batches()] for order in self.orders]
        self.places = [_places(size) for size in sizes]

    def fitted(self) -> dict[int, FoldFit]:
        """Results by number; the heads have the weights of their best epochs."""
        with own_stream(self.device.type):
            return self._fitted()

    def _fitted(self) -> dict[int, FoldFit]:
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
            out_of_patience = epoch - 1 - state.best_epoch.clamp(min=0) >= state.patience
            ended = self.running & (out_of_patience | (epoch >= state.epochs))
            if ended.any():
                results |= self._results(state.of(ended), epoch)
                self.running &= ~ended
                if self.graphs is None or 2 * int(self.running.sum()) < len(self.running):
                    self._keep(state.of(self.running))
        return results

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
            results[self.numbers[number]] = FoldFit(
                best_epoch=int(state.best_epoch[row]), best_score=float(state.best_score[row]), epochs=epochs
            )
        return results

    def _start(self) -> MemberState:
        weights, count = self.stacked.weights, len(self.members)
        configs = [member.config for member in self.members]

        def column(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float64, device=self.device)[:, None]

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
            rate=column([config.learning_rate for config in configs]),
            decay=column([config.weight_decay for config in configs]).float(),
            clip=column([config.gradient_clip or float("inf") for config in configs]).float(),
            blend=column([1 - config.ema for config in configs]),
            pos_weight=column([member.pos_weight for member in self.members]).float(),
            view=torch.tensor([member.view for member in self.members], device=self.device),
            validation=pad_sequence(rows, batch_first=True).to(self.device),
            valid=pad_sequence(flags, batch_first=True).to(self.device),
            epochs=torch.tensor([config.epochs for config in configs], device=self.device),
            patience=torch.tensor([config.patience for config in configs], device=self.device),
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
        several = torch.tensor([self.members[number].config.accumulate for number in numbers])[:, None]
        count = counted.sum(2, keepdim=True)
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
        rates = batches.active * state.rate * self._factors(state, steps) / (1 - BETAS[0] ** steps)
        blends = (batches.active * torch.where(taken == 1, 1.0, state.blend)).float()
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
        for row, number in enumerate(state.number.tolist()):
            config = self.members[number].config
            if config.schedule != "constant" or config.warmup_epochs:
                each = math.ceil(len(self.orders[number]) / config.accumulate)
                steps = (taken[:, row, 0] - 1).tolist()
                values = [learning_rate_factor(int(step), config, each) for step in steps]
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
        names = ", ".join(str(self.numbers[number]) for number in state.number[members].tolist())
        raise NonFiniteLossError(f"{what} is not finite for member {names}; lower the learning rate", ())


def _places(sizes: Sequence[int]) -> Tensor:
    """(step, slot) number of each row in the order of an epoch whose batches have these sizes; -1 where padded."""
    places = list(torch.split(torch.arange(sum(sizes)), list(sizes)))
    return pad_sequence(places, batch_first=True, padding_value=-1)

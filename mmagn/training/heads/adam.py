"""Weights and optimiser of many heads side by side: what changes in training, and one step of Adam for all of them."""

from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

BETAS, _EPSILON = (0.9, 0.999), 1e-8
"""Those of ``torch.optim.Adam``."""
_CLIP_EPSILON = 1e-6
"""That of ``torch.nn.utils.clip_grad_norm_``."""


@dataclass(kw_only=True, eq=False)
class MemberState:
    """Weights and optimiser of the members that are still in training; the first axis is member.

    Attributes
    ----------
    number
        (member,) place among the heads.
    weights, mean, square, average, best_weights
        (member, parameter) weights, moments of their gradients, moving average, and that of the best epoch.
    steps, decay, clip, pos_weight
        (member, 1) optimiser steps taken, weight decay, largest norm of the gradient, and weight of the positives.
    validation, valid
        (member, object) rows to validate on, and False where they are padding.
    view, best_epoch, best_score
        (member,).
    """

    number: Tensor
    weights: Tensor
    mean: Tensor
    square: Tensor
    average: Tensor
    best_weights: Tensor
    steps: Tensor
    decay: Tensor
    clip: Tensor
    pos_weight: Tensor
    view: Tensor
    validation: Tensor
    valid: Tensor
    best_epoch: Tensor
    best_score: Tensor

    def of(self, rows: Tensor) -> Self:
        """Return the state of some of the members."""
        return type(self)(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def adam_step(state: MemberState, gradient: Tensor, active: Tensor, rate: Tensor, spread: Tensor) -> None:
    """Clip and take one step of Adam (Kingma & Ba 2015) where ``active`` is 1; leave everything where it is 0.

    The state is changed in place by the gradient (member, parameter). Of each (member, 1): ``active``, ``rate``, the
    learning rate over the bias of the first moment, and ``spread``, the root of the bias of the second.
    """
    norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
    gradient.mul_((state.clip / (norm + _CLIP_EPSILON)).clamp(max=1))
    gradient.addcmul_(state.decay, state.weights)
    state.mean.lerp_(gradient, (1 - BETAS[0]) * active)
    state.square.lerp_(gradient.square_(), (1 - BETAS[1]) * active)
    state.weights.sub_(rate * state.mean / (state.square.sqrt() / spread + _EPSILON))

"""The optimiser of a network: learning rates by layer and by step, and gradients clipped to a norm."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmagn.models.image_branch import layer_groups
from mmagn.training.config import TrainingConfig

_CLIP_EPSILON = 1e-6
"""That of ``torch.nn.utils.clip_grad_norm_``."""


def optimiser(model: nn.Module, config: TrainingConfig) -> torch.optim.Adam:
    """Adam over the parameters of a model that is on its device already; one fused kernel a step on CPU and CUDA."""
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in model.parameters())
    groups = parameter_groups(model, config) if config.layer_decay < 1 else model.parameters()
    return torch.optim.Adam(groups, lr=config.learning_rate, weight_decay=config.weight_decay, fused=fused or None)


def parameter_groups(model: nn.Module, config: TrainingConfig) -> list[dict[str, Any]]:
    """Groups of parameters with their learning rates: a group per layer of an image backbone, and one of all others."""
    backbones = [module for module in model.modules() if hasattr(module, "group_matcher")]
    groups = [
        {"params": group["params"], "lr": config.learning_rate * group["lr_scale"]}
        for backbone in backbones
        for group in layer_groups(backbone, config.layer_decay)
    ]
    grouped = {parameter for group in groups for parameter in group["params"]}
    return [*groups, {"params": [parameter for parameter in model.parameters() if parameter not in grouped]}]


def learning_rate_factor(step: int, config: TrainingConfig, steps_per_epoch: int) -> float:
    """Factor of the learning rate in a step of the optimiser, counted from 0 over all epochs: up to 1.

    It rises in a straight line over the warm-up, then stays, or falls along half a cosine (Loshchilov & Hutter 2017)
    that would reach 0 one step after the last epoch.
    """
    warmup, total = config.warmup_epochs * steps_per_epoch, config.epochs * steps_per_epoch
    if step < warmup:
        return min(1.0, (step + 1) / (warmup + 1))
    if config.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1.0, total - warmup))))


class LearningRates:
    """Learning rates of an optimiser, a function of the number of the step alone.

    On a GPU they are tensors, so that a captured step reads them, and the optimiser keeps its own count of steps there.
    ``base`` are the learning rates of its groups at factor 1.
    """

    def __init__(self, adam: torch.optim.Optimizer, base: Sequence[float], device: torch.device) -> None:
        self.adam, self.base = adam, base
        self._factor = 0.0
        for group, rate in zip(adam.param_groups, base, strict=True):
            group["capturable"] = device.type == "cuda"
            group["lr"] = torch.tensor(rate, device=device) if group["capturable"] else rate

    def set(self, factor: float) -> None:
        """Multiply the learning rates of all groups at factor 1 by a factor."""
        if factor == self._factor:
            return
        self._factor = factor
        for group, rate in zip(self.adam.param_groups, self.base, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * factor)
            else:
                group["lr"] = rate * factor

    @property
    def largest(self) -> float:
        """Largest learning rate of all groups."""
        return max(self.base) * self._factor


@torch.no_grad()
def clipped_gradients(model: nn.Module, largest: float) -> Tensor:
    """(1 + part,) norms of the gradient before it is clipped: of the whole model, then of each of its children.

    The gradients of the model are clipped in place to the norm ``largest``; 0 does not clip.
    """
    parts = [model.parameters(recurse=False), *(part.parameters() for part in model.children())]
    gradients = [[weight.grad for weight in part if weight.grad is not None] for part in parts]
    every = [gradient for part in gradients for gradient in part]
    norms = torch.stack(torch._foreach_norm(every))
    total = norms.norm()
    torch._foreach_mul_(every, ((largest or math.inf) / (total + _CLIP_EPSILON)).clamp(max=1.0))
    _, *children = torch.split(norms, [len(part) for part in gradients])
    return torch.stack([total, *(part.norm() for part in children)])

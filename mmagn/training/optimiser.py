"""The optimiser of a network and the course of its learning rate; the same for a run and for one fit of many."""

import math
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from mmagn.models.image_branch import layer_groups
from mmagn.training.config import TrainingConfig


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


def schedule(adam: torch.optim.Optimizer, config: TrainingConfig, steps_per_epoch: int) -> LambdaLR:
    """Scheduler that is stepped after every step of the optimiser."""
    return LambdaLR(adam, lambda step: learning_rate_factor(step, config, steps_per_epoch))

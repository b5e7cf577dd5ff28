"""The device and the number types that a setting means on this machine."""

from typing import Literal

import torch

from mmagn.training.config import TrainingConfig

Device = Literal["cpu", "cuda"]


def device_name(config: TrainingConfig) -> Device:
    """Return the device that ``config.device`` means on this machine; ``ValueError`` for cuda where there is none."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("training.device is cuda, but torch finds no CUDA device; allowed here: auto, cpu")
    return "cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu"


def precision_name(config: TrainingConfig, device: str) -> Literal["32-true", "bf16-mixed"]:
    """Return the precision that ``config.precision`` means on ``device``."""
    if config.precision != "auto":
        return config.precision
    native = device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16-mixed" if native else "32-true"


def autocast(config: TrainingConfig, device: torch.device) -> torch.autocast:
    """Return a block within which a network runs in the precision that ``config`` means on a device."""
    mixed = precision_name(config, device.type) == "bf16-mixed"
    return torch.autocast(device.type, torch.bfloat16, enabled=mixed)

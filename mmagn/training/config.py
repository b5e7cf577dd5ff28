"""Settings of the optimisation."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How the network is trained.

    Attributes
    ----------
    epochs
        Largest number of passes over the training split.
    batch_size
        Pairs per step.
    learning_rate
        Step size of the Adam optimiser.
    weight_decay
        L2 penalty of the Adam optimiser.
    pos_weight
        Weight of the positive class in the loss; null takes negatives / positives of the training split.
    gradient_clip
        Largest norm of the gradient; 0 does not clip.
    patience
        Epochs without a better validation average precision before the run stops.
    device
        ``auto`` takes CUDA where there is one.
    precision
        ``auto`` is bf16 mixed precision on GPUs that have it and float32 elsewhere.
    log_every
        Steps between logged losses; a loss that is not finite is noticed as often.
    figures_every
        Epochs between figures in TensorBoard.
    """

    epochs: int = 30
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    pos_weight: float | None = None
    gradient_clip: float = 1.0
    patience: int = 8
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    log_every: int = 5
    figures_every: int = 5

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience", "log_every", "figures_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"training.{name} is {getattr(self, name)}; allowed: 1 or more")
        if self.learning_rate <= 0:
            raise ValueError(f"training.learning_rate is {self.learning_rate}; allowed: above 0")
        if self.weight_decay < 0 or self.gradient_clip < 0:
            raise ValueError("training.weight_decay and training.gradient_clip must be 0 or more")
        if self.pos_weight is not None and self.pos_weight <= 0:
            raise ValueError(f"training.pos_weight is {self.pos_weight}; allowed: above 0, or null")

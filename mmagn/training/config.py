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
    features_first_epochs
        Largest number of epochs that the head of a network with features and other branches learns from the features
        alone, before all branches learn together; 0 lets all learn together from the start, as features that tell
        little do anyway.
    batch_size
        Pairs per batch, over all devices.
    accumulate
        Batches whose gradients are summed up into one step of the optimiser.
    learning_rate
        Step size of the Adam optimiser.
    schedule
        ``constant`` keeps the learning rate; ``cosine`` lowers it to 0 along half a cosine over all epochs.
    warmup_epochs
        Epochs, or a part of one, over which the learning rate rises from near 0 first; 0 starts with all of it.
    layer_decay
        Factor by which the learning rate of an image backbone shrinks from each layer to the one below it; 1 trains
        all layers alike. Below 1 is for pretrained backbones.
    ema
        Decay per step of the moving average of the weights, which is then what is validated, kept as the best
        checkpoint and exported; 0 takes the weights as they are.
    weight_decay
        L2 penalty of the Adam optimiser.
    pos_weight
        Weight of the positive class in the loss; null takes negatives / positives of the training split.
    gradient_clip
        Largest norm of the gradient; 0 does not clip.
    patience
        Epochs without a better validation average precision before the run, or its beginning with the features, stops;
        where modalities are dropped in training it is the mean of that of both, of images and of spectra alone.
    device
        ``auto`` takes CUDA where there is one.
    devices
        Devices of each machine that train together, a process for each, which ``torchrun`` or SLURM has started;
        ``auto`` takes as many as there are.
    nodes
        Machines that train together; ``auto`` takes as many as ``torchrun`` or SLURM has started.
    sync_batchnorm
        Normalise over the whole batch of all GPUs, as on one; else, and always on CPUs, each process normalises by
        its own part of it.
    precision
        ``auto`` is bf16 mixed precision on GPUs that have it and float32 elsewhere.
    compile
        Compile the network with torch.compile; one that cannot be compiled is trained as it is, with a warning.
    checkpoint_every_minutes
        Minutes between checkpoints within an epoch, beside those after each epoch; 0 writes one after every step.
    log_every
        Steps between logged losses; a loss that is not finite is noticed as often.
    figures_every
        Epochs between figures in TensorBoard.
    """

    epochs: int = 30
    features_first_epochs: int = 100
    batch_size: int = 16
    accumulate: int = 1
    learning_rate: float = 3e-3
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_epochs: float = 0.0
    layer_decay: float = 1.0
    ema: float = 0.0
    weight_decay: float = 1e-3
    pos_weight: float | None = None
    gradient_clip: float = 1.0
    patience: int = 12
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int | Literal["auto"] = "auto"
    nodes: int | Literal["auto"] = "auto"
    sync_batchnorm: bool = True
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    compile: bool = False
    checkpoint_every_minutes: float = 5.0
    log_every: int = 5
    figures_every: int = 5

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "patience", "log_every", "figures_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"training.{name} is {getattr(self, name)}; allowed: 1 or more")
        if self.features_first_epochs < 0:
            raise ValueError(f"training.features_first_epochs is {self.features_first_epochs}; allowed: 0 or more")
        for name in ("devices", "nodes"):
            asked = getattr(self, name)
            if asked != "auto" and asked < 1:
                raise ValueError(f"training.{name} is {asked}; allowed: 1 or more, or auto")
        if self.learning_rate <= 0:
            raise ValueError(f"training.learning_rate is {self.learning_rate}; allowed: above 0")
        if not 0 <= self.warmup_epochs <= self.epochs:
            raise ValueError(f"training.warmup_epochs is {self.warmup_epochs}; allowed: 0 to training.epochs")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"training.layer_decay is {self.layer_decay}; allowed: above 0 to 1")
        if not 0 <= self.ema < 1:
            raise ValueError(f"training.ema is {self.ema}; allowed: 0 to below 1")
        if self.checkpoint_every_minutes < 0:
            raise ValueError(
                f"training.checkpoint_every_minutes is {self.checkpoint_every_minutes}; allowed: 0 or more, where 0 is"
                " after every step"
            )
        if self.weight_decay < 0 or self.gradient_clip < 0:
            raise ValueError("training.weight_decay and training.gradient_clip must be 0 or more")
        if self.pos_weight is not None and self.pos_weight <= 0:
            raise ValueError(f"training.pos_weight is {self.pos_weight}; allowed: above 0, or null")

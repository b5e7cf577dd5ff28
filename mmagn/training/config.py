"""Settings of the optimisation."""

from dataclasses import dataclass
from typing import Literal

from mmagn.storage.settings import Settings, setting

LoggerName = Literal["tensorboard", "csv", "wandb", "mlflow"]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Settings):
    """How the network is trained.

    Attributes
    ----------
    epochs
        Largest number of passes over the training split.
    head_epochs
        Largest number of epochs of the heads of a network with several modalities, which are fitted to its finished
        branches.
    head_patience
        Epochs without a better validation average precision before those heads stop.
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
        Epochs without a better validation average precision of any branch before training stops.
    device
        ``auto`` takes CUDA where there is one.
    precision
        ``auto`` is bf16 mixed precision on GPUs that have it and float32 elsewhere.
    checkpoint_every_minutes
        Minutes between checkpoints within an epoch, beside those after each epoch; 0 writes one after every step.
    loggers
        Where losses, scores and figures are logged. The training curves of the report come from TensorBoard; wandb and
        mlflow need their packages, ``pip install 'mmagn[wandb]'``.
    log_every
        Steps between logged losses; a loss that is not finite is noticed as often.
    figures_every
        Epochs between figures of the validation split.
    """

    SECTION = "training"
    epochs: int = setting(30, "fit", at_least=1, resumable=True)
    head_epochs: int = setting(100, "fit", at_least=1)
    head_patience: int = setting(20, "fit", at_least=1)
    batch_size: int = setting(16, "fit", at_least=1)
    accumulate: int = setting(1, "fit", at_least=1)
    learning_rate: float = setting(3e-3, "fit", above=0)
    schedule: Literal["constant", "cosine"] = setting("constant", "fit")
    warmup_epochs: float = setting(0.0, "fit", at_least=0)
    layer_decay: float = setting(1.0, "fit", above=0, at_most=1, needs=("models.branches", "image"))
    ema: float = setting(0.0, "fit", at_least=0, below=1)
    weight_decay: float = setting(1e-3, "fit", at_least=0)
    pos_weight: float | None = setting(None, "fit", above=0)
    gradient_clip: float = setting(1.0, "fit", at_least=0)
    patience: int = setting(12, "fit", at_least=1, resumable=True)
    device: Literal["auto", "cpu", "cuda"] = setting("auto", "nothing")
    precision: Literal["auto", "32-true", "bf16-mixed"] = setting("auto", "fit", resumable=True)
    checkpoint_every_minutes: float = setting(5.0, "nothing", at_least=0)
    loggers: tuple[LoggerName, ...] = setting(("tensorboard",), "nothing", each_once=True)
    log_every: int = setting(5, "nothing", at_least=1)
    figures_every: int = setting(5, "nothing", at_least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warmup_epochs > self.epochs:
            raise ValueError(
                f"training.warmup_epochs is {self.warmup_epochs}; allowed: at most training.epochs, {self.epochs}"
            )

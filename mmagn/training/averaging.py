"""The exponential moving average of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn


class MovingAverage(WeightAveraging):
    """Lightning's averaging with the decay of the settings: validation sees the average, training does not.

    Parameters
    ----------
    decay
        Share of the average that a step leaves as it is.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make the average; its count of steps stays on the host, which looks at it in every step."""
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None:
            self._average_model.n_averaged = self._average_model.n_averaged.cpu()

    @contextmanager
    def in_place(self, module: LightningModule) -> Iterator[None]:
        """Block within which the module has the average for weights."""
        self._swap_models(module)
        try:
            yield
        finally:
            self._swap_models(module)

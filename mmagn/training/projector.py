"""Where the objects of the validation split lie in the space that the head sees: TensorBoard's projector."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn

from mmagn.training.module import AgnModule, first_pairs

LARGEST_SAMPLE = 300
THUMBNAIL_PIXELS = 32
THUMBNAIL_BANDS = (3, 2, 1)
"""Bands of an image that become red, green and blue."""


class EmbeddingProjector(Callback):
    """Hand the embeddings of some validation objects to TensorBoard when training ends.

    A network whose ``embedding(batch)`` is not there has none to show. They are those of the latest epoch that was
    due, with the weights that validation saw.

    Parameters
    ----------
    classes
        (object,) name of the class of each row.
    every
        Epochs between looks.
    """

    def __init__(self, classes: Sequence[str], every: int) -> None:
        self.classes = classes
        self.every = every
        self._embeddings: list[Tensor] = []
        self._thumbnails: list[Tensor] = []
        self._rows: list[int] = []

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Forget the epoch before where a new look is due."""
        if self._due(trainer):
            self._embeddings, self._thumbnails, self._rows = [], [], []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ARG002
        batch: Any,
        batch_idx: int,  # noqa: ARG002
        dataloader_idx: int = 0,  # noqa: ARG002
    ) -> None:
        """Keep the embeddings of a batch until there are enough."""
        assert isinstance(pl_module, AgnModule)
        wanted = LARGEST_SAMPLE - len(self._rows)
        if not self._due(trainer) or wanted <= 0 or not hasattr(pl_module.model, "embedding"):
            return
        part = first_pairs(batch, wanted)
        self._embeddings.append(pl_module.model.embedding(part).float().cpu())  # type: ignore[operator]
        self._rows += part["index"].tolist()
        if "image" in part:
            self._thumbnails.append(thumbnails(part["image"]).cpu())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Write what was kept."""
        if not self._rows:
            return
        for board in trainer.loggers:
            if isinstance(board, TensorBoardLogger):
                board.experiment.add_embedding(
                    torch.cat(self._embeddings),
                    metadata=[str(self.classes[row]) for row in self._rows],
                    label_img=torch.cat(self._thumbnails) if self._thumbnails else None,
                    tag="validation/embedding",
                    global_step=trainer.global_step,
                )

    def _due(self, trainer: Trainer) -> bool:
        return trainer.current_epoch % self.every == 0 or trainer.current_epoch + 1 == trainer.max_epochs


def thumbnails(image: Tensor) -> Tensor:
    """(batch, 3, pixel, pixel) small pictures from 0 to 1 of (batch, band, height, width) network input.

    The input is stretched already; each picture is scaled to the range that all but 1 % of its pixels fill.
    """
    small = nn.functional.adaptive_avg_pool2d(image[:, THUMBNAIL_BANDS].float(), THUMBNAIL_PIXELS)
    flat = small.flatten(1)
    low, high = (torch.quantile(flat, share, dim=1)[:, None, None, None] for share in (0.005, 0.995))
    return ((small - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)

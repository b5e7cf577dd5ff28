"""How long it takes from the start of a process to its first step."""

import logging
import time
from typing import Any

import psutil
from lightning import Callback, LightningModule, Trainer

logger = logging.getLogger(__name__)


class FirstStep(Callback):
    """Say once how long everything before the first step took, and the step itself."""

    def __init__(self) -> None:
        self._began_s: float | None = None
        self._told = False

    def on_train_batch_start(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,  # noqa: ARG002
        batch: Any,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Look at the clock."""
        self._began_s = self._began_s or time.time()

    def on_train_batch_end(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,  # noqa: ARG002
        outputs: Any,  # noqa: ARG002
        batch: Any,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Say how long it took."""
        if self._told or self._began_s is None:
            return
        self._told = True
        before_s, step_s = self._began_s - psutil.Process().create_time(), time.time() - self._began_s
        logger.info("first step: %.1f s after the process began, and %.1f s long", before_s, step_s)

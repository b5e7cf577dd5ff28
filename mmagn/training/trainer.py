"""The Trainer that every network is trained by, and what surrounds it: a stream of the GPU, a quiet console."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from lightning import Trainer
from tqdm.contrib.logging import logging_redirect_tqdm

from mmagn.training.config import TrainingConfig
from mmagn.training.device import device_name

HARMLESS_WARNINGS = (
    r".*does not have many workers",
    r".*is smaller than the logging interval",
    r".*Total length of `.*` across ranks is zero",
    r".*does not have a deterministic implementation",
    r".*LeafSpec.* is deprecated",
    r".*GPU available but not used",
    r".*It is recommended to use `self.log\(.*sync_dist=True",
)
"""Warnings of Lightning and torch where nothing is wrong: batches are cut from tensors in memory, which needs no
workers; small surveys have few batches or no validation split; a few CUDA kernels have no deterministic variant;
Lightning calls torch by an old name; ``device`` may be cpu where there is a GPU; scores are of all devices before they
are logged."""


def plain_trainer(config: TrainingConfig, callbacks: list[Any], **settings: Any) -> Trainer:
    """Trainer of every network; without further settings one that logs and shows nothing."""
    device = device_name(config)
    if device == "cuda":
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # a kernel for each tensor that is allocated
    defaults = {"devices": 1, "logger": False, "enable_progress_bar": False}
    return Trainer(
        accelerator=device,
        use_distributed_sampler=False,  # batches are shared out where they are cut
        deterministic="warn" if device == "cuda" else None,
        max_epochs=config.epochs,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        enable_model_summary=False,
        **(defaults | settings),
    )


@contextmanager
def own_stream(device: str) -> Iterator[None]:
    """Block whose work on a GPU is on a stream of its own, as the recording of graphs needs it."""
    if device == "cpu":
        yield
        return
    stream, before = torch.cuda.Stream(), torch.cuda.current_stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(before)
    with torch.cuda.stream(stream):
        yield
    before.wait_stream(stream)


@contextmanager
def calm_console() -> Iterator[None]:
    """Keep Lightning's notices and its harmless warnings off the console, and log lines clear of the progress bar."""
    lightning_logger = logging.getLogger("lightning.pytorch")
    level = lightning_logger.level
    lightning_logger.setLevel(logging.WARNING)
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        for message in HARMLESS_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        if sys.stderr.isatty():
            stack.enter_context(logging_redirect_tqdm())
        try:
            yield
        finally:
            lightning_logger.setLevel(level)

"""What to do where the memory does not hold a batch: the size that would fit."""

import traceback
from collections.abc import Mapping

import torch
from torch import Tensor

from mmagn.training.config import TrainingConfig
from mmagn.training.losses import weighted_bce
from mmagn.training.module import AgnModule, first_pairs

CPU_PHRASE = "can't allocate memory"
"""What torch's allocator for the CPU says; it raises a plain RuntimeError."""
SMALLEST_BATCH = 2


class BatchTooLargeError(ValueError):
    """The memory does not hold a training step; says which batch size it holds."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on whatever device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and CPU_PHRASE in str(error)


def batch_too_large(
    error: BaseException, module: AgnModule, batch: Mapping[str, Tensor] | None, config: TrainingConfig
) -> BatchTooLargeError:
    """Error that names the batch size that fits, found by trying halves of the batch that did not.

    Parameters
    ----------
    error
        What was raised; the tensors that its frames still hold are let go.
    module
        What was trained.
    batch
        The batch, on its device; None where it did not come that far, and half of it is a guess.
    config
        Settings of the optimisation.
    """
    traceback.clear_frames(error.__traceback__)
    head = f"the memory{_figures()} does not hold a step with training.batch_size {config.batch_size}"
    size = config.batch_size // 2 if batch is None else fitting_batch_size(module, batch)
    if size < SMALLEST_BATCH:
        return BatchTooLargeError(f"{head}, nor one of {SMALLEST_BATCH} pairs; make the network or the images smaller")
    accumulate = -(-config.batch_size * config.accumulate // size)
    verb = "may fit" if batch is None else "fits"
    return BatchTooLargeError(
        f"{head}; {size} {verb}: --training.batch_size {size} --training.accumulate {accumulate}"
        " keeps the number of pairs per step"
    )


def fitting_batch_size(module: AgnModule, batch: Mapping[str, Tensor]) -> int:
    """Largest of a half, a quarter and so on of a batch that goes forward and backward; 0 where none does."""
    device = batch["target"].device
    module.to(device).train()
    size = len(batch["target"]) // 2
    while size >= SMALLEST_BATCH:
        try:
            logits = module(first_pairs(batch, size))
            torch.autograd.backward(weighted_bce(logits, batch["target"][:size], module.pos_weight).mean())
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            traceback.clear_frames(error.__traceback__)
        else:
            return size
        finally:
            module.zero_grad(set_to_none=True)
            if device.type == "cuda":
                torch.cuda.empty_cache()
        size //= 2
    return 0


def _figures() -> str:
    if not torch.cuda.is_available() or not torch.cuda.max_memory_allocated():
        return ""
    peak, total = torch.cuda.max_memory_allocated(), torch.cuda.get_device_properties(0).total_memory
    return f" (at most {peak / 2**30:.1f} GiB of the device's {total / 2**30:.1f} GiB were in use)"

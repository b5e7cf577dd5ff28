"""Where the memory does not hold a batch: the batch size that fits."""

import traceback
from collections.abc import Mapping

import torch
from torch import Tensor

from mmagn.training.losses import weighted_bce
from mmagn.training.module import AgnModule, first_pairs

CPU_PHRASE = "can't allocate memory"
"""Part of the message of torch's allocator for the CPU, which raises a plain RuntimeError."""
SMALLEST_BATCH = 2


class BatchTooLargeError(ValueError):
    """The memory does not hold a training step; the message names the batch size that it holds."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory ran out, on whatever device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and CPU_PHRASE in str(error)


def batch_too_large(error: BaseException, module: AgnModule, batch: Mapping[str, Tensor] | None) -> BatchTooLargeError:
    """Error that names the batch size that fits: the largest half, quarter and so on of the batch that did not.

    The tensors that the frames of ``error`` still hold are released. The batch is on its device; None where it did not
    come that far, and half of it is a guess.
    """
    config = module.config
    traceback.clear_frames(error.__traceback__)
    device = module.pos_weight.device if batch is None else batch["index"].device
    head = f"the memory{_figures(device)} does not hold a step with training.batch_size {config.batch_size}"
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
    device = batch["index"].device
    module.to(device).train()
    size = len(batch["index"]) // 2
    while size >= SMALLEST_BATCH:
        try:
            part = module.completed(first_pairs(batch, size))
            torch.autograd.backward(weighted_bce(module(part), part["target"], module.pos_weight).mean())
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


def _figures(device: torch.device) -> str:
    if device.type != "cuda":
        return ""
    peak, total = torch.cuda.max_memory_allocated(device), torch.cuda.get_device_properties(device).total_memory
    return f" (at most {peak / 2**30:.1f} GiB of the device's {total / 2**30:.1f} GiB were in use)"

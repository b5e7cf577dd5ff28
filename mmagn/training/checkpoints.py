"""Checkpoints on disk: written whole or not at all with their checksum, read without running any code from them."""

import errno
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

from mmagn.storage.checksums import check_archive, seal_archive
from mmagn.storage.files import whole_file
from mmagn.storage.run_folder import RunFolder
from mmagn.training.config import TrainingConfig
from mmagn.training.module import AgnModule, state_difference

logger = logging.getLogger(__name__)


def read_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Return the content of a checkpoint: tensors and plain values only.

    ``FileNotFoundError`` where there is no such file, ``ValueError`` where it is damaged or holds anything else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such checkpoint")
    try:
        check_archive(path)
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, LookupError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path} is not a readable checkpoint (cut short, or of another kind): {reason}") from error
    state = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} is not a checkpoint of a training run: it has no state_dict of tensors")
    return dict(checkpoint)


def good_checkpoint(run: RunFolder) -> Path:
    """Path of the latest checkpoint of a run that is whole: the last one, or else the one before.

    ``FileNotFoundError`` where there is none; the message names what is wrong with damaged ones.
    """
    reasons = []
    for path in (run.last, run.previous):
        try:
            read_checkpoint(path)
        except (FileNotFoundError, ValueError) as error:
            reasons.append(str(error))
            continue
        for reason in reasons:
            logger.warning("%s; training resumes from %s instead", reason, path.name)
        return path
    raise FileNotFoundError(f"{run.path} holds no checkpoint to resume from: {'; '.join(reasons)}")


def load_module(path: Path, model: nn.Module, config: TrainingConfig) -> AgnModule:
    """Return the AgnModule of ``best.ckpt`` or ``last.ckpt`` on the CPU, in evaluation mode; ``model`` is overwritten.

    ``FileNotFoundError`` or ``ValueError`` where the file is missing or damaged, or holds another network; the
    message names what differs.
    """
    checkpoint = read_checkpoint(path)
    module = AgnModule(model, config, pos_weight=1.0, seed=int(checkpoint.get("seed", 0)))
    if difference := state_difference(checkpoint["state_dict"], module.state_dict()):
        raise ValueError(f"{path} holds another network than the settings describe: {difference}")
    module.load_state_dict(checkpoint["state_dict"])
    return module.eval()


class WholeCheckpointIO(TorchCheckpointIO):
    """Lightning's access to checkpoint files.

    Lightning's own writes to the folder for temporary files and moves the file from there, which is atomic only
    where both lie in one file system.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint whole; the old one stays where that fails, such as by ``OSError`` on a full disk.

        ``storage_options`` ``{"keep": path}`` moves the old checkpoint there once the new one is written.
        """
        try:
            plain = _on_host(checkpoint)
            keep = (storage_options or {}).get("keep")
            with whole_file(Path(path), keep=keep) as part, part.open("w+b") as file:
                torch.save(plain, file)
                seal_archive(file)
        except (OSError, RuntimeError) as error:
            if getattr(error, "errno", None) == errno.ENOSPC or "PytorchStreamWriter" in str(error):
                raise OSError(errno.ENOSPC, f"no space to write {path}; the last good checkpoint is kept") from error
            raise

    def load_checkpoint(
        self, path: Any, map_location: Callable[..., Any] | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Return the content of a checkpoint to resume, tensors and plain values only for any ``weights_only``.

        Raises as :func:`read_checkpoint`, and ``ValueError`` where the checkpoint holds no more than weights.
        """
        checkpoint = read_checkpoint(Path(path), map_location or "cpu")
        if not {"optimizer_states", "loops", "pytorch-lightning_version"} <= checkpoint.keys():
            raise ValueError(
                f"{path} holds weights only, which is not enough to resume; resume from last.ckpt in the same folder"
            )
        return checkpoint


def _on_host(checkpoint: Any) -> Any:
    """Return a checkpoint whose tensors are on the CPU, copied from a GPU in one go."""
    copied = apply_to_collection(checkpoint, Tensor, lambda value: value.detach().to("cpu", non_blocking=True))
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.current_stream().synchronize()
    return copied

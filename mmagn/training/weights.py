"""Weights of a network alone, as safetensors: what a trained member of an ensemble is loaded from."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mmagn.storage.files import whole_file
from mmagn.training.module import state_difference


def save_weights(state: Mapping[str, Tensor], path: Path) -> None:
    """Write the state dict of a network, atomically."""
    with whole_file(path) as part:
        save_file({name: value.detach().cpu().contiguous() for name, value in state.items()}, part)


def load_weights(model: nn.Module, path: Path) -> None:
    """Give a network the weights of a file; it is in evaluation mode then.

    ``FileNotFoundError`` where there is no such file, ``ValueError`` where it is damaged, or holds another network;
    the message names what differs.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there are no such weights; they are written when training is complete")
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error
    if difference := state_difference(state, model.state_dict()):
        raise ValueError(f"{path} holds another network than the settings describe: {difference}")
    model.load_state_dict(state)
    model.eval()

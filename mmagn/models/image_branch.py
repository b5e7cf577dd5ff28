"""Embedding of an image: any timm backbone and a linear layer."""

import difflib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import timm.optim
import torch
from safetensors import SafetensorError
from timm.models import adapt_input_conv, load_state_dict
from torch import Tensor, nn
from torch.nn import functional

from mmagn.models.config import ImageBranchConfig

IMAGE_BANDS = 5


class ImageBranch(nn.Module):
    """timm backbone with five input channels, global pooling and a linear embedding.

    Backbones that are made for one image size (most transformers) get their images resized to it.

    Parameters
    ----------
    config
        Backbone, weights and length of the embedding.

    Raises
    ------
    ValueError
        When timm has no such backbone, or its weights cannot be had or do not fit.
    FileNotFoundError
        When the file of weights is absent.
    """

    def __init__(self, config: ImageBranchConfig) -> None:
        super().__init__()
        self.backbone = _backbone(config)
        self.embedding = nn.Linear(int(self.backbone.head_hidden_size), config.embedding_dim)
        published: dict[str, Any] = self.backbone.pretrained_cfg
        self.fixed_size: tuple[int, int] | None = None
        if published.get("fixed_input_size"):
            self.fixed_size = published["input_size"][-2:]

    def forward(self, image: Tensor) -> Tensor:
        """(batch, embedding) from (batch, band, height, width)."""
        if self.fixed_size is not None and image.shape[-2:] != self.fixed_size:
            image = functional.interpolate(image, self.fixed_size, mode="bilinear", antialias=True)
        embedding: Tensor = self.embedding(self.backbone(image))
        return embedding


def layer_groups(backbone: nn.Module, layer_decay: float) -> list[dict[str, Any]]:
    """Parameters of a timm backbone by layer: ``params``, and ``lr_scale``, which is ``layer_decay`` to the depth.

    The layer nearest the output has scale 1 (as in BEiT, Bao+2021).
    """
    groups = timm.optim.param_groups_layer_decay(  # type: ignore[attr-defined]
        backbone, weight_decay=0.0, weight_decay_exclude_1d=False, layer_decay=layer_decay
    )
    return [{"params": group["params"], "lr_scale": float(group["lr_scale"])} for group in groups]


def _backbone(config: ImageBranchConfig) -> Any:
    name = config.backbone
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3) or ["any name that timm.list_models() gives"]
        raise ValueError(f"models.image.backbone {name} is unknown to timm; close names: {', '.join(close)}")
    if config.weights:
        return _with_local_weights(name, Path(config.weights).expanduser())
    if not config.pretrained:
        return _with_live_residuals(timm.create_model(name, in_chans=IMAGE_BANDS, num_classes=0))
    try:
        return timm.create_model(name, pretrained=True, in_chans=IMAGE_BANDS, num_classes=0)
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"models.image.pretrained: no published weights of {name} could be fetched ({_first_line(error)}); "
            "allowed: a machine with network, a local file in models.image.weights, or pretrained false"
        ) from error


def _with_live_residuals(backbone: Any) -> Any:
    """Backbone whose zero-initialised norms (Goyal+2017, for large batches) start at one.

    Behind a zero the layers of a residual branch get no gradient in the first step.
    """
    for module in backbone.modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, nn.Parameter) and weight.ndim == 1 and not weight.any():
            nn.init.ones_(weight)
    return backbone


def _with_local_weights(name: str, path: Path) -> Any:
    """Backbone with weights from a file that timm or this package wrote; a first layer of 3 bands is adapted to 5."""
    if not path.is_file():
        raise FileNotFoundError(f"models.image.weights {path} does not exist; allowed: a safetensors or torch file")
    try:
        state = load_state_dict(str(path), use_ema=False, weights_only=True)
        fresh = timm.create_model(name, in_chans=IMAGE_BANDS, num_classes=0)
        if missing := [key for key in fresh.state_dict() if key not in state]:
            raise ValueError(f"it has no {missing[0]}")
        backbone = timm.create_model(
            name,
            pretrained=True,
            in_chans=IMAGE_BANDS,
            num_classes=0,
            pretrained_cfg_overlay={"state_dict": state, "source": "", "custom_load": False},
        )
        _check_loaded(backbone, state)
    except (ValueError, RuntimeError, KeyError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        raise ValueError(
            f"models.image.weights {path} does not hold weights of {name} ({_first_line(error)})"
        ) from error
    return backbone


def _check_loaded(backbone: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Raise where a weight is not that of the file: some releases of timm only warn and leave random ones in place."""
    for key, weight in backbone.state_dict().items():
        source = state[key].to(weight.dtype)
        if source.ndim == 4 and source.shape[1] == 3 != weight.shape[1]:
            source = adapt_input_conv(IMAGE_BANDS, source)
        if source.shape == weight.shape and not torch.allclose(weight, source):
            raise ValueError(f"timm {timm.__version__} did not load its {key}; allowed: timm 1.0.31 or newer")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]

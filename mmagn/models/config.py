"""Settings of the network."""

from dataclasses import dataclass, field
from typing import Literal

Branch = Literal["image", "spectrum", "features"]


@dataclass(frozen=True, kw_only=True)
class ImageBranchConfig:
    """The image branch: a timm backbone and a linear embedding.

    Attributes
    ----------
    backbone
        Any model name of timm. The default is one of its tiny models for few data: 0.2 M weights, four residual
        stages with channel attention.
    pretrained
        Start from timm's published weights (needs the hub, or a local file in ``weights``).
    weights
        Local file of backbone weights, safetensors or torch; empty starts from random weights.
    embedding_dim
        Length of the image embedding.
    """

    backbone: str = "test_byobnet"
    pretrained: bool = False
    weights: str = ""
    embedding_dim: int = 8


@dataclass(frozen=True, kw_only=True)
class SpectrumBranchConfig:
    """The spectrum branch: 1-D residual convolutions.

    Attributes
    ----------
    widths
        Channels of each stage; each stage halves the length.
    kernel_size
        Pixels of each convolution, odd.
    embedding_dim
        Length of the spectrum embedding.
    """

    widths: tuple[int, ...] = (16, 32, 48)
    kernel_size: int = 5
    embedding_dim: int = 8

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"models.spectrum.widths is {self.widths}; allowed: one or more positive numbers")
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError(f"models.spectrum.kernel_size is {self.kernel_size}; allowed: an odd number")


@dataclass(frozen=True, kw_only=True)
class ModelsConfig:
    """Branches of the fused model and its head.

    Attributes
    ----------
    branches
        What the model sees, any combination of ``image``, ``spectrum`` and ``features``.
    image, spectrum
        Settings of the two convolutional branches.
    hidden_dim
        Width of the head's first hidden layer; the second has half of it.
    dropout
        Dropout after both hidden layers.
    """

    branches: tuple[Branch, ...] = ("image", "spectrum", "features")
    image: ImageBranchConfig = field(default_factory=ImageBranchConfig)
    spectrum: SpectrumBranchConfig = field(default_factory=SpectrumBranchConfig)
    hidden_dim: int = 32
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if not self.branches or len(set(self.branches)) != len(self.branches):
            raise ValueError(
                f"models.branches is {self.branches}; allowed: one or more of image, spectrum, features, each once"
            )
        if self.hidden_dim < 2 or self.hidden_dim % 2:
            raise ValueError(f"models.hidden_dim is {self.hidden_dim}; allowed: an even number from 2 on")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"models.dropout is {self.dropout}; allowed: 0 to below 1")

"""Settings of the network."""

from dataclasses import dataclass
from typing import Literal

from mmagn.storage.settings import Settings, section, setting

Branch = Literal["image", "spectrum", "features", "embedding"]


def _odd(number: int) -> bool:
    return number >= 1 and number % 2 == 1


@dataclass(frozen=True, kw_only=True)
class ImageBranchConfig(Settings):
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

    SECTION = "models.image"
    backbone: str = setting("test_byobnet", "fit", one_or_more=True)
    pretrained: bool = setting(False, "fit")
    weights: str = setting("", "fit", path=True)
    embedding_dim: int = setting(8, "fit", at_least=1)


@dataclass(frozen=True, kw_only=True)
class SpectrumBranchConfig(Settings):
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

    SECTION = "models.spectrum"
    widths: tuple[int, ...] = setting((16, 32, 48), "fit", at_least=1, one_or_more=True)
    kernel_size: int = setting(5, "fit", rule=(_odd, "an odd number from 1 on"))
    embedding_dim: int = setting(8, "fit", at_least=1)


@dataclass(frozen=True, kw_only=True)
class EmbeddingBranchConfig(Settings):
    """The embedding branch: a linear projection of the vectors of ``data.embeddings``.

    Attributes
    ----------
    input_dim
        Length of the vectors; 0 takes that of the file.
    embedding_dim
        Length of the projection.
    dropout
        Dropout of the standardised vectors.
    """

    SECTION = "models.embedding"
    input_dim: int = setting(0, "fit", at_least=0)
    embedding_dim: int = setting(8, "fit", at_least=1)
    dropout: float = setting(0.5, "fit", at_least=0, below=1)


@dataclass(frozen=True, kw_only=True)
class ModelsConfig(Settings):
    """Branches of the fused model and its head.

    Attributes
    ----------
    branches
        What the model sees, any combination of ``image``, ``spectrum``, ``features``, and ``embedding``: the vectors of
        ``data.embeddings``.
    image, spectrum, embedding
        Settings of the two convolutional branches, and of that of the vectors.
    hidden_dim
        Width of the head's first hidden layer; the second has half of it.
    dropout
        Dropout after both hidden layers.
    """

    SECTION = "models"
    branches: tuple[Branch, ...] = setting(
        ("image", "spectrum", "features"), "tensors", "fit", one_or_more=True, each_once=True
    )
    image: ImageBranchConfig = section(ImageBranchConfig, needs=("models.branches", "image"))
    spectrum: SpectrumBranchConfig = section(SpectrumBranchConfig, needs=("models.branches", "spectrum"))
    embedding: EmbeddingBranchConfig = section(EmbeddingBranchConfig, needs=("models.branches", "embedding"))
    hidden_dim: int = setting(32, "fit", at_least=2, even=True)
    dropout: float = setting(0.1, "fit", at_least=0, below=1)

"""What batches are cut from: tensors on a device, prepared files that are read row by row, or the store itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmagn.records import Cutout, Spectrum
from mmagn.tensors.config import TensorsConfig

Halves = NDArray[np.float16]
_SMALL = ("features", "features_valid", "embedding", "embedding_valid", "target")
"""What is in memory wherever images and spectra are."""


class PairSource(Protocol):
    """What the tensors are made from, such as a ``PairStore``."""

    def cutout(self, row: int, /) -> Cutout:
        """Image of the pair in that row."""
        ...

    def spectrum(self, row: int, /) -> Spectrum:
        """Spectrum of the pair in that row."""
        ...


class BatchSource(Protocol):
    """Objects that batches can be cut from, wherever they are."""

    @property
    def target(self) -> Tensor:
        """(object,) float32: 1, 0, a probability, or NaN where there is no label."""
        ...

    @property
    def features(self) -> Tensor | None:
        """(object, feature) float32 scaled features, where the network is given any."""
        ...

    @property
    def softening(self) -> float:
        """``asinh_softening`` of the images."""
        ...

    def __len__(self) -> int:
        """Return the number of objects."""
        ...

    def gathered(self, rows: Tensor, /) -> dict[str, Tensor]:
        """Batch of the given (batch,) int64 rows in the number types it is kept in, and ``index``, the rows."""
        ...

    def batch(self, rows: Tensor, /) -> dict[str, Tensor]:
        """Batch of the given (batch,) int64 rows as float32, and ``index``, the rows."""
        ...


def as_floats(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Batch with everything but ``index`` as float32, where it is."""
    return {name: value if name == "index" else value.float() for name, value in batch.items()}


@dataclass(frozen=True, kw_only=True, eq=False)
class PairTensors:
    """Network input of all objects, resident in the memory of one device; an absent branch is None.

    Attributes
    ----------
    image
        (object, band, height, width) float16, as ``image_tensor`` gives it.
    spectrum
        (object, 2, pixel) float16, as ``spectrum_tensor`` gives it.
    features
        (object, feature) float32, scaled.
    features_valid
        (object,) bool: the object has features; None where every object has.
    embedding, embedding_valid
        (object, length) float32 vectors, and (object,) bool: the object has one.
    target
        (object,) float32: 1, 0, a probability, or NaN where there is no label.
    softening
        ``asinh_softening`` of the images.
    """

    image: Tensor | None
    spectrum: Tensor | None
    features: Tensor | None
    target: Tensor
    softening: float = TensorsConfig.asinh_softening
    features_valid: Tensor | None = None
    embedding: Tensor | None = None
    embedding_valid: Tensor | None = None

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.target)

    def to(self, device: torch.device | str) -> Self:
        """Return the same tensors on a device."""
        moved: dict[str, Any] = {name: _moved(getattr(self, name), device) for name in ("image", "spectrum", *_SMALL)}
        return replace(self, **moved)

    def gathered(self, rows: Tensor) -> dict[str, Tensor]:
        """Batch of the given (batch,) int64 rows; a selection on the device, which the host does not wait for."""
        rows = rows.to(self.target.device, non_blocking=True)
        present = {name: getattr(self, name) for name in ("image", "spectrum", *_SMALL)}
        return {**{name: tensor[rows] for name, tensor in present.items() if tensor is not None}, "index": rows}

    def batch(self, rows: Tensor) -> dict[str, Tensor]:
        """Batch of the given (batch,) int64 rows: present branches and ``target`` as float32, and ``index``."""
        return as_floats(self.gathered(rows))


@dataclass(frozen=True, kw_only=True, eq=False)
class MappedTensors:
    """Network input of all objects, images and spectra in memory-mapped files of a whole store.

    Attributes
    ----------
    parts
        By branch: (pair, ...) float16, a row for each pair of the store.
    rows
        (object,) int64 row of each object in them.
    features, features_valid, embedding, embedding_valid
        (object, feature) float32, and (object,) bool: the object has features; the same of vectors; or None.
    target
        (object,) float32.
    pinned
        Gather into page-locked memory, from which a GPU copies without holding up the host.
    softening
        ``asinh_softening`` of the images.
    """

    parts: Mapping[str, Halves]
    rows: NDArray[np.int64]
    features: Tensor | None
    target: Tensor
    pinned: bool = False
    softening: float = TensorsConfig.asinh_softening
    features_valid: Tensor | None = None
    embedding: Tensor | None = None
    embedding_valid: Tensor | None = None

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.target)

    def gathered(self, rows: Tensor) -> dict[str, Tensor]:
        """Batch of the given (batch,) int64 rows; thread-safe."""
        wanted = self.rows[rows.numpy()]
        batch: dict[str, Tensor] = {}
        for name, values in self.parts.items():
            batch[name] = torch.empty((len(wanted), *values.shape[1:]), dtype=torch.float16, pin_memory=self.pinned)
            np.take(values, wanted, axis=0, out=batch[name].numpy(), mode="clip")  # other modes copy once more
        return {**batch, **_small(self, rows)}

    def batch(self, rows: Tensor) -> dict[str, Tensor]:
        """Batch of the given (batch,) int64 rows as float32, and ``index``."""
        return as_floats(self.gathered(rows))


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamedTensors:
    """Network input that is made from the store anew for each batch.

    Attributes
    ----------
    store
        Source of cutouts and spectra.
    makers
        By branch: the (...) float32 array of the pair in a row of the store.
    rows
        (object,) int64 row of each object in the store.
    features, features_valid, embedding, embedding_valid
        (object, feature) float32, and (object,) bool: the object has features; the same of vectors; or None.
    target
        (object,) float32.
    softening
        ``asinh_softening`` of the images.
    """

    store: PairSource
    makers: Mapping[str, Callable[[PairSource, int], NDArray[Any]]]
    rows: NDArray[np.int64]
    features: Tensor | None
    target: Tensor
    softening: float = TensorsConfig.asinh_softening
    features_valid: Tensor | None = None
    embedding: Tensor | None = None
    embedding_valid: Tensor | None = None

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.target)

    def gathered(self, rows: Tensor) -> dict[str, Tensor]:
        """Batch of the given (batch,) int64 rows; thread-safe."""
        wanted = self.rows[rows.numpy()].tolist()
        batch = {
            name: torch.from_numpy(np.stack([make(self.store, row).astype(np.float16) for row in wanted]))
            for name, make in self.makers.items()
        }
        return {**batch, **_small(self, rows)}

    def batch(self, rows: Tensor) -> dict[str, Tensor]:
        """Batch of the given (batch,) int64 rows as float32, and ``index``."""
        return as_floats(self.gathered(rows))


def _small(source: MappedTensors | StreamedTensors, rows: Tensor) -> dict[str, Tensor]:
    columns = {name: getattr(source, name) for name in _SMALL}
    return {**{name: values[rows] for name, values in columns.items() if values is not None}, "index": rows}


def with_columns(
    source: BatchSource, features: Tensor | None, target: Tensor, features_valid: Tensor | None = None
) -> BatchSource:
    """Return the same images, spectra and vectors with other features, flags of objects that have any, and targets."""
    assert isinstance(source, PairTensors | MappedTensors | StreamedTensors)
    device = source.target.device
    return replace(
        source,
        features=_moved(features, device),
        features_valid=_moved(features_valid, device),
        target=target.to(device),
    )


def _moved(part: Tensor | None, device: torch.device | str) -> Tensor | None:
    return None if part is None else part.to(device)

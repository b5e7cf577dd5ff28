"""What batches are cut from: tensors on a device, prepared files that are read row by row, or the store itself."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmagn.records import Cutout, Spectrum
from mmagn.tensors.config import TensorsConfig

Halves = NDArray[np.float16]
_COLUMNS = ("features", "features_valid", "embedding", "embedding_valid", "target")
"""What is in memory wherever images and spectra are."""


class PairSource(Protocol):
    """What the tensors are made from, such as a ``PairStore``."""

    @property
    def fingerprint(self) -> str:
        """Digest that changes with the content."""
        ...

    def __len__(self) -> int:
        """Return the number of pairs."""
        ...

    def cutout(self, row: int, /) -> Cutout:
        """Image of the pair in that row."""
        ...

    def spectrum(self, row: int, /) -> Spectrum:
        """Spectrum of the pair in that row."""
        ...


def as_floats(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Batch with everything but ``index`` as float32, where it is."""
    return {name: value if name == "index" else value.float() for name, value in batch.items()}


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchSource(ABC):
    """Network input of all objects, from which batches are cut; a subclass knows where images and spectra are.

    Attributes
    ----------
    target
        (object,) float32: 1, 0, a probability, or NaN where there is no label.
    features, features_valid
        (object, feature) float32 scaled features, None for a network without them; (object,) bool: the object has
        features, None where every object has.
    embedding, embedding_valid
        (object, length) float32 vectors, and (object,) bool: the object has one; None for a network without them.
    softening
        ``asinh_softening`` of the images.
    """

    target: Tensor
    features: Tensor | None = None
    features_valid: Tensor | None = None
    embedding: Tensor | None = None
    embedding_valid: Tensor | None = None
    softening: float = TensorsConfig.asinh_softening

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.target)

    @abstractmethod
    def images_and_spectra(self, rows: Tensor) -> dict[str, Tensor]:
        """(batch, ...) float16 tensors of the given (batch,) int64 rows, by branch; thread-safe."""

    def gathered(self, rows: Tensor) -> dict[str, Tensor]:
        """Batch of the given (batch,) int64 rows in the number types it is kept in, and ``index``, the rows."""
        rows = rows.to(self.target.device, non_blocking=True)
        columns = {name: getattr(self, name) for name in _COLUMNS}
        of_columns = {name: values[rows] for name, values in columns.items() if values is not None}
        return {**self.images_and_spectra(rows), **of_columns, "index": rows}

    def batch(self, rows: Tensor) -> dict[str, Tensor]:
        """Batch of the given (batch,) int64 rows as float32, and ``index``, the rows."""
        return as_floats(self.gathered(rows))

    def batches(self, rows: NDArray[np.int64], size: int) -> Iterator[dict[str, Tensor]]:
        """Yield batches of the given (object,) rows as float32, in order."""
        return (self.batch(part) for part in torch.split(torch.from_numpy(rows), size) if len(part))

    def with_columns(self, features: Tensor | None, target: Tensor, features_valid: Tensor | None) -> Self:
        """Return the same images, spectra and vectors with other features, flags and targets."""
        device = self.target.device
        moved: dict[str, Any] = {"features": _moved(features, device), "features_valid": _moved(features_valid, device)}
        return replace(self, target=target.to(device), **moved)


@dataclass(frozen=True, kw_only=True, eq=False)
class PairTensors(BatchSource):
    """Network input that is resident in the memory of one device; an absent branch is None.

    Attributes
    ----------
    image, spectrum
        (object, band, height, width) and (object, 2, pixel) float16, as ``image_tensor`` and ``spectrum_tensor`` give
        them.
    """

    image: Tensor | None = None
    spectrum: Tensor | None = None

    def to(self, device: torch.device | str) -> Self:
        """Return the same tensors on a device."""
        names = ("image", "spectrum", *_COLUMNS)
        moved: dict[str, Any] = {name: _moved(getattr(self, name), device) for name in names}
        return replace(self, **moved)

    def images_and_spectra(self, rows: Tensor) -> dict[str, Tensor]:
        """Select on the device; the host does not wait for it."""
        branches = {"image": self.image, "spectrum": self.spectrum}
        return {name: values[rows] for name, values in branches.items() if values is not None}


@dataclass(frozen=True, kw_only=True, eq=False)
class MappedTensors(BatchSource):
    """Network input with images and spectra in memory-mapped files of a whole store.

    Attributes
    ----------
    parts
        By branch: (pair, ...) float16, a row for each pair of the store.
    rows
        (object,) int64 row of each object in them.
    pinned
        Gather into page-locked memory, from which a GPU copies without holding up the host.
    """

    parts: Mapping[str, Halves]
    rows: NDArray[np.int64]
    pinned: bool = False

    def images_and_spectra(self, rows: Tensor) -> dict[str, Tensor]:
        """Copy the rows out of the files."""
        wanted = self.rows[rows.numpy()]
        batch: dict[str, Tensor] = {}
        for name, values in self.parts.items():
            batch[name] = torch.empty((len(wanted), *values.shape[1:]), dtype=torch.float16, pin_memory=self.pinned)
            np.take(values, wanted, axis=0, out=batch[name].numpy(), mode="clip")  # other modes copy once more
        return batch


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamedTensors(BatchSource):
    """Network input whose images and spectra are made from the store anew for each batch.

    Attributes
    ----------
    store
        Source of cutouts and spectra.
    makers
        By branch: the (...) float32 array of the pair in a row of the store.
    rows
        (object,) int64 row of each object in the store.
    """

    store: PairSource
    makers: Mapping[str, Callable[[PairSource, int], NDArray[Any]]]
    rows: NDArray[np.int64]

    def images_and_spectra(self, rows: Tensor) -> dict[str, Tensor]:
        """Make the tensors of the rows."""
        wanted = self.rows[rows.numpy()].tolist()
        return {
            name: torch.from_numpy(np.stack([make(self.store, row).astype(np.float16) for row in wanted]))
            for name, make in self.makers.items()
        }


def _moved(part: Tensor | None, device: torch.device | str) -> Tensor | None:
    return None if part is None else part.to(device)

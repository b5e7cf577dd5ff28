"""Pairs of any source as a torch loader: batches that are known before they are read, for training code of others."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from mmagn.matching.objects import ObjectPart
from mmagn.records import BANDS
from mmagn.tensors.config import TensorsConfig
from mmagn.tensors.image import image_tensor
from mmagn.tensors.spectrum import spectrum_pixels, spectrum_tensors

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class PartTensors(Dataset[dict[str, Any]]):
    """Parts of a source, not yet read, as batches of network input by number; see :func:`pair_loader`."""

    parts: Sequence[ObjectPart]
    config: TensorsConfig

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.parts)

    def __getitem__(self, number: int) -> dict[str, Any]:
        """Return a batch, read now."""
        drops: Counter[str] = Counter()
        views = [(each.cutout, each.spectrum) for each in self.parts[number].galaxies(drops)]
        pairs = [(cutout, spectrum) for cutout, spectrum in views if cutout is not None and spectrum is not None]
        log_losses(f"batch {number}", drops)
        cutouts, spectra = [cutout for cutout, _ in pairs], [spectrum for _, spectrum in pairs]
        size = self.config.image_size
        images = np.empty((0, len(BANDS), size, size), np.float32)
        pixels = np.empty((0, 2, spectrum_pixels(self.config)), np.float32)
        if pairs:
            images = np.stack([image_tensor(cutout.flux, cutout.ivar, self.config) for cutout in cutouts])
            pixels = spectrum_tensors(spectra, self.config)
        return {
            "image": torch.from_numpy(images),
            "spectrum": torch.from_numpy(pixels),
            "redshift": torch.tensor([spectrum.redshift for spectrum in spectra], dtype=torch.float64),
            "sdss_object_id": [spectrum.object_id for spectrum in spectra],
            "hsc_object_id": [cutout.object_id for cutout in cutouts],
        }


def log_losses(where: str, drops: Counter[str]) -> None:
    """Warn of objects that are left out, by reason."""
    for reason, count in drops.items():
        _log.warning("%s: %d x %s", where, count, reason)


def pair_loader(
    parts: Sequence[ObjectPart],
    config: TensorsConfig,
    *,
    workers: int = 0,
    start: int = 0,
    seed: int | None = None,
    of: tuple[int, int] = (0, 1),
) -> DataLoader[dict[str, Any]]:
    """Return a loader whose batches are the parts.

    Parameters
    ----------
    parts, config
        Pairs of each batch, and the shape of their tensors.
    workers, start
        Processes that read and decode, and batches to leave out at the beginning.
    seed
        Of the order of the batches; None keeps that of the parts.
    of
        Rank and number of ranks; all have the same number of batches, but for one, and nearly as many pairs.

    Raises
    ------
    ValueError
        Where the rank is none of those, or ``start`` is beyond the last batch.
    """
    rank, ranks = of
    if not 0 <= rank < ranks:
        raise ValueError(f"rank {rank} of {ranks} ranks; allowed: 0 to below their number")
    order = np.arange(len(parts)) if seed is None else np.random.default_rng(seed).permutation(len(parts))
    own = _of_rank(order, np.array([len(part) for part in parts]), rank, ranks)
    if not 0 <= start <= len(own):
        raise ValueError(f"start is {start}; allowed: 0 to {len(own)}, the number of batches")
    return DataLoader(
        PartTensors(parts=parts, config=config), batch_size=None, sampler=own[start:], num_workers=workers
    )


def _of_rank(order: NDArray[np.int64], pairs: NDArray[np.int64], rank: int, ranks: int) -> list[int]:
    """Return the batches of a rank: each round gives every rank one, the largest to the rank with the fewest pairs."""
    own: list[int] = []
    total = np.zeros(ranks, dtype=np.int64)
    for start in range(0, len(order), ranks):
        batches = order[start : start + ranks]
        batches = batches[np.argsort(-pairs[batches], kind="stable")]
        receivers = np.argsort(total, kind="stable")[: len(batches)]
        total[receivers] += pairs[batches]
        own += batches[receivers == rank].tolist()
    return own

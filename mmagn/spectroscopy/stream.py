"""Spectra as a stream of batches on the device: how many fit at once, and packing ahead of the fit.

On a GPU threads copy the next batch, in chunks of page-locked memory and on a stream of its own, while the device works
on the present one.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np
import torch

from mmagn.records import Floats, Spectrum
from mmagn.spectroscopy.batch import (
    SLOTS,
    Placement,
    SpectrumBatch,
    copy_pixels,
    placed_batch,
    placement,
    spectrum_batch,
)
from mmagn.spectroscopy.config import SpectroscopyConfig
from mmagn.spectroscopy.profiles import SEGMENT_SLOTS

CHUNK_SPECTRA = 2048
"""Spectra that one thread copies at a time, 45 MB of page-locked memory."""
THREADS = 4
MEMORY_SHARE = 0.5
"""Share of the free GPU memory that one batch may take."""
LARGEST_BATCH = 65536
SMALLEST_BATCH = 1024


def chosen_device(config: SpectroscopyConfig) -> torch.device:
    """Return the device that the settings ask for."""
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(config.device)


def bytes_per_spectrum(terms: int) -> int:
    """Return the memory that the fit of one spectrum takes at most, for a continuum of so many columns."""
    return int(8 * (3 * (terms + 1) * len(SEGMENT_SLOTS) + 6 * SLOTS))


def batch_size(config: SpectroscopyConfig, device: torch.device, terms: int) -> int:
    """Return how many spectra are fitted at once: the setting, or on a GPU without one what its free memory holds.

    Parameters
    ----------
    config
        Settings; ``cuda_batch_size`` 0 leaves the choice to this function.
    device
        Where the fit runs.
    terms
        Columns of the continuum model.
    """
    if device.type == "cpu":
        return config.batch_size
    if config.cuda_batch_size:
        return config.cuda_batch_size
    free, _ = torch.cuda.mem_get_info(device)
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return size_within(free + cached, terms)


def size_within(free_bytes: int, terms: int) -> int:
    """Return the power of two of spectra that a share of free memory holds, within the limits of this module."""
    fits = max(int(MEMORY_SHARE * free_bytes) // bytes_per_spectrum(terms), 1)
    return min(max(1 << (fits.bit_length() - 1), SMALLEST_BATCH), LARGEST_BATCH)


def batch_stream(spectra: Sequence[Spectrum], size: int, device: torch.device) -> Iterator[SpectrumBatch]:
    """Yield the batches of ``size`` spectra on a device, in order; on a GPU the next one is packed meanwhile."""
    parts = [spectra[start : start + size] for start in range(0, len(spectra), size)]
    if device.type == "cpu":
        yield from (spectrum_batch(part) for part in parts)
    else:
        yield from packed_ahead(parts, device)


def packed_ahead(parts: Sequence[Sequence[Spectrum]], device: torch.device) -> Iterator[SpectrumBatch]:
    """Yield the batches of parts; threads pack one part ahead of the one that was yielded."""
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
    buffers: SimpleQueue[torch.Tensor] = SimpleQueue()
    for _ in range(THREADS):
        buffers.put(torch.empty(2, CHUNK_SPECTRA, SLOTS, pin_memory=stream is not None))
    with ThreadPoolExecutor(THREADS) as pool:
        packer = _Packer(pool=pool, buffers=buffers, device=device, stream=stream)
        waiting = packer.started(parts[0])
        for part in parts[1:]:
            present, waiting = waiting, packer.started(part)
            yield packer.finished(present)
        yield packer.finished(waiting)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """A part that is being packed: (2, spectrum, slot) flux and ivar on the device, and what the threads return."""

    pixels: torch.Tensor
    chunks: list[Future[tuple[Floats, Placement]]]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Packer:
    """Threads, their buffers, and where they copy to."""

    pool: ThreadPoolExecutor
    buffers: SimpleQueue[torch.Tensor]
    device: torch.device
    stream: torch.cuda.Stream | None

    def started(self, spectra: Sequence[Spectrum]) -> _Part:
        """Return a part whose chunks are being packed."""
        with torch.cuda.stream(self.stream):  # memory that belongs to the stream that fills it
            pixels = torch.empty(2, len(spectra), SLOTS, device=self.device)
        starts = range(0, len(spectra), CHUNK_SPECTRA)
        chunks = [
            self.pool.submit(self._packed, spectra[first : first + CHUNK_SPECTRA], pixels[:, first:])
            for first in starts
        ]
        return _Part(pixels=pixels, chunks=chunks)

    def finished(self, part: _Part) -> SpectrumBatch:
        """Return the batch of a part once its chunks have arrived."""
        results = [chunk.result() for chunk in part.chunks]
        if self.stream is not None:
            part.pixels.record_stream(torch.cuda.current_stream(self.device))
        names = Placement.__dataclass_fields__
        where = Placement(**{name: np.concatenate([getattr(where, name) for _, where in results]) for name in names})
        return placed_batch(part.pixels[0], part.pixels[1], np.concatenate([lsf for lsf, _ in results]), where)

    def _packed(self, spectra: Sequence[Spectrum], pixels: torch.Tensor) -> tuple[Floats, Placement]:
        """Copy a chunk to the device and wait until it is there."""
        where = placement(spectra)
        buffer = self.buffers.get()
        try:
            flux, ivar = buffer[:, : len(spectra)].zero_().numpy()
            lsf_sigma = copy_pixels(spectra, where, flux, ivar)
            with torch.cuda.stream(self.stream):
                for kind in range(2):  # each is contiguous: copied without a detour
                    pixels[kind, : len(spectra)].copy_(buffer[kind, : len(spectra)], non_blocking=True)
            if self.stream is not None:
                self.stream.synchronize()
        finally:
            self.buffers.put(buffer)
        return lsf_sigma, where

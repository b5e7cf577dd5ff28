"""Images and spectra of a whole store as float16 files: prepared once, shared by all runs with the same settings."""

import errno
import hashlib
import json
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from mmagn.records import BANDS
from mmagn.storage.files import code_digest, whole_file
from mmagn.storage.settings import settings_affecting
from mmagn.tensors.config import TensorsConfig
from mmagn.tensors.image import image_tensor
from mmagn.tensors.sources import Halves, PairSource
from mmagn.tensors.spectrum import spectrum_pixels, spectrum_tensor

CODE = ("records.py", "lines.py", "lines.ecsv", "tensors/image.py", "tensors/spectrum.py", "tensors/blanking.py")
"""What they depend on besides pairs and settings."""
ROWS_AT_ONCE = 64
_LOG_EVERY_S = 5.0

_LOGGER = logging.getLogger(__name__)


def image_of(store: PairSource, row: int, config: TensorsConfig) -> NDArray[np.float32]:
    """(band, height, width) image tensor of the pair in that row."""
    cutout = store.cutout(row)
    return image_tensor(cutout.flux, cutout.ivar, config)


def spectrum_of(store: PairSource, row: int, config: TensorsConfig) -> NDArray[np.float32]:
    """(2, pixel) spectrum tensor of the pair in that row."""
    return spectrum_tensor(store.spectrum(row), config)


MAKERS = {"image": image_of, "spectrum": spectrum_of}


def shape_of(branch: str, config: TensorsConfig) -> tuple[int, ...]:
    """Shape of one object's tensor of a branch."""
    if branch == "image":
        return len(BANDS), config.image_size, config.image_size
    return 2, spectrum_pixels(config)


def prepared_file(store: PairSource, branch: str, config: TensorsConfig, cache_dir: Path) -> Path:
    """Path of the prepared tensors of a branch; it differs where the pairs or a setting that matters differ."""
    settings = settings_affecting(config, "tensors", others={"models.branches": (branch,)})
    settings |= {"pairs": store.fingerprint, "count": len(store), "code": code_digest(*CODE)}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    return cache_dir.expanduser() / "tensors" / f"{branch}-{digest}.npy"


def prepared(store: PairSource, branch: str, config: TensorsConfig, cache_dir: Path) -> Halves:
    """(pair, ...) float16 tensors of one branch of all pairs of a store, memory-mapped; prepared now if necessary.

    One process prepares, the others wait for it. The file is there whole or not at all; one that cannot be read is made
    again, with a warning. What is written into the array stays in memory and never reaches the file. ``OSError`` where
    the disk is full or the folder cannot be written.
    """
    path, shape = prepared_file(store, branch, config, cache_dir), (len(store), *shape_of(branch, config))
    array = _mapped(path, shape)
    if array is not None:
        return array
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        array = _mapped(path, shape)
        if array is None:
            _write(path, store, branch, config)
            array = _mapped(path, shape)
    if array is None:
        raise OSError(f"{path} cannot be read back after it was written; is the disk sound?")
    return array


def _mapped(path: Path, shape: tuple[int, ...]) -> Halves | None:
    """Return the array of a file, copy-on-write; None where there is none or none that can be used."""
    if not path.is_file():
        return None
    try:
        array = np.load(path, mmap_mode="c", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        _LOGGER.warning("prepared tensors are made again: %s cannot be read (%s)", path, str(error).partition("\n")[0])
        return None
    if array.dtype != np.float16 or array.shape != shape:
        _LOGGER.warning("prepared tensors are made again: %s holds %s %s", path, array.dtype, array.shape)
        return None
    return np.asarray(array)


def _write(path: Path, store: PairSource, branch: str, config: TensorsConfig) -> None:
    with whole_file(path) as part:
        into = open_memmap(part, mode="w+", dtype=np.float16, shape=(len(store), *shape_of(branch, config)))
        _reserve(part)
        _fill(into, store, branch, config)
        into.flush()


def _fill(into: Halves, store: PairSource, branch: str, config: TensorsConfig) -> None:
    """Fill (pair, ...) ``into`` with the tensors of one branch, by ``config.threads`` threads.

    Images that have no valid pixel are counted in a warning.
    """
    make, count, started = MAKERS[branch], len(store), time.perf_counter()

    def made(first: int) -> int:
        unseen = 0
        for row in range(first, min(first + ROWS_AT_ONCE, count)):
            array = make(store, row, config)
            into[row] = array
            unseen += branch == "image" and not array.any()
        return unseen

    unseen, logged_s = 0, started
    with ThreadPoolExecutor(config.threads) as pool:
        for number, of_batch in enumerate(pool.map(made, range(0, count, ROWS_AT_ONCE)), start=1):
            unseen += of_batch
            done, now_s = min(number * ROWS_AT_ONCE, count), time.perf_counter()
            if done == count or now_s - logged_s > _LOG_EVERY_S:
                logged_s = now_s
                _LOGGER.info("tensors: %s of %d of %d pairs, %.1f s", branch, done, count, now_s - started)
    if unseen:
        size = config.image_size
        _LOGGER.warning("tensors: %d images have no valid pixel in the central %d x %d", unseen, size, size)


def _reserve(part: Path) -> None:
    """Take the space of a sparse file now: a full disk would end the process at the first write into its mapping."""
    size_bytes = part.stat().st_size
    try:
        with part.open("rb+") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size_bytes)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OSError(
            errno.ENOSPC,
            f"no space for {size_bytes / 1e6:.0f} MB of prepared tensors in {part.parent}; allowed: another "
            "data.cache_dir, or tensors.residency stream, which prepares none",
        ) from error

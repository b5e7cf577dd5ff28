"""Where the tensors of the chosen pairs live: on the training device, in prepared files, or nowhere."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from mmagn.tensors.config import Residency, TensorsConfig
from mmagn.tensors.prepared import MAKERS, prepared, shape_of
from mmagn.tensors.sources import BatchSource, MappedTensors, PairSource, PairTensors, StreamedTensors

DEVICE_SHARE = 0.5
"""Part of the free memory of a device that ``auto`` fills with tensors; the rest is for training."""

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class PairInputs:
    """The pairs that tensors are made of.

    Attributes
    ----------
    store, rows
        Source of cutouts and spectra; (object,) rows of it.
    features, features_valid
        (object, feature) float32 scaled features, None for a network without them; (object,) bool: the object has
        features, None where every object has.
    target
        (object,) 1, 0, a probability or NaN.
    embedding
        (object, length) float32 vectors, NaN where an object has none; None for a network without them.
    """

    store: PairSource
    rows: NDArray[np.int64]
    features: NDArray[np.float32] | None
    target: NDArray[np.floating]
    features_valid: torch.Tensor | None = None
    embedding: NDArray[np.float32] | None = None

    def columns(self) -> dict[str, Any]:
        """``features``, ``embedding``, their valid flags, and ``target`` as tensors."""
        features = None if self.features is None else torch.from_numpy(self.features)
        target = torch.as_tensor(np.asarray(self.target), dtype=torch.float32)
        columns = {"features": features, "features_valid": self.features_valid, "target": target}
        if self.embedding is None:
            return columns
        of_vectors = vector_columns(self.embedding)
        missing = len(self.rows) - int(of_vectors["embedding_valid"].sum())
        _LOGGER.info("vectors: %d of %d objects have none", missing, len(self.rows))
        return columns | of_vectors


def vector_columns(vectors: NDArray[np.float32]) -> dict[str, torch.Tensor]:
    """Return ``embedding`` and ``embedding_valid`` of (object, length) vectors, NaN where an object has none."""
    values = torch.from_numpy(vectors)
    valid = values.isfinite().all(dim=1)
    return {"embedding": values.where(valid[:, None], 0.0), "embedding_valid": valid}


def batch_source(
    pairs: PairInputs, config: TensorsConfig, branches: Sequence[str], *, cache_dir: Path, device: torch.device | str
) -> BatchSource:
    """What batches of pairs are cut from, where ``config.residency`` keeps it; ``device`` is the one that trains."""
    residency = chosen_residency(config, len(pairs.rows), branches, device)
    present = [branch for branch in MAKERS if branch in branches]
    columns = {"softening": config.asinh_softening, **pairs.columns()}
    if residency == "stream":
        makers = {branch: partial(MAKERS[branch], config=config) for branch in present}
        return StreamedTensors(store=pairs.store, makers=makers, rows=pairs.rows, **columns)
    parts = {branch: prepared(pairs.store, branch, config, cache_dir) for branch in present}
    if residency == "device":
        resident = {branch: torch.from_numpy(whole[pairs.rows]) for branch, whole in parts.items()}
        return PairTensors(image=resident.get("image"), spectrum=resident.get("spectrum"), **columns).to(device)
    return MappedTensors(parts=parts, rows=pairs.rows, pinned=torch.device(device).type == "cuda", **columns)


def chosen_residency(
    config: TensorsConfig, count: int, branches: Sequence[str], device: torch.device | str
) -> Residency:
    """Residency that ``config.residency`` means for some objects on a device; ``auto`` goes by its free memory."""
    if config.residency != "auto":
        return config.residency
    needed_bytes = 2 * count * sum(int(np.prod(shape_of(branch, config))) for branch in MAKERS if branch in branches)
    free_bytes = _free_bytes(torch.device(device))
    chosen: Residency = "device" if needed_bytes <= DEVICE_SHARE * free_bytes else "memory"
    _LOGGER.info(
        "tensors: %.0f MB of %d pairs, residency %s on %s with %.1f GB free",
        needed_bytes / 1e6,
        count,
        chosen,
        device,
        free_bytes / 1e9,
    )
    return chosen


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return int(psutil.virtual_memory().available)

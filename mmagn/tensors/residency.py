"""Where the tensors of the chosen pairs live: on the training device, in prepared files, or nowhere."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from mmagn.tensors.config import Residency, TensorsConfig
from mmagn.tensors.prepared import MAKERS, StoredPairs, fill, prepared, shape_of
from mmagn.tensors.scaling import FeatureScaling
from mmagn.tensors.sources import BatchSource, Halves, MappedTensors, PairSource, PairTensors, StreamedTensors

DEVICE_SHARE = 0.5
"""Part of the free memory of a device that ``auto`` fills with tensors; the rest is for training."""

_LOGGER = logging.getLogger(__name__)


def pair_tensors(
    store: PairSource,
    rows: NDArray[np.int64],
    feature_values: NDArray[np.floating],
    feature_valid: NDArray[np.bool_],
    target: NDArray[np.floating],
    scaling: FeatureScaling,
    config: TensorsConfig,
    branches: Sequence[str],
    *,
    cache_dir: Path | None = None,
) -> PairTensors:
    """Tensors of the chosen pairs in memory.

    Parameters
    ----------
    store
        Source of cutouts and spectra; a ``StoredPairs`` where there is a ``cache_dir``.
    rows
        (object,) rows of the store that are wanted, in the order of the tensors.
    feature_values, feature_valid
        (object, feature) raw features of those rows.
    target
        (object,) 1, 0, a probability or NaN of those rows.
    scaling
        Fitted on the training split.
    config
        Sizes and stretches.
    branches
        Which of ``image``, ``spectrum`` and ``features`` are made.
    cache_dir
        Folder where images and spectra of the whole store are kept prepared; without it they are made for these rows
        alone and not kept.
    """
    features, target_ = _small(rows, feature_values, feature_valid, target, scaling, branches)
    parts: dict[str, torch.Tensor] = {}
    for branch in MAKERS:
        if branch in branches and cache_dir is not None:
            parts[branch] = torch.from_numpy(prepared(cast(StoredPairs, store), branch, config, cache_dir)[rows])
        elif branch in branches:
            made: Halves = np.empty((len(rows), *shape_of(branch, config)), dtype=np.float16)
            fill(made, store, rows.tolist(), branch, config)
            parts[branch] = torch.from_numpy(made)
    return PairTensors(
        image=parts.get("image"),
        spectrum=parts.get("spectrum"),
        features=features,
        target=target_,
        softening=config.asinh_softening,
    )


def batch_source(
    store: StoredPairs,
    rows: NDArray[np.int64],
    feature_values: NDArray[np.floating],
    feature_valid: NDArray[np.bool_],
    target: NDArray[np.floating],
    scaling: FeatureScaling,
    config: TensorsConfig,
    branches: Sequence[str],
    *,
    cache_dir: Path,
    device: torch.device | str,
) -> BatchSource:
    """What batches of the chosen pairs are cut from, where ``config.residency`` says.

    Parameters as of :func:`pair_tensors`, and the ``device`` that trains.
    """
    residency = chosen_residency(config, len(rows), branches, device)
    given = (rows, feature_values, feature_valid, target, scaling)
    if residency == "device":
        return pair_tensors(store, *given, config, branches, cache_dir=cache_dir).to(device)
    features, target_ = _small(*given, branches)
    present = [branch for branch in MAKERS if branch in branches]
    if residency == "stream":
        return StreamedTensors(
            store=store,
            makers={branch: partial(MAKERS[branch], config=config) for branch in present},
            rows=rows,
            features=features,
            target=target_,
            softening=config.asinh_softening,
        )
    return MappedTensors(
        parts={branch: prepared(store, branch, config, cache_dir) for branch in present},
        rows=rows,
        features=features,
        target=target_,
        pinned=torch.device(device).type == "cuda",
        softening=config.asinh_softening,
    )


def chosen_residency(
    config: TensorsConfig, count: int, branches: Sequence[str], device: torch.device | str
) -> Residency:
    """Residency that ``config.residency`` means for a number of objects on a device; ``auto`` looks what is free."""
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


def _small(
    rows: NDArray[np.int64],
    feature_values: NDArray[np.floating],
    feature_valid: NDArray[np.bool_],
    target: NDArray[np.floating],
    scaling: FeatureScaling,
    branches: Sequence[str],
) -> tuple[torch.Tensor | None, torch.Tensor]:
    """Scaled features, where asked for, and targets."""
    if not len(rows) == len(feature_values) == len(target):
        raise ValueError(f"{len(rows)} rows came with {len(feature_values)} rows of features and {len(target)} targets")
    features = torch.from_numpy(scaling.transform(feature_values, feature_valid)) if "features" in branches else None
    return features, torch.as_tensor(np.asarray(target), dtype=torch.float32)

"""The whole set as tensors in memory, and the Lightning data module that selects batches from them."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor

from mmagn.matching.splits import SPLITS
from mmagn.records import BANDS, Cutout, Spectrum
from mmagn.tensors.augment import augment_batch
from mmagn.tensors.batches import BatchLoader, BatchOrder, OrderedBatches, ShuffledBatches, seed_of
from mmagn.tensors.config import AugmentConfig, TensorsConfig
from mmagn.tensors.image import image_tensor
from mmagn.tensors.scaling import FeatureScaling
from mmagn.tensors.spectrum import spectrum_pixels, spectrum_tensor

_LOGGER = logging.getLogger(__name__)
_LOG_EVERY = 500


class PairSource(Protocol):
    """What the tensors are made from, such as a ``PairStore``."""

    def cutout(self, row: int, /) -> Cutout:
        """Image of the pair in that row."""
        ...

    def spectrum(self, row: int, /) -> Spectrum:
        """Spectrum of the pair in that row."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class PairTensors:
    """Network input of all objects, resident in memory; an absent branch is None.

    Attributes
    ----------
    image
        (object, band, height, width) float16, as ``image_tensor`` gives it.
    spectrum
        (object, 2, pixel) float16, as ``spectrum_tensor`` gives it.
    features
        (object, feature) float32, scaled.
    target
        (object,) float32: 1, 0, or NaN where there is no label.
    softening
        ``asinh_softening`` of the images.
    """

    image: Tensor | None
    spectrum: Tensor | None
    features: Tensor | None
    target: Tensor
    softening: float = TensorsConfig.asinh_softening

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.target)

    def batch(self, rows: Tensor) -> dict[str, Tensor]:
        """Batch of the given rows.

        Parameters
        ----------
        rows
            (batch,) int64.

        Returns
        -------
        ``image``, ``spectrum``, ``features`` and ``target`` as float32, those that are present, and ``index``, the
        rows.
        """
        present = {"image": self.image, "spectrum": self.spectrum, "features": self.features, "target": self.target}
        batch = {name: tensor[rows].float() for name, tensor in present.items() if tensor is not None}
        return {**batch, "index": rows}


def pair_tensors(
    store: PairSource,
    rows: NDArray[np.int64],
    feature_values: NDArray[np.floating],
    feature_valid: NDArray[np.bool_],
    target: NDArray[np.floating],
    scaling: FeatureScaling,
    config: TensorsConfig,
    branches: Sequence[str],
) -> PairTensors:
    """Tensors of the chosen pairs, prepared once.

    Parameters
    ----------
    store
        Source of cutouts and spectra.
    rows
        (object,) rows of the store that are wanted, in the order of the tensors.
    feature_values, feature_valid
        (object, feature) raw features of those rows.
    target
        (object,) 1, 0 or NaN of those rows.
    scaling
        Fitted on the training split.
    config
        Sizes and stretches.
    branches
        Which of ``image``, ``spectrum`` and ``features`` are made.
    """
    if not len(rows) == len(feature_values) == len(target):
        raise ValueError(f"{len(rows)} rows came with {len(feature_values)} rows of features and {len(target)} targets")
    size, half = config.image_size, torch.float16
    image = torch.empty((len(rows), len(BANDS), size, size), dtype=half) if "image" in branches else None
    spectrum = torch.empty((len(rows), 2, spectrum_pixels(config)), dtype=half) if "spectrum" in branches else None
    started, unseen = time.perf_counter(), 0
    for place, row in enumerate(rows.tolist() if image is not None or spectrum is not None else ()):
        if image is not None:
            cutout = store.cutout(row)
            array = image_tensor(cutout.flux, cutout.ivar, config)
            unseen += not array.any()
            image[place] = torch.from_numpy(array)
        if spectrum is not None:
            spectrum[place] = torch.from_numpy(spectrum_tensor(store.spectrum(row), config))
        if (place + 1) % _LOG_EVERY == 0 or place + 1 == len(rows):
            _LOGGER.info("tensors: %d of %d pairs, %.1f s", place + 1, len(rows), time.perf_counter() - started)
    if unseen:
        _LOGGER.warning("tensors: %d images have no valid pixel in the central %d x %d", unseen, size, size)
    features = torch.from_numpy(scaling.transform(feature_values, feature_valid)) if "features" in branches else None
    return PairTensors(
        image=image,
        spectrum=spectrum,
        features=features,
        target=torch.as_tensor(np.asarray(target), dtype=torch.float32),
        softening=config.asinh_softening,
    )


class PairDataModule(LightningDataModule):
    """Batches of the three splits.

    Order and augmentation are functions of (seed, epoch, step) alone, so a run that is resumed, in the middle of an
    epoch too, sees what an undisturbed one sees. Augmentation happens after the transfer, on the device, in
    training only. The loader of a split without objects is empty.

    Parameters
    ----------
    tensors
        All objects.
    split
        (object,) one of ``SPLITS`` each.
    batch_size
        Pairs in a batch.
    augment
        Random changes in training.
    seed
        Seed of the run.
    """

    def __init__(
        self, tensors: PairTensors, split: NDArray[np.str_], *, batch_size: int, augment: AugmentConfig, seed: int
    ) -> None:
        super().__init__()
        if len(split) != len(tensors):
            raise ValueError(f"{len(split)} split names came with tensors of {len(tensors)} objects")
        if unknown := sorted(set(split.tolist()) - set(SPLITS)):
            raise ValueError(f"unknown split {unknown[0]}; allowed: {', '.join(SPLITS)}")
        self.tensors, self.split = tensors, split
        self.batch_size, self.augment, self.seed = batch_size, augment, seed

    def rows(self, split: str) -> Tensor:
        """(object,) int64 rows of a split, ascending."""
        return torch.from_numpy(np.flatnonzero(self.split == split).astype(np.int64))

    def train_dataloader(self) -> BatchLoader:
        """Batches of the training split, shuffled anew each epoch.

        Raises
        ------
        ValueError
            When the training split has fewer than two objects, or one without a target.
        """
        rows = self.rows("train")
        if len(rows) < 2:
            raise ValueError(f"the training split has {len(rows)} objects; training needs 2 or more")
        if unlabelled := int(self.tensors.target[rows].isnan().sum()):
            raise ValueError(f"{unlabelled} objects of the training split have no target; leave them out")
        return self._loader(ShuffledBatches(rows, self.batch_size, self.seed))

    def val_dataloader(self) -> BatchLoader:
        """Batches of the validation split, in order."""
        return self._split_loader("validation")

    def test_dataloader(self) -> BatchLoader:
        """Batches of the test split, in order."""
        return self._split_loader("test")

    def predict_dataloader(self) -> BatchLoader:
        """Batches of all objects, in order."""
        return self._loader(OrderedBatches(torch.arange(len(self.tensors)), self.batch_size))

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:  # noqa: ARG002
        """Batch with training augmentation, drawn from (seed, epoch, step); other batches as they are."""
        if self.trainer is None or not self.trainer.training:
            return batch
        step = self.trainer.fit_loop.batch_idx + 1
        generator = torch.Generator(device=batch["target"].device)
        generator.manual_seed(seed_of(self.seed, self.trainer.current_epoch, step))
        return augment_batch(batch, self.augment, generator, softening=self.tensors.softening)

    def _loader(self, order: BatchOrder) -> BatchLoader:
        return BatchLoader(self.tensors.batch, order)

    def _split_loader(self, split: str) -> BatchLoader:
        return self._loader(OrderedBatches(self.rows(split), self.batch_size))

"""Attribution of a logit to image, spectrum and features: integrated gradients and occlusion.

Both measure how the logit changes when part of the input is replaced by the baseline: empty sky in the image, bare
continuum in the spectrum, the imputed value of a feature, the mean vector. Both are in units of the logit.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmagn.lines import LINES
from mmagn.records import LIGHT_SPEED_KMS, Floats
from mmagn.tensors.batches import Batch

Logits = Callable[[Batch], Tensor]
STEPS, MOST_STEPS = 64, 1024
"""Points between baseline and galaxy at which gradients are taken (midpoint rule): at first, and at most."""
LARGEST_GAP = 0.05
"""Error of the integral, in units of the difference of the logits or of 1, from which four times the points follow."""
PATCH_PIXELS = 8
WINDOW_PIXELS = 14
"""Grid pixels of a sliding window of the spectrum: about 2000 km/s at the usual binning."""
LINE_HALF_WIDTH_KMS = 1000.0
AT_ONCE = 64
INPUTS = ("image", "spectrum", "features", "embedding")


@dataclass(frozen=True, kw_only=True, eq=False)
class Gradients:
    """Integrated gradients of one galaxy.

    ``parts`` are the shares of the logit by input: (band, height, width), (pixel,), (feature,) or (length,). All add up
    to the difference of ``logit`` and ``baseline_logit``.
    """

    parts: Mapping[str, Floats]
    logit: float
    baseline_logit: float

    @property
    def gap(self) -> float:
        """Difference of the logits less the sum of the shares: the error of the integral."""
        return self.logit - self.baseline_logit - float(sum(part.sum() for part in self.parts.values()))


def baseline_batch(batch: Batch, imputed: Tensor, vector: Tensor | None = None) -> dict[str, Tensor]:
    """Return the baseline of a batch of one galaxy: empty sky, bare continuum with the same noise, imputed features.

    ``imputed`` (feature,) are the values of features that are not measured; ``vector`` (length,) the mean of the
    training objects, for a network that takes vectors.
    """
    empty = dict(batch)
    if "image" in batch:
        empty["image"] = torch.zeros_like(batch["image"])
    if "spectrum" in batch:
        empty["spectrum"] = batch["spectrum"].clone()
        empty["spectrum"][:, 0] = 0
    if "features" in batch:
        empty["features"] = imputed.to(batch["features"]).expand_as(batch["features"])
    if "embedding" in batch and vector is not None:
        empty["embedding"] = vector.to(batch["embedding"]).expand_as(batch["embedding"])
    return empty


def integrated_gradients(
    logits: Logits, batch: Batch, imputed: Tensor, steps: int = STEPS, *, vector: Tensor | None = None
) -> Gradients:
    """Return the share that every input value has in the logit (Sundararajan, Taly & Yan 2017).

    The network is in evaluation mode, the batch of one galaxy; ``imputed`` and ``vector`` are as of
    :func:`baseline_batch`, ``steps`` the points of the integral: more where its error is large.
    """
    empty = baseline_batch(batch, imputed, vector)
    with torch.inference_mode():
        logit, baseline_logit = (float(logits(end)[0]) for end in (batch, empty))
    while True:
        parts = _shares(logits, batch, empty, steps)
        gradients = Gradients(parts=parts, logit=logit, baseline_logit=baseline_logit)
        if abs(gradients.gap) <= LARGEST_GAP * max(1.0, abs(logit - baseline_logit)) or steps >= MOST_STEPS:
            return gradients
        steps *= 4


def _shares(logits: Logits, batch: Batch, empty: Batch, steps: int) -> dict[str, Floats]:
    """Return the integral of the gradients from a baseline to a galaxy, by input."""
    names = [name for name in INPUTS if name in batch]
    total = {name: torch.zeros_like(batch[name][0], dtype=torch.float64) for name in names}
    for fractions in torch.split((torch.arange(steps) + 0.5) / steps, AT_ONCE):
        path = _repeated(batch, len(fractions))
        for name in names:
            along = fractions.to(batch[name]).view(-1, *([1] * (batch[name].ndim - 1)))
            path[name] = (empty[name] + along * (batch[name] - empty[name])).requires_grad_()
        gradients = torch.autograd.grad(logits(path).sum(), [path[name] for name in names], allow_unused=True)
        for name, gradient in zip(names, gradients, strict=True):
            if gradient is not None:
                total[name] += gradient.double().sum(0)
    shares = {name: total[name] * (batch[name][0] - empty[name][0]).double() / steps for name in names}
    if "spectrum" in shares:
        shares["spectrum"] = shares["spectrum"][0]  # the noise channel is constant along the path
    return {name: share.cpu().numpy() for name, share in shares.items()}


def image_occlusion(logits: Logits, batch: Batch, patch: int = PATCH_PIXELS) -> Floats:
    """Return the fall of the logit (row, column) when a square patch becomes empty sky in all bands."""
    height, width = batch["image"].shape[-2:]
    rows, columns = range(0, height, patch), range(0, width, patch)

    def occluded() -> Iterator[Tensor]:
        for top in rows:
            for left in columns:
                image = batch["image"][0].clone()
                image[:, top : top + patch, left : left + patch] = 0
                yield image

    return _falls(logits, batch, "image", occluded()).reshape(len(rows), len(columns))


def spectrum_occlusion(logits: Logits, batch: Batch, windows: list[tuple[int, int]]) -> Floats:
    """Return the fall of the logit (window,) when the pixels ``first`` to ``stop`` become bare continuum."""

    def occluded() -> Iterator[Tensor]:
        for first, stop in windows:
            spectrum = batch["spectrum"][0].clone()
            spectrum[0, first:stop] = 0
            yield spectrum

    return _falls(logits, batch, "spectrum", occluded())


def sliding_windows(pixels: int, width: int = WINDOW_PIXELS) -> list[tuple[int, int]]:
    """Return windows of the grid, each overlapping the one before by half."""
    return [(first, min(first + width, pixels)) for first in range(0, max(1, pixels - width // 2), max(1, width // 2))]


def line_windows(grid_angstrom: Floats, half_width_kms: float = LINE_HALF_WIDTH_KMS) -> dict[str, tuple[int, int]]:
    """Return the pixels around each emission line that lies on a rest-frame grid (pixel,), by the name of the line."""
    windows = {}
    for line in LINES:
        reach = math.exp(half_width_kms / LIGHT_SPEED_KMS)
        ends = np.searchsorted(grid_angstrom, [line.wavelength_angstrom / reach, line.wavelength_angstrom * reach])
        if grid_angstrom[0] < line.wavelength_angstrom < grid_angstrom[-1] and ends[0] < ends[1]:
            windows[line.name] = (int(ends[0]), int(ends[1]))
    return windows


def _repeated(batch: Batch, count: int) -> dict[str, Tensor]:
    return {name: value.expand(count, *value.shape[1:]).clone() for name, value in batch.items()}


def _falls(logits: Logits, batch: Batch, name: str, occluded: Iterator[Tensor]) -> Floats:
    """(variant,) logit of the galaxy less that of each variant of one input."""
    falls: list[Floats] = []
    with torch.inference_mode():
        whole = logits(batch).double().cpu().numpy()[0]
        variants = list(occluded)
        for start in range(0, len(variants), AT_ONCE):
            some = torch.stack(variants[start : start + AT_ONCE])
            falls.append(whole - logits({**_repeated(batch, len(some)), name: some}).double().cpu().numpy())
    return np.concatenate(falls) if falls else np.zeros(0)

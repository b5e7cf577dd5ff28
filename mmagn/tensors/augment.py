"""Random changes of a training batch, on whatever device the batch is."""

from collections.abc import Mapping, Sequence
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from mmagn.tensors.config import AugmentConfig, TensorsConfig
from mmagn.tensors.spectrum import SPECTRUM_HALF_SNR, SPECTRUM_LIMIT

DIHEDRAL_ELEMENTS = 8
"""Rotations by 90 degrees and reflections of a square."""


def augment_batch(
    batch: Mapping[str, Tensor],
    config: AugmentConfig,
    generator: torch.Generator | None,
    *,
    softening: float = TensorsConfig.asinh_softening,
) -> dict[str, Tensor]:
    """Batch with images shifted, turned and short of bands, and with noise added; absent branches stay absent.

    Noise is added to the flux behind the stretch, so it is right for faint and bright pixels alike, and never to
    a spectrum pixel that was not observed. Nothing waits for the device, and there is no loop over objects. All draws
    come from the generator, on the device of the batch, None for that of the device; ``softening`` is the
    ``asinh_softening`` that the images were made with.
    """
    draws, changed = augmentation_draws(batch, config, generator), dict(batch)
    if "image" in batch:
        image = batch["image"]
        if "dropped" in draws:
            image = without_bands(image, draws["dropped"])
        if "shift" in draws:
            image = shifted(image, draws["shift"])
        if "image_noise" in draws:
            image = noisy_image(image, config.image_noise / softening, draws["image_noise"])
        if "element" in draws:
            image = dihedral(image, draws["element"])
        changed["image"] = image
    if "spectrum_noise" in draws:
        changed["spectrum"] = noisy_spectrum(batch["spectrum"], config.spectrum_noise, draws["spectrum_noise"])
    return changed


def augmentation_draws(
    batch: Mapping[str, Tensor], config: AugmentConfig, generator: torch.Generator | None
) -> dict[str, Tensor]:
    """Random numbers of a batch, those that ``config`` needs.

    ``image_noise`` (batch, band, height, width) and ``spectrum_noise`` (batch, pixel) standard normal, ``element``
    (batch,) of the dihedral group, ``shift`` (batch, 2) in pixels of x and y, ``dropped`` (batch, band) bool.
    """
    draws: dict[str, Tensor] = {}
    if "image" in batch:
        image = batch["image"]
        if config.image_noise > 0:
            draws["image_noise"] = _normal(image, generator)
        if config.dihedral:
            draws["element"] = torch.randint(DIHEDRAL_ELEMENTS, (len(image),), generator=generator, device=image.device)
        if config.shift_pixels > 0:
            draws["shift"] = (2 * _uniform((len(image), 2), image, generator) - 1) * config.shift_pixels
        if config.band_dropout > 0:
            draws["dropped"] = _uniform(image.shape[:2], image, generator) < config.band_dropout
    if "spectrum" in batch and config.spectrum_noise > 0:
        draws["spectrum_noise"] = _normal(batch["spectrum"][:, 0], generator)
    return draws


def without_bands(image: Tensor, dropped: Tensor) -> Tensor:
    """Images (batch, band, height, width) whose ``dropped`` bands (batch, band) look as if they were never observed.

    As in ``image_tensor`` such a band takes the values of the nearest one that is left, the redder of two as near.
    Where all are dropped the image stays as it is.
    """
    band = torch.arange(image.shape[1], device=image.device)
    distance = 2 * (band[:, None] - band).abs() - (band > band[:, None]).int()
    cost = distance + 4 * image.shape[1] * dropped[:, None, :].int()
    source = cost.argmin(dim=2)
    return image.gather(1, source[:, :, None, None].expand_as(image))


def shifted(image: Tensor, shift: Tensor) -> Tensor:
    """Images (batch, band, height, width), each moved by its ``shift`` (batch, 2) towards larger width and height.

    Cubic interpolation, within 0.03 pixels: a linear one would smooth the noise by an amount that depends on the
    shift. Edge pixels are repeated.
    """
    height, width = image.shape[-2:]
    offset = torch.stack((-2 * shift[:, 0] / width, -2 * shift[:, 1] / height), dim=1)
    identity = torch.eye(2, dtype=image.dtype, device=image.device).expand(len(image), 2, 2)
    affine = torch.cat((identity, offset[:, :, None]), dim=2)
    grid = functional.affine_grid(affine, list(image.shape), align_corners=False)
    return functional.grid_sample(image, grid, mode="bicubic", padding_mode="border", align_corners=False)


def dihedral(image: Tensor, element: Tensor) -> Tensor:
    """Square images (batch, band, height, width), each moved by its own symmetry of the square.

    ``element`` (batch,) is from 0 (identity) to 7: bit 0 flips the width, bit 1 the height, bit 2 then swaps both axes.
    """
    if image.is_cuda:
        return dihedral_gathered(image, element)
    bits = [((element >> bit) & 1).bool()[:, None, None, None] for bit in range(3)]
    image = torch.where(bits[0], image.flip(-1), image)
    image = torch.where(bits[1], image.flip(-2), image)
    return torch.where(bits[2], image.transpose(-1, -2), image)


def dihedral_gathered(image: Tensor, element: Tensor) -> Tensor:
    """:func:`dihedral` in two kernels, where a launch costs more than a pass through memory."""
    source = _symmetries(image.shape[-1], image.device)[element]
    return image.flatten(2).gather(2, source[:, None].expand(-1, image.shape[1], -1)).view_as(image)


@cache
def _symmetries(size: int, device: torch.device) -> Tensor:
    """(element, pixel) pixel that each pixel of a square image is taken from."""
    pixels = torch.arange(size * size).view(1, 1, size, size).expand(DIHEDRAL_ELEMENTS, 1, size, size)
    return dihedral(pixels, torch.arange(DIHEDRAL_ELEMENTS)).flatten(1).to(device)


def noisy_image(image: Tensor, noise: float, drawn: Tensor) -> Tensor:
    """(batch, band, height, width) stretched images with ``noise`` times what was drawn added before the stretch."""
    if image.is_cuda:
        return torch.add(image.sinh(), drawn, alpha=noise).asinh()
    return _asinh(_sinh(image) + noise * drawn)


def noisy_spectrum(spectrum: Tensor, noise: float, drawn: Tensor) -> Tensor:
    """Spectra (batch, 2, pixel) with ``noise`` times the ``drawn`` (batch, pixel), in units of a pixel's own noise."""
    excess, information = spectrum[:, 0], spectrum[:, 1]
    valid = information > 0
    sigma = torch.sqrt((1 - information) / information.where(valid, 1.0)) / SPECTRUM_HALF_SNR
    changed = _asinh(_sinh(excess) + noise * sigma * drawn)
    changed = changed.clamp(-SPECTRUM_LIMIT, SPECTRUM_LIMIT).where(valid, excess)
    return torch.stack((changed, information), dim=1)


def _normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)


def _uniform(shape: Sequence[int], like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.rand(tuple(shape), generator=generator, device=like.device, dtype=like.dtype)


def _sinh(values: Tensor) -> Tensor:
    """Hyperbolic sine to 1e-7 absolute, from exp: torch's own is ten times slower on CPUs, and one kernel on GPUs."""
    if values.is_cuda:
        return values.sinh()
    grown = values.exp()
    return (grown - grown.reciprocal()) / 2


def _asinh(values: Tensor) -> Tensor:
    """Inverse hyperbolic sine to 1e-7 absolute, from log: torch's own is seven times slower on CPUs, not on GPUs."""
    if values.is_cuda:
        return values.asinh()
    size = values.abs()
    return torch.log(size + torch.sqrt(size.square() + 1)).copysign(values)

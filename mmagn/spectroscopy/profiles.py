"""Emission-line profiles on the pixels around the lines: Gaussians integrated over every pixel, with derivatives.

Only pixels near a line see it, so everything non-linear happens on a few *segments* (line complexes) instead of the
whole spectrum. A line is a Gaussian in log-wavelength; flux per pixel is the difference of two error functions, so a
line as narrow as a pixel keeps its flux.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from mmagn.lines import LINES
from mmagn.records import LIGHT_SPEED_KMS, LOG10_STEP
from mmagn.spectroscopy.batch import LINE_SLOT

PIXEL_KMS = LIGHT_SPEED_KMS * math.log(10.0) * LOG10_STEP
"""Velocity of one pixel (69.03 km/s)."""
PATCH_RADIUS = 26
"""Pixels on either side of a line where its profile is evaluated (1,800 km/s)."""
GROUPS = ("balmer", "forbidden")
AMPLITUDES = tuple(line.name for line in LINES if not line.tied_to)
"""Lines with a free flux, in the order of the linear unknowns; tied lines follow theirs."""
ANCHORS = tuple(index for index, line in enumerate(LINES) if not line.tied_to)
"""Position in ``LINES`` of every free flux."""
AMPLITUDE_GROUP = tuple(GROUPS.index(LINES[index].group) for index in ANCHORS)
LINE_GROUP = tuple(GROUPS.index(line.group) for line in LINES)
_PATCH_START = tuple(round(float(slot)) - PATCH_RADIUS for slot in LINE_SLOT)
_PATCH_PIXELS = 2 * PATCH_RADIUS + 1


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A run of pixels that holds a complex of lines.

    Attributes
    ----------
    slots
        Slots of the rest grid.
    pixels
        The same pixels on the axis where all segments stand one after the other.
    amplitudes
        Free fluxes that contribute.
    parts
        (line, row, ratio, first pixel in the segment) of every line: row counts ``amplitudes``, ratio is its flux
        over the free one.
    """

    slots: slice
    pixels: slice
    amplitudes: tuple[int, ...]
    parts: tuple[tuple[int, int, float, int], ...]


def _segments() -> tuple[Segment, ...]:
    complexes: list[list[int]] = []
    for line in sorted(range(len(LINES)), key=lambda index: _PATCH_START[index]):
        if complexes and _PATCH_START[line] < _PATCH_START[complexes[-1][-1]] + _PATCH_PIXELS:
            complexes[-1].append(line)
        else:
            complexes.append([line])
    segments, offset = [], 0
    for members in complexes:
        low, high = _PATCH_START[members[0]], _PATCH_START[members[-1]] + _PATCH_PIXELS
        names = [LINES[index].tied_to or LINES[index].name for index in members]
        amplitudes = tuple(sorted({AMPLITUDES.index(name) for name in names}))
        parts = tuple(
            (
                index,
                amplitudes.index(AMPLITUDES.index(name)),
                LINES[index].tied_ratio if LINES[index].tied_to else 1.0,
                _PATCH_START[index] - low,
            )
            for index, name in zip(members, names, strict=True)
        )
        pixels = slice(offset, offset + high - low)
        segments.append(Segment(slots=slice(low, high), pixels=pixels, amplitudes=amplitudes, parts=parts))
        offset += high - low
    return tuple(segments)


SEGMENTS = _segments()
SEGMENT_SLOTS = np.concatenate([np.arange(segment.slots.start, segment.slots.stop) for segment in SEGMENTS])
"""(pixel,) slot of every segment pixel."""


def total_sigma(log_sigma: torch.Tensor, lsf_sigma: torch.Tensor) -> torch.Tensor:
    """Return the observed width of every line in pixels.

    Parameters
    ----------
    log_sigma
        (batch, group) natural log of the intrinsic width in km/s.
    lsf_sigma
        (batch, line) instrumental dispersion in pixels, added in quadrature.
    """
    intrinsic = (log_sigma.exp() / PIXEL_KMS)[:, LINE_GROUP]
    return (intrinsic.square() + lsf_sigma.square()).sqrt()


@lru_cache(maxsize=4)
def _patch_grid(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (line,) positions in their patches and (pixel + 1,) borders of the pixels of a patch."""
    start = torch.tensor(LINE_SLOT - np.array(_PATCH_START), dtype=torch.float64, device=device)
    return start, torch.arange(_PATCH_PIXELS + 1, dtype=torch.float64, device=device) - 0.5


def line_patches(kinematics: torch.Tensor, phase: torch.Tensor, lsf_sigma: torch.Tensor) -> torch.Tensor:
    """Return unit-flux profiles and their derivatives around every line.

    Parameters
    ----------
    kinematics
        (batch, group, 2) velocity in pixels and natural log of the intrinsic width in km/s.
    phase
        (batch,) fraction of a pixel, see ``SpectrumBatch``.
    lsf_sigma
        (batch, line) instrumental dispersion in pixels.

    Returns
    -------
    torch.Tensor
        (batch, line, 3, pixel): flux per pixel, d/d velocity (per pixel), d/d log width. Flux per pixel is
        1/2 [erf(b / sqrt 2) - erf(a / sqrt 2)] with a and b the pixel borders in units of the observed width.
    """
    sigma = total_sigma(kinematics[:, :, 1], lsf_sigma)
    start, borders = _patch_grid(sigma.device)
    centre = start - phase[:, None] + kinematics[:, LINE_GROUP, 0]
    inverse = 1.0 / sigma[:, :, None]
    z = (borders - centre[:, :, None]) * inverse
    cumulative = torch.erf(z * math.sqrt(0.5)).mul_(0.5)
    density = z.square().mul_(-0.5).exp_().mul_(inverse * (1.0 / math.sqrt(2.0 * math.pi)))
    patches = sigma.new_empty((*sigma.shape, 3, _PATCH_PIXELS))
    torch.sub(cumulative[..., 1:], cumulative[..., :-1], out=patches[:, :, 0])
    torch.sub(density[..., :-1], density[..., 1:], out=patches[:, :, 1])
    share = 1.0 - (lsf_sigma / sigma).square()
    density.mul_(z).mul_((share * sigma)[:, :, None])
    torch.sub(density[..., :-1], density[..., 1:], out=patches[:, :, 2])
    return patches


def segment_rows(patches: torch.Tensor, segment: Segment) -> torch.Tensor:
    """Return the rows of one segment's design matrix.

    Parameters
    ----------
    patches
        (batch, line, 3, pixel) from ``line_patches``.
    segment
        Which one.

    Returns
    -------
    torch.Tensor
        (batch, 3 x amplitude, pixel): profile, d/d velocity and d/d log width of every free flux of the segment, tied
        lines added with their ratio.
    """
    width = segment.slots.stop - segment.slots.start
    rows = patches.new_zeros((len(patches), len(segment.amplitudes), 3, width))
    for line, row, ratio, first in segment.parts:
        rows[:, row, :, first : first + _PATCH_PIXELS].add_(patches[:, line], alpha=ratio)
    return rows.flatten(1, 2)


def line_coverage(weight: torch.Tensor, sigma: float = 2.5, radius: int = 6) -> torch.Tensor:
    """Return how much of every line's core lies on valid pixels.

    Parameters
    ----------
    weight
        (batch, slot) weights, 0 where not valid.
    sigma, radius
        Width of the typical profile and half-width of the core, in pixels.

    Returns
    -------
    torch.Tensor
        (batch, line) float64, 0 to 1.
    """
    offsets = torch.arange(-radius, radius + 1, device=weight.device)
    profile = torch.exp(-0.5 * (offsets.double() / sigma).square())
    centre = torch.tensor(LINE_SLOT, device=weight.device).round().long()
    core = weight[:, (centre[:, None] + offsets).flatten()] > 0
    return core.double().view(len(core), len(LINES), -1) @ (profile / profile.sum())

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
CORE_SIGMA, CORE_RADIUS = 2.5, 6
"""Width of a typical profile and half-width of the core of a line, in pixels."""
GROUPS = ("balmer", "forbidden")
AMPLITUDES = tuple(line.name for line in LINES if not line.tied_to)
"""Lines with a free flux, in the order of the linear unknowns; tied lines follow theirs."""
ANCHORS = tuple(index for index, line in enumerate(LINES) if not line.tied_to)
"""Position in ``LINES`` of every free flux."""
AMPLITUDE_GROUP = tuple(GROUPS.index(LINES[index].group) for index in ANCHORS)
_PATCH_START = tuple(round(float(slot)) - PATCH_RADIUS for slot in LINE_SLOT)
PATCH_PIXELS = 2 * PATCH_RADIUS + 1


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
        Free fluxes that contribute, neighbours in ``AMPLITUDES``.
    parts
        (line, row, ratio, first pixel in the segment) of every line: row counts ``amplitudes``, ratio is its flux
        over the free one.
    """

    slots: slice
    pixels: slice
    amplitudes: tuple[int, ...]
    parts: tuple[tuple[int, int, float, int], ...]

    def of(self, kinds: int) -> slice:
        """Return where the rows of its free fluxes are among those of all, with ``kinds`` rows each."""
        return slice(kinds * self.amplitudes[0], kinds * (self.amplitudes[-1] + 1))


def _segments() -> tuple[Segment, ...]:
    complexes: list[list[int]] = []
    for line in sorted(range(len(LINES)), key=lambda index: _PATCH_START[index]):
        if complexes and _PATCH_START[line] < _PATCH_START[complexes[-1][-1]] + PATCH_PIXELS:
            complexes[-1].append(line)
        else:
            complexes.append([line])
    segments, offset = [], 0
    for members in complexes:
        low, high = _PATCH_START[members[0]], _PATCH_START[members[-1]] + PATCH_PIXELS
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
LINE_RATIO = np.zeros((len(AMPLITUDES), len(LINES)))
"""(amplitude, line) flux of every line over the free flux that it belongs to, 0 elsewhere."""
for _segment in SEGMENTS:
    for _line, _row, _ratio, _ in _segment.parts:
        LINE_RATIO[_segment.amplitudes[_row], _line] = _ratio
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
    intrinsic = (log_sigma.exp() / PIXEL_KMS)[:, _line_group(log_sigma.device)]
    return (intrinsic.square() + lsf_sigma.square()).sqrt()


@lru_cache(maxsize=4)
def _line_group(device: torch.device) -> torch.Tensor:
    """Return (line,) kinematic group of every line."""
    return torch.tensor([GROUPS.index(line.group) for line in LINES], device=device)


@lru_cache(maxsize=4)
def _patch_grid(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (line,) positions in their patches and (pixel + 1,) borders of the pixels of a patch."""
    start = torch.tensor(LINE_SLOT - np.array(_PATCH_START), dtype=torch.float64, device=device)
    return start, torch.arange(PATCH_PIXELS + 1, dtype=torch.float64, device=device) - 0.5


def line_patches(
    kinematics: torch.Tensor, phase: torch.Tensor, lsf_sigma: torch.Tensor, *, derivatives: bool = True
) -> torch.Tensor:
    """Return unit-flux profiles and their derivatives around every line.

    Parameters
    ----------
    kinematics
        (batch, group, 2) velocity in pixels and natural log of the intrinsic width in km/s.
    phase
        (batch,) fraction of a pixel, see ``SpectrumBatch``.
    lsf_sigma
        (batch, line) instrumental dispersion in pixels.
    derivatives
        Compute the derivatives too.

    Returns
    -------
    torch.Tensor
        (batch, line, kind, pixel): flux per pixel; then d/d velocity (per pixel) and d/d log width. Flux per pixel is
        1/2 [erf(b / sqrt 2) - erf(a / sqrt 2)] with a and b the pixel borders in units of the observed width.
    """
    sigma = total_sigma(kinematics[:, :, 1], lsf_sigma)
    start, borders = _patch_grid(sigma.device)
    centre = start - phase[:, None] + kinematics[:, _line_group(sigma.device), 0]
    inverse = 1.0 / sigma[:, :, None]
    z = (borders - centre[:, :, None]) * inverse
    cumulative = torch.erf(z * math.sqrt(0.5)).mul_(0.5)
    patches = sigma.new_empty((*sigma.shape, 3 if derivatives else 1, PATCH_PIXELS))
    torch.sub(cumulative[..., 1:], cumulative[..., :-1], out=patches[:, :, 0])
    if derivatives:
        density = z.square().mul_(-0.5).exp_().mul_(inverse * (1.0 / math.sqrt(2.0 * math.pi)))
        torch.sub(density[..., :-1], density[..., 1:], out=patches[:, :, 1])
        share = 1.0 - (lsf_sigma / sigma).square()
        density.mul_(z).mul_((share * sigma)[:, :, None])
        torch.sub(density[..., :-1], density[..., 1:], out=patches[:, :, 2])
    return patches


def segment_rows(patches: torch.Tensor, segment: Segment) -> torch.Tensor:
    """Return (batch, amplitude x kind, pixel) rows of one segment's design matrix from ``line_patches``.

    One row per kind of every free flux of the segment, tied lines added with their ratio.
    """
    width = segment.slots.stop - segment.slots.start
    rows = patches.new_zeros((len(patches), len(segment.amplitudes), patches.shape[2], width))
    for line, row, ratio, first in segment.parts:
        rows[:, row, :, first : first + PATCH_PIXELS].add_(patches[:, line], alpha=ratio)
    return rows.flatten(1, 2)


@lru_cache(maxsize=4)
def _core_grid(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (line x core pixel,) slots of the line cores and (core pixel,) the typical profile in them."""
    offsets = torch.arange(-CORE_RADIUS, CORE_RADIUS + 1)
    profile = torch.exp(-0.5 * (offsets.double() / CORE_SIGMA).square())
    slots = (torch.tensor(LINE_SLOT).round().long()[:, None] + offsets).flatten()
    return slots.to(device), (profile / profile.sum()).to(device)


def line_coverage(weight: torch.Tensor) -> torch.Tensor:
    """Return (batch, line) float64, 0 to 1: how much of a line's core has a weight (batch, slot) above 0."""
    slots, profile = _core_grid(weight.device)
    return (weight[:, slots] > 0).double().view(len(weight), len(LINES), -1) @ profile

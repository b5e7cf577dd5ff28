"""The linear part of the fit: continuum normal equations of every spectrum, with the line pixels kept native.

Everything is in flux per pixel (flux density times pixel width) and divided by a scale of the spectrum, so that
numbers are of order one and a unit-flux line profile sums to one. Pixels in the line segments stay native; elsewhere
the continuum is smooth and the weights of ``BIN_PIXELS`` neighbours are added up.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmagn.spectroscopy.basis import ContinuumBasis
from mmagn.spectroscopy.batch import BIN_PIXELS, PIXEL_ANGSTROM, SLOTS, SpectrumBatch
from mmagn.spectroscopy.profiles import SEGMENT_SLOTS

_NODES = (-0.5, 0.0, 0.5)
"""Phases at which products of columns are tabulated; a parabola runs through them."""


def _cubic_weights(phase: torch.Tensor) -> torch.Tensor:
    """Return (batch, 4) weights of slots n-1 .. n+2 (phase >= 0) for cubic interpolation at n + phase."""
    t = phase
    return torch.stack(
        [-t * (t - 1) * (t - 2) / 6, (t + 1) * (t - 1) * (t - 2) / 2, -t * (t + 1) * (t - 2) / 2, t * (t * t - 1) / 6],
        1,
    )


def _parabola_weights(phase: torch.Tensor) -> torch.Tensor:
    """Return (batch, 3) Lagrange weights of the phases ``_NODES``."""
    t = phase
    return torch.stack([2 * t * (t - 0.5), 1 - 4 * t * t, 2 * t * (t + 0.5)], 1)


def _shifted(columns: NDArray[np.float64], shift: int) -> NDArray[np.float64]:
    """Return the columns read ``shift`` slots further on, edges repeated."""
    return columns[:, np.clip(np.arange(SLOTS) + shift, 0, SLOTS - 1)]


def columns_at_phase(columns: NDArray[np.float64], phase: float) -> NDArray[np.float64]:
    """Return (term, slot) columns of a spectrum whose slot ``n`` is at ``n + phase``, by cubic interpolation."""
    weights = _cubic_weights(torch.tensor([phase % 1.0], dtype=torch.float64))[0].tolist()
    shift = -1 if phase < 0 else 0
    parts = [weight * _shifted(columns, shift + k) for k, weight in enumerate(weights, start=-1)]
    return np.asarray(sum(parts))


@dataclass(frozen=True, kw_only=True, eq=False)
class Grids:
    """What a continuum model looks like to the fit, as tensors on one device.

    Attributes
    ----------
    segment
        (5, term x segment pixel) columns at slots n-2 .. n+2, for cubic interpolation.
    binned
        (node, term, bin) columns at three phases.
    products
        (bin, node x pair) their products, for the normal matrix; pairs are the upper triangle.
    pairs
        (term x term,) which pair is each entry of the normal matrix.
    references
        (bin, reference) level shapes.
    outside
        (slot,) float32, 1 where a pixel enters through the bins.
    inside
        (segment pixel,) 1 where a segment pixel is fitted.
    """

    segment: torch.Tensor
    binned: torch.Tensor
    products: torch.Tensor
    pairs: torch.Tensor
    references: torch.Tensor
    outside: torch.Tensor
    inside: torch.Tensor
    prior_mean: torch.Tensor
    prior_precision: torch.Tensor
    reference_of: torch.Tensor


def binned_columns(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (..., bin) means over ``BIN_PIXELS`` slots."""
    return np.asarray(columns.reshape(*columns.shape[:-1], -1, BIN_PIXELS).mean(-1))


@lru_cache(maxsize=8)
def grids(basis: ContinuumBasis, device: torch.device) -> Grids:
    """Return the tables of one continuum model; kept, since every batch needs the same."""
    columns = basis.columns * PIXEL_ANGSTROM
    segment = np.stack([_shifted(columns, k)[:, SEGMENT_SLOTS] for k in range(-2, 3)])
    binned = np.stack([binned_columns(columns_at_phase(columns, phase)) for phase in _NODES])
    upper = np.triu_indices(len(columns))
    pairs = np.zeros((len(columns), len(columns)), np.int64)
    pairs[upper] = pairs.T[upper] = np.arange(len(upper[0]))
    products = binned[:, upper[0]] * binned[:, upper[1]]
    outside = basis.fitted.copy()
    outside[SEGMENT_SLOTS] = False

    def tensor(array: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    return Grids(
        segment=tensor(segment.reshape(5, -1)),
        binned=tensor(binned),
        products=tensor(products.reshape(-1, binned.shape[-1]).T),
        pairs=tensor(pairs.ravel()),
        references=tensor(binned_columns(basis.references * PIXEL_ANGSTROM).T),
        outside=tensor(outside.astype(np.float32)),
        inside=tensor(basis.fitted[SEGMENT_SLOTS].astype(np.float64)),
        prior_mean=tensor(basis.prior_mean),
        prior_precision=tensor(basis.prior_precision),
        reference_of=tensor(basis.reference_of),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class ContinuumSystem:
    """Normal equations of the continuum, and the native pixels of the line segments.

    Attributes
    ----------
    scale
        (batch,) float64; flux per pixel was divided by it.
    data
        (batch, term + 1, segment pixel) continuum columns at the phase of each spectrum, and the scaled flux per pixel.
    weight
        (batch, segment pixel) inverse variance of that flux.
    normal, right
        (batch, term, term) and (batch, term): all pixels and the prior.
    normal_outside, right_outside
        The same without the segments.
    square
        (batch,) weighted sum of squares of all pixels, and of the prior mean.
    binned_weight, binned_flux
        (batch, bin) weights and weight times flux outside the segments.
    """

    scale: torch.Tensor
    data: torch.Tensor
    weight: torch.Tensor
    normal: torch.Tensor
    right: torch.Tensor
    normal_outside: torch.Tensor
    right_outside: torch.Tensor
    square: torch.Tensor
    binned_weight: torch.Tensor
    binned_flux: torch.Tensor

    @property
    def columns(self) -> torch.Tensor:
        """(batch, term, segment pixel) continuum columns."""
        return self.data[:, :-1]

    @property
    def flux(self) -> torch.Tensor:
        """(batch, segment pixel) scaled flux per pixel."""
        return self.data[:, -1]


def segment_columns(batch: SpectrumBatch, tables: Grids) -> torch.Tensor:
    """Return (batch, term, segment pixel) continuum columns at the phase of each spectrum."""
    negative = batch.phase < 0
    weights = _cubic_weights(torch.where(negative, batch.phase + 1, batch.phase))
    five = weights.new_zeros((len(weights), 5))
    five[:, 1:] = weights * (~negative)[:, None]
    five[:, :4] += weights * negative[:, None]
    return (five @ tables.segment).view(len(five), len(tables.prior_mean), -1)


def binned_at_phase(phase: torch.Tensor, tables: Grids) -> torch.Tensor:
    """Return (batch, term, bin) binned columns at the phase of each spectrum."""
    _, terms, bins = tables.binned.shape
    return (_parabola_weights(phase) @ tables.binned.flatten(1)).view(-1, terms, bins)


def _prior(
    tables: Grids, weight: torch.Tensor, weighted_flux: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return precision, precision times mean and mean.precision.mean for the level of each spectrum."""
    information = weight @ tables.references.square()
    level = (weighted_flux @ tables.references) / information.clamp_min(1e-12)
    spread = torch.maximum(level.abs(), 3.0 / information.clamp_min(1e-2).sqrt())
    spread, level = spread[:, tables.reference_of], level.clamp_min(0.0)[:, tables.reference_of]
    precision = tables.prior_precision / (spread[:, :, None] * spread[:, None, :])
    mean = tables.prior_mean * level
    right = (precision @ mean[:, :, None])[:, :, 0]
    precision = precision + 1e-4 * torch.eye(len(tables.prior_mean), dtype=precision.dtype, device=precision.device)
    return precision, right, (right * mean).sum(1)


def continuum_system(batch: SpectrumBatch, tables: Grids) -> ContinuumSystem:
    """Return the normal equations of the continuum of every spectrum.

    Parameters
    ----------
    batch
        Spectra on the rest grid.
    tables
        The continuum model.
    """
    width = torch.from_numpy(PIXEL_ANGSTROM).to(batch.flux.device)
    slots = torch.from_numpy(SEGMENT_SLOTS).to(batch.flux.device)
    # Of two neighbouring slots that fall into one bin each keeps its own weight: sums over bins lose nothing.
    outside = (batch.ivar * tables.outside).double()
    outside_flux = outside * batch.flux
    bins = (len(batch), -1, BIN_PIXELS)
    bin_width = width.view(-1, BIN_PIXELS).mean(1)
    weight = outside.view(bins).sum(-1) / bin_width.square()
    weighted_flux = outside_flux.view(bins).sum(-1) / bin_width
    inside_weight = batch.ivar[:, slots].double() * tables.inside / width[slots].square()
    inside_flux = batch.flux[:, slots].double() * width[slots]
    total = weight.sum(1) + inside_weight.sum(1)
    square = (outside_flux * batch.flux).sum(1) + (inside_weight * inside_flux.square()).sum(1)
    usable = (total > 0) & (square > 0)
    scale = torch.where(usable, (square / total.clamp_min(torch.finfo(total.dtype).tiny)).sqrt(), 1.0)
    weight, inside_weight = weight * scale[:, None].square(), inside_weight * scale[:, None].square()
    weighted_flux, inside_flux = weighted_flux * scale[:, None], inside_flux / scale[:, None]

    terms = len(tables.prior_mean)
    parabola = _parabola_weights(batch.phase)
    products = (parabola[:, None] @ (weight @ tables.products).view(len(batch), 3, -1))[:, 0]
    normal = products[:, tables.pairs].view(-1, terms, terms)
    at_nodes = (weighted_flux @ tables.binned.flatten(0, 1).T).view(-1, 3, terms)
    precision, prior_right, prior_square = _prior(tables, weight, weighted_flux)
    normal_outside = normal + precision
    right_outside = (parabola[:, None] @ at_nodes)[:, 0] + prior_right
    columns = segment_columns(batch, tables)
    weighted = columns * inside_weight[:, None]
    return ContinuumSystem(
        scale=scale,
        data=torch.cat([columns, inside_flux[:, None]], 1),
        weight=inside_weight,
        normal=normal_outside + torch.bmm(weighted, columns.mT),
        right=right_outside + torch.bmm(weighted, inside_flux[:, :, None])[:, :, 0],
        normal_outside=normal_outside,
        right_outside=right_outside,
        square=torch.where(usable, square, 0.0) + prior_square,
        binned_weight=weight,
        binned_flux=weighted_flux,
    )

"""Spectra of any length and redshift as one padded batch on the rest-frame log grid.

The native grid steps by ``LOG10_STEP`` dex, so a redshift is an integer shift plus a fraction of a pixel. Pixels are
copied, never resampled: slot ``n`` of the rest grid holds the native pixel whose rest position is ``n + phase`` in
units of the step, with ``phase`` between -0.5 and 0.5 different for every spectrum. Models are evaluated at
``n + phase``; data stay as they were measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmagn.lines import LINES
from mmagn.records import IVAR_LIMIT, LOG10_STEP, Floats, Spectrum

REST_MIN_ANGSTROM = 3700.0
REST_MAX_ANGSTROM = 7000.0
BIN_PIXELS = 4
"""Native pixels summed (not resampled: weights add up) where only the smooth continuum matters."""
FIRST_SLOT = round(np.log10(REST_MIN_ANGSTROM) / LOG10_STEP)
SLOTS = (round(np.log10(REST_MAX_ANGSTROM) / LOG10_STEP) - FIRST_SLOT) // BIN_PIXELS * BIN_PIXELS

REST_ANGSTROM: Floats = 10.0 ** ((FIRST_SLOT + np.arange(SLOTS)) * LOG10_STEP)
"""(pixel,) rest wavelength of every slot at phase 0."""
PIXEL_ANGSTROM: Floats = REST_ANGSTROM * (10.0 ** (LOG10_STEP / 2) - 10.0 ** (-LOG10_STEP / 2))
"""(pixel,) rest-frame width of every slot."""
LINE_SLOT: Floats = np.log10(np.array([line.wavelength_angstrom for line in LINES])) / LOG10_STEP - FIRST_SLOT
"""(line,) position of every line of ``LINES`` on the rest grid, in pixels from slot 0."""


def slots_between(low_angstrom: float, high_angstrom: float) -> slice:
    """Return the slots between two rest wavelengths, clipped to the rest grid."""
    low, high = (np.log10(np.array([low_angstrom, high_angstrom])) / LOG10_STEP - FIRST_SLOT).round().astype(int)
    return slice(max(int(low), 0), min(int(high), SLOTS))


@dataclass(frozen=True, kw_only=True, eq=False)
class SpectrumBatch:
    """Many spectra on the rest grid.

    Attributes
    ----------
    flux
        (batch, pixel) float32, 1e-17 erg/s/cm2/A in the observed frame, 0 where not valid.
    ivar
        (batch, pixel) float32, inverse variance of flux, 0 where not valid.
    phase
        (batch,) float64, rest position of slot ``n`` is ``n + phase``.
    lsf_sigma
        (batch, line) float64, instrumental dispersion in pixels at each line of ``LINES``, without the pixel itself:
        the published value is the width of arc lines as sampled, 1/12 square pixel more in variance.
    first, last
        (batch,) int64, slots that the spectrum covers: ``first <= n < last``, before clipping to the rest grid.
    redshift
        (batch,) float64, NaN where the spectrum cannot be placed on the grid.
    constant
        (batch,) bool, True where all valid flux values are the same number.
    """

    flux: torch.Tensor
    ivar: torch.Tensor
    phase: torch.Tensor
    lsf_sigma: torch.Tensor
    first: torch.Tensor
    last: torch.Tensor
    redshift: torch.Tensor
    constant: torch.Tensor

    def __len__(self) -> int:
        """Return the number of spectra."""
        return len(self.flux)


@dataclass(frozen=True, kw_only=True, eq=False)
class Placement:
    """Where spectra lie on the rest grid; arrays (spectrum,) in their order.

    Attributes
    ----------
    shift, phase
        First slot, and the rest position of slot ``n`` is ``n + phase``; 0 where ``placed`` is False.
    pixels
        Length.
    redshift
        NaN where not finite or not above -1.
    placed
        False without a usable redshift, and with wavelengths off the native log grid.
    """

    shift: NDArray[np.int64]
    phase: Floats
    pixels: NDArray[np.int64]
    redshift: Floats
    placed: NDArray[np.bool_]


def placement(spectra: Sequence[Spectrum]) -> Placement:
    """Return where spectra lie on the rest grid, from their first and last wavelength and redshift."""
    waves = [spectrum.wavelength_angstrom for spectrum in spectra]
    pixels = np.array([len(wave) for wave in waves], dtype=np.int64)
    ends = np.array([(wave[0], wave[-1]) if len(wave) else (np.nan, np.nan) for wave in waves], dtype=np.float64)
    redshift = np.array([spectrum.redshift for spectrum in spectra], dtype=np.float64)
    redshift[~(redshift > -1)] = np.nan
    with np.errstate(invalid="ignore", divide="ignore"):
        slots = np.log10(ends.reshape(-1, 2)) / LOG10_STEP
        rest = slots[:, 0] - np.log10(1 + redshift) / LOG10_STEP - FIRST_SLOT
    placed = np.isfinite(rest) & (np.abs(slots[:, 1] - slots[:, 0] - (pixels - 1)) < 0.25) & (np.abs(rest) < 1e6)
    rest = np.where(placed, rest, 0.0)
    shift = np.round(rest).astype(np.int64)
    return Placement(shift=shift, phase=rest - shift, pixels=pixels, redshift=redshift, placed=placed)


def copy_pixels(
    spectra: Sequence[Spectrum], where: Placement, flux: NDArray[np.float32], ivar: NDArray[np.float32]
) -> Floats:
    """Copy the pixels of spectra into rows (spectrum, slot) of zeros; return the dispersion (spectrum, line) at lines.

    Numpy lets other threads run while it copies.
    """
    lsf_sigma = np.ones((len(spectra), len(LINES)))
    first, last = np.clip(where.shift, 0, SLOTS), np.clip(where.shift + where.pixels, 0, SLOTS)
    covered = np.flatnonzero(where.placed & (first < last))
    at_line = np.round(LINE_SLOT).astype(np.int64) - where.shift[:, None]
    at_line = np.clip(at_line, 0, np.maximum(where.pixels, 1)[:, None] - 1)
    starts, stops = (first - where.shift).tolist(), (last - where.shift).tolist()
    lows, highs = first.tolist(), last.tolist()
    for row in covered.tolist():
        spectrum, native, slots = spectra[row], slice(starts[row], stops[row]), slice(lows[row], highs[row])
        flux[row, slots] = spectrum.flux[native]
        ivar[row, slots] = spectrum.ivar[native]
        lsf_sigma[row] = spectrum.lsf_sigma[at_line[row]]
    return lsf_sigma


def spectrum_batch(spectra: Sequence[Spectrum], device: torch.device | str = "cpu") -> SpectrumBatch:
    """Return the batch of ``spectra`` on the rest grid, one row each, in order.

    Parameters
    ----------
    spectra
        Any lengths, any redshifts. Pixels with ivar not positive, not finite or above ``IVAR_LIMIT``, or with flux
        that is not finite, are not valid. A spectrum with a redshift that is not finite or not above -1, or with
        wavelengths off the native log grid, gets no valid pixel and redshift NaN.
    device
        Where the tensors live.
    """
    where = placement(spectra)
    flux, ivar = np.zeros((len(spectra), SLOTS), np.float32), np.zeros((len(spectra), SLOTS), np.float32)
    lsf_sigma = copy_pixels(spectra, where, flux, ivar)
    return placed_batch(torch.from_numpy(flux).to(device), torch.from_numpy(ivar).to(device), lsf_sigma, where)


def placed_batch(flux: torch.Tensor, ivar: torch.Tensor, lsf_sigma: Floats, where: Placement) -> SpectrumBatch:
    """Return the batch of pixels (spectrum, slot) on a device, checked for validity.

    Unusable pixels become 0, unusable dispersions one pixel.
    """

    def tensor(array: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(array).to(flux.device)

    valid = (ivar > 0) & (ivar < IVAR_LIMIT) & (flux.abs() < torch.inf)
    flux, ivar = torch.where(valid, flux, 0.0), torch.where(valid, ivar, 0.0)
    first_valid = valid.view(torch.uint8).argmax(1, keepdim=True)
    differs = (flux != flux.gather(1, first_valid)) & valid
    width = tensor(lsf_sigma)
    usable_width = (width > 0.1) & (width < 20.0)
    return SpectrumBatch(
        flux=flux,
        ivar=ivar,
        phase=tensor(where.phase),
        lsf_sigma=torch.where(usable_width, width, 1.0).square().sub(1 / 12).clamp_min(0.04).sqrt(),
        first=tensor(where.shift),
        last=tensor(np.where(where.placed, where.shift + where.pixels, 0)),
        redshift=tensor(np.where(where.placed, where.redshift, np.nan)),
        constant=valid.gather(1, first_valid)[:, 0] & ~differs.any(1),
    )

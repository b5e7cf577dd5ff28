"""Spectra of any length and redshift as one padded batch on the rest-frame log grid.

The native grid steps by ``LOG10_STEP`` dex, so a redshift is an integer shift plus a fraction of a pixel. Pixels are
copied, never resampled: slot ``n`` of the rest grid holds the native pixel whose rest position is ``n + phase`` in
units of the step, with ``phase`` between -0.5 and 0.5 different for every spectrum. Models are evaluated at
``n + phase``; data stay as they were measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mmagn.lines import LINES
from mmagn.records import LOG10_STEP, Spectrum

REST_MIN_ANGSTROM = 3700.0
REST_MAX_ANGSTROM = 7000.0
BIN_PIXELS = 4
"""Native pixels summed (not resampled: weights add up) where only the smooth continuum matters."""
FIRST_SLOT = round(np.log10(REST_MIN_ANGSTROM) / LOG10_STEP)
SLOTS = (round(np.log10(REST_MAX_ANGSTROM) / LOG10_STEP) - FIRST_SLOT) // BIN_PIXELS * BIN_PIXELS
IVAR_LIMIT = 1e30
"""Larger inverse variances are what a variance of zero becomes in the published files; not valid."""

REST_ANGSTROM: NDArray[np.float64] = 10.0 ** ((FIRST_SLOT + np.arange(SLOTS)) * LOG10_STEP)
"""(pixel,) rest wavelength of every slot at phase 0."""
PIXEL_ANGSTROM: NDArray[np.float64] = REST_ANGSTROM * (10.0 ** (LOG10_STEP / 2) - 10.0 ** (-LOG10_STEP / 2))
"""(pixel,) rest-frame width of every slot."""
LINE_SLOT: NDArray[np.float64] = (
    np.log10(np.array([line.wavelength_angstrom for line in LINES])) / LOG10_STEP - FIRST_SLOT
)
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

    def rows(self, index: torch.Tensor) -> "SpectrumBatch":
        """Return the batch of the spectra that ``index`` picks."""
        return SpectrumBatch(**{name: getattr(self, name)[index] for name in self.__dataclass_fields__})


def _placement(
    wavelength_angstrom: NDArray[np.float64], pixels: NDArray[np.int64], redshift: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return first slot, phase and whether it is on the native grid, from (batch, 2) first and last wavelengths."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ends = np.log10(wavelength_angstrom) / LOG10_STEP
        rest = ends[:, 0] - np.log10(1 + redshift) / LOG10_STEP - FIRST_SLOT
    on_grid = np.isfinite(rest) & (np.abs(ends[:, 1] - ends[:, 0] - (pixels - 1)) < 0.25) & (np.abs(rest) < 1e6)
    rest = np.where(on_grid, rest, 0.0)
    shift = np.round(rest).astype(np.int64)
    return shift, rest - shift, on_grid


def spectrum_batch(spectra: Sequence[Spectrum], device: torch.device | str = "cpu") -> SpectrumBatch:
    """Return the batch of ``spectra`` on the rest grid.

    Parameters
    ----------
    spectra
        Any lengths, any redshifts. Pixels with ivar not positive, not finite or above ``IVAR_LIMIT``, or with flux
        that is not finite, are not valid. A spectrum with a redshift that is not finite or not above -1, or with
        wavelengths off the native log grid, gets no valid pixel and redshift NaN.
    device
        Where the tensors live.

    Returns
    -------
    SpectrumBatch
        One row per spectrum, in order.
    """
    count = len(spectra)
    pixels = np.array([len(spectrum.flux) for spectrum in spectra], dtype=np.int64)
    ends = np.array(
        [(s.wavelength_angstrom[0], s.wavelength_angstrom[-1]) if len(s.flux) else (np.nan, np.nan) for s in spectra],
        dtype=np.float64,
    ).reshape(count, 2)
    redshift = np.array([spectrum.redshift for spectrum in spectra], dtype=np.float64)
    redshift[~(redshift > -1)] = np.nan
    shift, phase, on_grid = _placement(ends, pixels, redshift)
    flux = np.zeros((count, SLOTS), np.float32)
    ivar = np.zeros((count, SLOTS), np.float32)
    lsf_sigma = np.ones((count, len(LINES)))
    at_line = np.round(LINE_SLOT).astype(np.int64)
    for row in np.flatnonzero(on_grid).tolist():
        spectrum, start = spectra[row], int(shift[row])
        low, high = max(start, 0), min(start + int(pixels[row]), SLOTS)
        if low < high:
            flux[row, low:high] = spectrum.flux[low - start : high - start]
            ivar[row, low:high] = spectrum.ivar[low - start : high - start]
            lsf_sigma[row] = spectrum.lsf_sigma[np.clip(at_line - start, 0, int(pixels[row]) - 1)]
    return _checked(
        SpectrumBatch(
            flux=torch.from_numpy(flux).to(device),
            ivar=torch.from_numpy(ivar).to(device),
            phase=torch.from_numpy(phase).to(device),
            lsf_sigma=torch.from_numpy(lsf_sigma).to(device),
            first=torch.from_numpy(np.where(on_grid, shift, 0)).to(device),
            last=torch.from_numpy(np.where(on_grid, shift + pixels, 0)).to(device),
            redshift=torch.from_numpy(np.where(on_grid, redshift, np.nan)).to(device),
            constant=torch.zeros(count, dtype=torch.bool, device=device),
        )
    )


def _checked(batch: SpectrumBatch) -> SpectrumBatch:
    """Return the batch with unusable pixels set to 0, unusable widths to one pixel, and constants marked."""
    valid = (batch.ivar > 0) & (batch.ivar < IVAR_LIMIT) & (batch.flux.abs() < torch.inf)
    flux = torch.where(valid, batch.flux, 0.0)
    ivar = torch.where(valid, batch.ivar, 0.0)
    highest = torch.where(valid, flux, -torch.inf).amax(1)
    lowest = torch.where(valid, flux, torch.inf).amin(1)
    usable_width = (batch.lsf_sigma > 0.1) & (batch.lsf_sigma < 20.0)
    return SpectrumBatch(
        flux=flux,
        ivar=ivar,
        phase=batch.phase,
        lsf_sigma=torch.where(usable_width, batch.lsf_sigma, 1.0).square().sub(1 / 12).clamp_min(0.04).sqrt(),
        first=batch.first,
        last=batch.last,
        redshift=batch.redshift,
        constant=highest == lowest,
    )

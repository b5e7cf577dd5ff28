"""Two-channel spectrum tensor on a rest-frame grid that is reached by shifting, never by resampling."""

import math

import numpy as np
from numpy.typing import NDArray

from mmagn.records import LOG10_STEP, Spectrum
from mmagn.tensors.blanking import blank_windows, blanked
from mmagn.tensors.config import TensorsConfig

SPECTRUM_LIMIT = 6.0
"""Largest absolute value of channel 0, 200 times the continuum: only artefacts reach it."""
SPECTRUM_HALF_SNR = 10.0
"""Signal-to-noise of the continuum in one grid pixel at which channel 1 is 0.5."""
_SMALLEST_INFORMATION = 1e-4
"""Floor of channel 1 in valid pixels, so that valid stays above 0 in float16."""


def spectrum_pixels(config: TensorsConfig) -> int:
    """Return the number of pixels of the grid."""
    native = round(math.log10(config.spectrum_max_angstrom / config.spectrum_min_angstrom) / LOG10_STEP)
    return max(1, native // config.spectrum_binning)


def spectrum_grid_angstrom(config: TensorsConfig) -> NDArray[np.float64]:
    """(pixel,) rest-frame vacuum wavelengths of the centres of the grid pixels, Angstrom."""
    binning = config.spectrum_binning
    native = np.arange(spectrum_pixels(config)) * binning + (binning - 1) / 2
    return np.asarray(config.spectrum_min_angstrom * 10 ** (native * LOG10_STEP), dtype=np.float64)


def spectrum_tensor(spectrum: Spectrum, config: TensorsConfig) -> NDArray[np.float32]:
    """Rest-frame spectrum as (excess over the continuum, information), both 0 where nothing was observed.

    On a logarithmic grid a redshift is a shift. The nearest whole number of native pixels is taken, so lines sit
    within half a native pixel (35 km/s) of their grid place and no pixel is ever mixed with its neighbours, other
    than by the ivar-weighted mean over ``spectrum_binning`` of them.

    Channel 0 is ``asinh((flux - level) / scale)``: level is the median of the valid flux on the grid; scale is the
    level too, or the median noise where that is larger (a spectrum without continuum), so 0 is the continuum and
    a line shows its height in continua. Channel 1 is ``snr^2 / (snr^2 + SPECTRUM_HALF_SNR^2)`` with
    ``snr = scale / noise`` of the pixel: above 0 exactly where valid, towards 1 where the pixel is sure, so the
    noise of channel 0 can be read back from it.

    With ``config.blank_lines`` the windows of the diagnostic lines hold continuum plus noise before anything else is
    done, see :mod:`mmagn.tensors.blanking`.

    Returns
    -------
    (2, pixel) float32; channel 0 within +-``SPECTRUM_LIMIT``, channel 1 in [0, 1].
    """
    flux, ivar = _on_grid(spectrum, config)
    valid = ivar > 0
    tensor = np.zeros((2, len(flux)), dtype=np.float32)
    if not valid.any():
        return tensor
    level = float(np.median(flux[valid]))
    scale = max(level, 1 / math.sqrt(float(np.median(ivar[valid]))))
    excess = np.arcsinh((flux[valid] - level) / scale)
    snr2 = scale**2 * ivar[valid]
    tensor[0, valid] = np.clip(excess, -SPECTRUM_LIMIT, SPECTRUM_LIMIT)
    tensor[1, valid] = np.maximum(snr2 / (snr2 + SPECTRUM_HALF_SNR**2), _SMALLEST_INFORMATION)
    return tensor


def _on_grid(spectrum: Spectrum, config: TensorsConfig) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(pixel,) flux and ivar, shifted to the rest frame and binned with ivar weights; both 0 outside coverage."""
    pixels, binning = spectrum_pixels(config), config.spectrum_binning
    flux, ivar = np.zeros(pixels * binning), np.zeros(pixels * binning)
    if len(spectrum.flux):
        middle = len(spectrum.flux) // 2
        start_observed = math.log10(spectrum.wavelength_angstrom[middle]) / LOG10_STEP - middle
        log_grid = math.log10(config.spectrum_min_angstrom * (1 + spectrum.redshift)) / LOG10_STEP
        start = round(start_observed - log_grid)
        first, last = max(0, -start), min(len(spectrum.flux), len(ivar) - start)
        if first < last:
            seen_ivar = spectrum.ivar[first:last].astype(np.float64)
            seen_flux = np.where(seen_ivar > 0, spectrum.flux[first:last], 0.0)
            ivar[first + start : last + start] = seen_ivar
            flux[first + start : last + start] = seen_flux
            if config.blank_lines:
                covered = np.zeros(len(ivar), dtype=bool)
                covered[first + start : last + start] = True
                windows = blank_windows(config.spectrum_min_angstrom, len(ivar))
                flux, ivar = blanked(flux, ivar, covered, windows, spectrum.object_id)
    weighted_flux = (flux * ivar).reshape(pixels, binning).sum(axis=1)
    ivar = ivar.reshape(pixels, binning).sum(axis=1)
    return np.divide(weighted_flux, ivar, out=np.zeros(pixels), where=ivar > 0), ivar

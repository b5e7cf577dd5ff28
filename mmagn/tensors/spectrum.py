"""Two-channel spectrum tensor on a rest-frame grid that is reached by shifting, never by resampling."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmagn.records import LOG10_STEP, Floats, Spectrum
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
    """Rest-frame spectrum (2, pixel) as (excess over the continuum, information), both 0 where nothing was observed.

    On a logarithmic grid a redshift is a shift. The nearest whole number of native pixels is taken, so lines sit
    within half a native pixel (35 km/s) of their grid place and no pixel is ever mixed with its neighbours, other
    than by the ivar-weighted mean over ``spectrum_binning`` of them.

    Channel 0 is ``asinh((flux - level) / scale)``: level is the median of the valid flux on the grid; scale is the
    level too, or the median noise where that is larger (a spectrum without continuum), so 0 is the continuum and
    a line shows its height in continua; it is within +-``SPECTRUM_LIMIT``. Channel 1, in [0, 1], is
    ``snr^2 / (snr^2 + SPECTRUM_HALF_SNR^2)`` with ``snr = scale / noise`` of the pixel: above 0 exactly where valid,
    towards 1 where the pixel is sure, so the noise of channel 0 can be read back from it.

    With ``config.blank_lines`` the windows of the diagnostic lines hold continuum plus noise before anything else is
    done, see :mod:`mmagn.tensors.blanking`.
    """
    tensor: NDArray[np.float32] = spectrum_tensors([spectrum], config)[0]
    return tensor


def spectrum_tensors(spectra: Sequence[Spectrum], config: TensorsConfig) -> NDArray[np.float32]:
    """(spectrum, 2, pixel) float32, each as ``spectrum_tensor`` gives it; many at once take less time each."""
    flux, ivar = _on_grid(spectra, config)
    valid = ivar > 0
    tensors = np.zeros((len(spectra), 2, spectrum_pixels(config)), dtype=np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):  # of spectra without a valid pixel, which stay 0
        level = _medians(flux, valid)
        scale = np.maximum(level, 1 / np.sqrt(_medians(ivar, valid)))
        excess, snr2 = np.arcsinh((flux - level) / scale), scale**2 * ivar
        information = np.maximum(snr2 / (snr2 + SPECTRUM_HALF_SNR**2), _SMALLEST_INFORMATION)
    np.copyto(tensors[:, 0], np.clip(excess, -SPECTRUM_LIMIT, SPECTRUM_LIMIT), where=valid, casting="same_kind")
    np.copyto(tensors[:, 1], information, where=valid, casting="same_kind")
    return tensors


def _medians(values: Floats, valid: NDArray[np.bool_]) -> Floats:
    """(spectrum, 1) median of the valid ones of (spectrum, pixel) values; not finite where there is none."""
    rising = np.sort(np.where(valid, values, np.inf), axis=1)
    count = valid.sum(1)[:, None]
    lower, upper = (np.take_along_axis(rising, np.maximum(half, 0), axis=1) for half in ((count - 1) // 2, count // 2))
    return np.asarray((lower + upper) / 2)


def _on_grid(spectra: Sequence[Spectrum], config: TensorsConfig) -> tuple[Floats, Floats]:
    """(spectrum, pixel) flux and ivar in the rest frame, binned with ivar weights; both 0 outside coverage."""
    pixels, binning = spectrum_pixels(config), config.spectrum_binning
    flux, ivar = np.zeros((2, len(spectra), pixels * binning))
    places = [_place(spectrum, flux[row], ivar[row], config) for row, spectrum in enumerate(spectra)]
    flux[~(ivar > 0)] = 0
    if config.blank_lines:
        windows = blank_windows(config.spectrum_min_angstrom, pixels * binning)
        for row, (spectrum, place) in enumerate(zip(spectra, places, strict=True)):
            flux[row], ivar[row] = blanked(flux[row], ivar[row], place, windows, spectrum.object_id)
    weighted_flux = (flux * ivar).reshape(len(spectra), pixels, binning).sum(axis=2)
    ivar = ivar.reshape(len(spectra), pixels, binning).sum(axis=2)
    return np.divide(weighted_flux, ivar, out=np.zeros(ivar.shape), where=ivar > 0), ivar


def _place(spectrum: Spectrum, flux: Floats, ivar: Floats, config: TensorsConfig) -> slice:
    """Write a spectrum into the (native pixel,) grid, shifted to the rest frame, and return where it is."""
    if not len(spectrum.flux):
        return slice(0, 0)
    middle = len(spectrum.flux) // 2
    start_observed = math.log10(spectrum.wavelength_angstrom[middle]) / LOG10_STEP - middle
    log_grid = math.log10(config.spectrum_min_angstrom * (1 + spectrum.redshift)) / LOG10_STEP
    start = round(start_observed - log_grid)
    first, last = max(0, -start), min(len(spectrum.flux), len(ivar) - start)
    if first >= last:
        return slice(0, 0)
    place = slice(first + start, last + start)
    flux[place], ivar[place] = spectrum.flux[first:last], spectrum.ivar[first:last]
    return place

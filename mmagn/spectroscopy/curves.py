"""The fit of one spectrum as curves on its own pixels, for people to look at."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

from mmagn.records import Floats, Spectrum
from mmagn.spectroscopy.basis import ContinuumBasis, local_basis
from mmagn.spectroscopy.batch import PIXEL_ANGSTROM, SLOTS, spectrum_batch
from mmagn.spectroscopy.broad import broad_curve, broad_measures, suspects
from mmagn.spectroscopy.config import SpectroscopyConfig
from mmagn.spectroscopy.measures import Solution, line_fit, solved_batch
from mmagn.spectroscopy.profiles import SEGMENT_SLOTS
from mmagn.spectroscopy.system import columns_at_phase, grids

INTERPOLATION_SLOTS = 3
"""Reach of the cubic interpolation of the continuum to the phase of a spectrum, rounded up."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedCurves:
    """The fit on the spectrum's own pixels (pixel,), 1e-17 erg/s/cm2/A in the observed frame; NaN outside the fit.

    Attributes
    ----------
    continuum
        Stellar continuum.
    broad
        Broad Balmer component alone; 0 where none is needed.
    model
        Continuum, narrow and broad lines.
    """

    continuum: Floats
    broad: Floats
    model: Floats


def fitted_curves(spectrum: Spectrum, config: SpectroscopyConfig, basis: ContinuumBasis | None = None) -> FittedCurves:
    """Return the fit of one spectrum, as ``emission.line_table`` makes it.

    Parameters
    ----------
    spectrum
        Any length and redshift.
    config, basis
        As for ``line_table``.
    """
    device = torch.device("cpu")
    kind = basis if basis is not None and config.continuum != "local" else local_basis()
    tables, batch = grids(kind, device), spectrum_batch([spectrum], device)
    undefined = np.full(spectrum.flux.shape, np.nan)
    if not bool(batch.ivar.any()):
        return FittedCurves(continuum=undefined, broad=undefined, model=undefined)
    fit = line_fit(batch, tables)
    drawn: Solution = fit
    broad = torch.zeros(1, SLOTS, dtype=torch.float64)
    if config.broad_balmer:
        candidates = suspects(batch, tables, fit)
        if len(candidates) and len(broad_measures(candidates, tables)[0]):
            task, state, broad = broad_curve(candidates, tables)
            drawn = solved_batch(task, state)
    columns = columns_at_phase(kind.columns * PIXEL_ANGSTROM, float(batch.phase[0]))
    continuum = drawn.coefficients[0, : len(columns)].numpy() @ columns
    model = continuum + broad[0].numpy()
    model[SEGMENT_SLOTS] += drawn.emission[0].numpy()
    scale = float(drawn.task.scale[0]) / PIXEL_ANGSTROM
    place = np.arange(len(spectrum.flux)) + int(batch.first[0])
    inside = (place >= 0) & (place < SLOTS)
    inside[inside] = _fit_range(kind)[place[inside]]

    def on_pixels(curve: Floats) -> Floats:
        values = undefined.copy()
        values[inside] = (curve * scale)[place[inside]]
        return values

    return FittedCurves(continuum=on_pixels(continuum), broad=on_pixels(broad[0].numpy()), model=on_pixels(model))


def _fit_range(basis: ContinuumBasis) -> NDArray[np.bool_]:
    """Return (slot,) True inside the fitted windows, except next to their ends, where interpolation meets zeros."""
    inside = np.abs(basis.columns).sum(axis=0) > 0
    return np.asarray(binary_erosion(inside, iterations=INTERPOLATION_SLOTS))

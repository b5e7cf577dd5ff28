"""The fit of one spectrum as curves on its own pixels, for people to look at."""

import numpy as np
import torch
from numpy.typing import NDArray

from mmagn.records import Spectrum
from mmagn.spectroscopy.basis import ContinuumBasis, local_basis
from mmagn.spectroscopy.batch import PIXEL_ANGSTROM, SLOTS, spectrum_batch
from mmagn.spectroscopy.broad import broad_curve, broad_measures, suspects
from mmagn.spectroscopy.config import SpectroscopyConfig
from mmagn.spectroscopy.measures import Solution, line_fit, solved_batch
from mmagn.spectroscopy.profiles import SEGMENT_SLOTS
from mmagn.spectroscopy.system import columns_at_phase, grids


def fitted_curves(
    spectrum: Spectrum, config: SpectroscopyConfig, basis: ContinuumBasis | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the continuum and the whole model of one spectrum, as ``emission.line_table`` fits them.

    Parameters
    ----------
    spectrum
        Any length and redshift.
    config, basis
        As for ``line_table``.

    Returns
    -------
    continuum
        (pixel,) stellar continuum on the spectrum's own pixels, 1e-17 erg/s/cm2/A in the observed frame; NaN outside
        the range of the fit.
    model
        (pixel,) continuum, narrow and broad lines.
    """
    device = torch.device("cpu")
    kind = basis if basis is not None and config.continuum == "basis" else local_basis()
    tables, batch = grids(kind, device), spectrum_batch([spectrum], device)
    undefined = np.full(spectrum.flux.shape, np.nan)
    if not bool(batch.ivar.any()):
        return undefined, undefined.copy()
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
    curves = []
    for curve in (continuum * scale, model * scale):
        on_pixels = undefined.copy()
        on_pixels[inside] = curve[place[inside]]
        curves.append(on_pixels)
    return curves[0], curves[1]


def _fit_range(basis: ContinuumBasis) -> NDArray[np.bool_]:
    """Return (slot,) True where the basis says anything: between the first and last fitted slot of each window."""
    return np.asarray(np.abs(basis.columns).sum(axis=0) > 0)

"""The fit of one spectrum as curves on its own pixels, for people to look at."""

import numpy as np
import torch
from numpy.typing import NDArray

from mmagn.records import Spectrum
from mmagn.spectroscopy.basis import ContinuumBasis, local_basis
from mmagn.spectroscopy.batch import PIXEL_ANGSTROM, SLOTS, spectrum_batch
from mmagn.spectroscopy.broad import broad_curve, suspects, with_broad_component
from mmagn.spectroscopy.config import SpectroscopyConfig
from mmagn.spectroscopy.measures import continuum_coefficients, coverage, line_model, measures
from mmagn.spectroscopy.profiles import SEGMENT_SLOTS
from mmagn.spectroscopy.system import columns_at_phase, continuum_system, grids
from mmagn.spectroscopy.varpro import fitted, problem, settled, start_kinematics


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
    constrained, _, _ = coverage(batch)
    task = problem(continuum_system(batch, tables), batch.phase, batch.lsf_sigma, constrained)
    state = settled(task, fitted(task, start_kinematics(task)))
    broad = torch.zeros(1, SLOTS, dtype=torch.float64)
    if config.broad_balmer:
        narrow = measures(batch, task, state)
        found = suspects(batch, tables, task, state, narrow)
        if len(found.row) and bool(with_broad_component([found], tables, narrow)[1].any()):
            task, state, broad = broad_curve(found, tables)
    columns = columns_at_phase(kind.columns * PIXEL_ANGSTROM, float(batch.phase[0]))
    coefficients = continuum_coefficients(task, state)[0, : len(columns)].numpy()
    continuum = coefficients @ columns
    model = continuum + broad[0].numpy()
    model[SEGMENT_SLOTS] += line_model(task, state)[0].numpy()
    scale = float(task.system.scale[0]) / PIXEL_ANGSTROM
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

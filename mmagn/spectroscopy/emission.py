"""Emission lines and continuum of many spectra: the table of line measurements.

``line_table`` joins the parts: ``stream`` places spectra on the rest grid in batches, ``system`` writes the continuum's
normal equations, ``varpro`` solves for fluxes, ``kinematics`` for velocities and widths, ``measures`` turns solutions
into numbers, ``broad`` adds a broad Balmer component where chi2 asks for one.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from astropy import units
from astropy.table import Table
from numpy.typing import NDArray

from mmagn.lines import REPORTED_LINES
from mmagn.records import Spectrum
from mmagn.spectroscopy.basis import ContinuumBasis, local_basis
from mmagn.spectroscopy.batch import SpectrumBatch
from mmagn.spectroscopy.broad import Suspects, broad_measures, suspects
from mmagn.spectroscopy.config import SpectroscopyConfig
from mmagn.spectroscopy.measures import Measures, line_fit, sulphur_ratio
from mmagn.spectroscopy.profiles import AMPLITUDE_GROUP, AMPLITUDES, GROUPS
from mmagn.spectroscopy.rows import joined, rows_of, with_rows
from mmagn.spectroscopy.stream import SMALLEST_BATCH, batch_size, batch_stream, chosen_device
from mmagn.spectroscopy.system import Grids, grids

FLUX_UNIT = units.Unit("1e-17 erg / (s cm2)")
DENSITY_UNIT = units.Unit("1e-17 erg / (s cm2 Angstrom)")
FLAGS = ("outside", "masked", "no_convergence", "broad", "poor_fit")
"""Flags of a line, joined by commas in ``flags_LINE``; ``poor_fit``: chi2 around it is too high, it is no Gaussian."""
FIT_FLAGS = ("redshift", "no_data", "constant", "negative", "no_convergence", "broad", "poor_fit")
"""Flags of a spectrum: not placeable on the grid, no valid pixel, one value only, continuum not positive, no
convergence, a broad Balmer component, a line with ``poor_fit``."""

SUSPECTS = 128
"""Fewest spectra that are tried for a broad component together, if there are as many."""

Columns = dict[str, NDArray[np.generic]]
Conditions = dict[str, torch.Tensor]


logger = logging.getLogger(__name__)


def fitted_batches(
    batches: Iterable[SpectrumBatch], tables: Grids, *, broad_balmer: bool = True
) -> tuple[Measures, torch.Tensor]:
    """Return the measurements of prepared batches as one, and (object,) which have a broad Balmer component.

    Parameters
    ----------
    batches
        Spectra on the rest grid, on the device of ``tables``.
    tables
        The continuum model.
    broad_balmer
        Try a broad component where the residual or the width of the Balmer lines suggests one. Suspects are collected
        and fitted together, a quarter of the largest batch at once since each is tried with four widths; where they
        have one all numbers of the narrow lines come from the joint fit.
    """
    results: list[Measures] = []
    waiting: list[Suspects] = []
    broad: list[tuple[torch.Tensor, Measures]] = []
    first_row, together = 0, SUSPECTS
    for batch in batches:
        fit = line_fit(batch, tables)
        results.append(fit.measures)
        if broad_balmer:
            waiting.append(suspects(batch, tables, fit, first_row))
        first_row, together = first_row + len(batch), max(together, len(batch) // 4)
        if sum(map(len, waiting)) >= together:
            broad += _broad(waiting, tables, together)
            waiting = []
    broad += _broad(waiting, tables, together)
    whole = joined(results)
    kept = torch.zeros_like(whole.converged)
    if broad:
        rows, values = torch.cat([rows for rows, _ in broad]), joined([part for _, part in broad])
        whole, kept = with_rows(whole, rows, values), kept.index_fill(0, rows, True)
    return whole, kept


def _broad(waiting: Sequence[Suspects], tables: Grids, size: int) -> list[tuple[torch.Tensor, Measures]]:
    """Return rows and measurements of the suspects with a broad component, tried in batches of ``size``."""
    if not sum(map(len, waiting)):
        return []
    together = joined(waiting)
    every = torch.arange(len(together), device=together.row.device)
    starts = range(0, len(together), size)
    return [broad_measures(rows_of(together, every[start : start + size]), tables) for start in starts]


def line_table(spectra: Sequence[Spectrum], config: SpectroscopyConfig, basis: ContinuumBasis | None = None) -> Table:
    """Return the emission-line measurements of spectra, one row each, in order.

    Parameters
    ----------
    spectra
        Any lengths, redshifts and surveys; an unusable spectrum becomes a row of NaN with ``fit_flags``.
    config
        Settings of the fitter.
    basis
        Continuum basis of ``continuum_basis``; None, or ``config.continuum == "local"``, takes the local model.

    Returns
    -------
    Table
        ``object_id, survey, ra_deg, dec_deg, redshift, spectral_class, snr_median``; for every reported line
        ``flux_LINE, flux_LINE_err`` (1e-17 erg/s/cm2, not forced positive), ``ew_LINE, ew_LINE_err`` (Angstrom, rest
        frame, emission positive), ``continuum_LINE`` (1e-17 erg/s/cm2/A, beside the line), ``sigma_kms_LINE``,
        ``flags_LINE`` (of ``FLAGS``); then ``velocity_kms_GROUP, sigma_kms_GROUP, sii_ratio`` ([S II] 6716 / 6731
        within its physical range), ``continuum_level, continuum_kind, chi2_dof, broad_line, fit_flags`` (of
        ``FIT_FLAGS``). Undefined is NaN.
    """
    if not spectra:
        return line_table([_EMPTY], config, basis)[:0]
    device = chosen_device(config)
    model = basis if basis is not None and config.continuum != "local" else local_basis()
    size = batch_size(config, device, len(model.prior_mean))
    while True:
        try:
            columns = _measured(spectra, model, config, size)
            break
        except torch.OutOfMemoryError:
            if size <= SMALLEST_BATCH:
                raise
            size //= 2
            logger.warning("GPU memory does not hold the line fit of %d spectra at once; trying %d", 2 * size, size)
        torch.cuda.empty_cache()
    columns["continuum_kind"] = np.full(len(spectra), model.kind)
    return _table(spectra, columns)


def _measured(spectra: Sequence[Spectrum], model: ContinuumBasis, config: SpectroscopyConfig, size: int) -> Columns:
    """Return the fitted columns of spectra, ``size`` of them fitted at once."""
    device = chosen_device(config)
    conditions: list[Conditions] = []

    def batches() -> Iterator[SpectrumBatch]:
        for batch in batch_stream(spectra, size, device):
            conditions.append(_conditions(batch))
            yield batch

    result, broad = fitted_batches(batches(), grids(model, device), broad_balmer=config.broad_balmer)
    whole = {name: torch.cat([part[name] for part in conditions]) for name in conditions[0]}
    return _columns(whole, result, broad)


_EMPTY = Spectrum(
    object_id="",
    survey="",
    ra_deg=np.nan,
    dec_deg=np.nan,
    redshift=np.nan,
    redshift_err=np.nan,
    zwarning=0,
    spectral_class="",
    spectral_subclass="",
    wavelength_angstrom=np.empty(0, np.float32),
    flux=np.empty(0, np.float32),
    ivar=np.empty(0, np.float32),
    lsf_sigma=np.empty(0, np.float32),
)


def _joined(flags: dict[str, torch.Tensor]) -> NDArray[np.str_]:
    """Return (batch,) names of the flags that are set, joined by commas."""
    count = len(next(iter(flags.values())))
    code = np.zeros(count, np.int64)
    for bit, value in enumerate(flags.values()):
        code |= value.cpu().numpy().astype(np.int64) << bit
    names = list(flags)
    texts = [",".join(name for bit, name in enumerate(names) if number >> bit & 1) for number in range(1 << len(names))]
    return np.array(texts)[code]


def _conditions(batch: SpectrumBatch) -> Conditions:
    """Return (batch,) what keeps a spectrum from being fitted."""
    placed = ~batch.redshift.isnan()
    no_data = placed & ~(batch.ivar > 0).any(1)
    return {"redshift": ~placed, "no_data": no_data, "constant": placed & ~no_data & batch.constant}


def _columns(conditions: Conditions, result: Measures, broad: torch.Tensor) -> Columns:
    """Return all fitted columns."""
    columns: Columns = {"snr_median": result.snr_median.cpu().numpy()}
    fluxes = {name: getattr(result, name).cpu().numpy() for name in ("flux", "flux_err", "ew", "ew_err", "continuum")}
    sigma_kms, velocity_kms = result.sigma_kms.cpu().numpy(), result.velocity_kms.cpu().numpy()
    placed = ~conditions["redshift"]
    for line in REPORTED_LINES:
        index = AMPLITUDES.index(line)
        group = AMPLITUDE_GROUP[index]
        columns[f"flux_{line}"], columns[f"flux_{line}_err"] = fluxes["flux"][:, index], fluxes["flux_err"][:, index]
        columns[f"ew_{line}"], columns[f"ew_{line}_err"] = fluxes["ew"][:, index], fluxes["ew_err"][:, index]
        columns[f"continuum_{line}"] = fluxes["continuum"][:, index]
        missing = np.isnan(fluxes["flux"][:, index])
        columns[f"sigma_kms_{line}"] = np.where(missing, np.nan, sigma_kms[:, group])
        columns[f"flags_{line}"] = _joined(
            {
                "outside": result.outside[:, index] & placed,
                "masked": result.masked[:, index] & placed,
                "no_convergence": ~result.converged,
                "broad": broad & (GROUPS[group] == "balmer"),
                "poor_fit": result.poor_fit[:, index],
            }
        )
    for group, name in enumerate(GROUPS):
        columns[f"velocity_kms_{name}"] = velocity_kms[:, group]
    for group, name in enumerate(GROUPS):
        columns[f"sigma_kms_{name}"] = sigma_kms[:, group]
    columns["sii_ratio"] = sulphur_ratio(result.flux).cpu().numpy()
    columns["continuum_level"] = result.level.cpu().numpy()
    columns["continuum_kind"] = np.empty(len(broad), np.str_)
    columns["chi2_dof"] = result.chi2_dof.cpu().numpy()
    columns["broad_line"] = broad.cpu().numpy()
    columns["fit_flags"] = _joined(
        {
            **conditions,
            "negative": result.level <= 0,
            "no_convergence": ~result.converged,
            "broad": broad,
            "poor_fit": result.poor_fit.any(1),
        }
    )
    return columns


def _unit(name: str) -> units.UnitBase | None:
    if name.startswith("flux_"):
        return FLUX_UNIT
    if name.startswith("ew_"):
        return units.Angstrom
    if name.startswith(("sigma_kms", "velocity_kms")):
        return units.km / units.s
    return DENSITY_UNIT if name.startswith("continuum_") and name != "continuum_kind" else None


def _table(spectra: Sequence[Spectrum], columns: Columns) -> Table:
    table = Table()
    table["object_id"] = np.array([spectrum.object_id for spectrum in spectra], dtype=np.str_)
    table["survey"] = np.array([spectrum.survey for spectrum in spectra], dtype=np.str_)
    table["ra_deg"] = np.array([spectrum.ra_deg for spectrum in spectra], dtype=np.float64)
    table["dec_deg"] = np.array([spectrum.dec_deg for spectrum in spectra], dtype=np.float64)
    table["redshift"] = np.array([spectrum.redshift for spectrum in spectra], dtype=np.float64)
    table["spectral_class"] = np.array([spectrum.spectral_class for spectrum in spectra], dtype=np.str_)
    for name in ("ra_deg", "dec_deg"):
        table[name].unit = units.deg
    for name, values in columns.items():
        table[name] = values
        table[name].unit = _unit(name)
    return table

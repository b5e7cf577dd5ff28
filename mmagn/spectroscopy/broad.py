"""A broad Balmer component (type-1 nuclei), kept only where chi2 says so.

The broad H-alpha and H-beta are smooth, so they join the continuum as two more columns; velocity and width, common to
both, are found by Gauss-Newton with their derivatives as two further columns. Whatever the narrow lines report is thus
marginalised over the broad component. Only spectra whose residual matches a broad template, or whose Balmer lines
came out too wide, are fitted again.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch

from mmagn.lines import LINES
from mmagn.spectroscopy.batch import BIN_PIXELS, LINE_SLOT, SLOTS, SpectrumBatch
from mmagn.spectroscopy.measures import Measures, continuum_coefficients, line_model, measures
from mmagn.spectroscopy.profiles import AMPLITUDES, PIXEL_KMS, SEGMENT_SLOTS
from mmagn.spectroscopy.system import ContinuumSystem, Grids, binned_at_phase
from mmagn.spectroscopy.varpro import LOG_SIGMA_MEAN, Problem, State, fitted, problem

SUSPECT_GAIN = 16.0
"""Chi2 that a broad template must explain in the residual for a second fit."""
SUSPECT_SIGMA_KMS = 350.0
"""Balmer lines wider than this are fitted again."""
CHI2_GAIN = 60.0
"""Chi2 per degree of freedom that four more unknowns must gain (their BIC penalty is 28 for 1,000 pixels)."""
CHI2_RISE_MAX = 1.25
"""A gain in the continuum beside the lines must not be paid for under them."""
BROAD_SNR = 5.0
WIDTH_RATIO = 2.0
"""A broad component is at least this much wider than the narrow one."""
FLUX_RATIO_MIN = 0.4
"""Least flux of the broad component over the narrow line: weaker ones describe the wings of bright narrow lines."""
SIGMA_LIMITS_KMS = (500.0, 4300.0)
"""10,000 km/s full width at half maximum is a sigma of 4,250 km/s."""
STEPS = 5
_TEMPLATE_SIGMAS = (11.0, 20.0, 36.0, 58.0)
_BALMER = tuple(index for index, line in enumerate(LINES) if line.group == "balmer")
_TEMPLATE_RATIO = {"halpha": 1.0, "hbeta": 0.3}


@dataclass(frozen=True, kw_only=True, eq=False)
class Suspects:
    """Spectra that may have a broad component.

    Attributes
    ----------
    row
        (suspect,) their places in the whole.
    batch, system, active, objective
        The spectra, their normal equations, constrained fluxes and objective without a broad component.
    """

    row: torch.Tensor
    batch: SpectrumBatch
    system: ContinuumSystem
    active: torch.Tensor
    objective: torch.Tensor


def suspects(
    batch: SpectrumBatch, tables: Grids, task: Problem, state: State, narrow: Measures, first_row: int = 0
) -> Suspects:
    """Return the spectra whose residual matches a broad template, or whose Balmer lines are too wide.

    Parameters
    ----------
    batch, tables
        Spectra and continuum model.
    task, state, narrow
        The fit without a broad component and its measurements.
    first_row
        Place of the first spectrum of the batch in the whole.
    """
    row = torch.nonzero(_suspect(batch, tables, task, state, narrow))[:, 0]
    return Suspects(
        row=row + first_row,
        batch=batch.rows(row),
        system=_joined(ContinuumSystem, [task.system], row),
        active=task.active[row],
        objective=state.objective[row],
    )


def with_broad_component(found: Sequence[Suspects], tables: Grids, narrow: Measures) -> tuple[Measures, torch.Tensor]:
    """Return the measurements with a broad component where one is needed, and where that is.

    Parameters
    ----------
    found
        Suspects of all batches: they are few, and fitted together.
    tables
        Continuum model.
    narrow
        Measurements of the whole without a broad component.

    Returns
    -------
    Measures, torch.Tensor
        (object,) True where the broad component is kept; there all numbers of the narrow lines come from the joint fit.
    """
    kept = torch.zeros_like(narrow.converged)
    row = torch.cat([part.row for part in found])
    if not len(row):
        return narrow, kept
    batch = _joined(SpectrumBatch, [part.batch for part in found])
    system = _joined(ContinuumSystem, [part.system for part in found])
    active = torch.cat([part.active for part in found])
    before = torch.cat([part.objective for part in found])
    task, state, _, log_sigma, snr, ratio = _fitted_broad(batch, tables, system, active)
    result = measures(batch, task, state)
    noise = torch.minimum(narrow.chi2_dof[row], result.chi2_dof).nan_to_num(1.0).clamp_min(1.0)
    wider = log_sigma + math.log(PIXEL_KMS) - state.kinematics[:, 0, 1] > math.log(WIDTH_RATIO)
    accepted = ((before - state.objective) / noise > CHI2_GAIN) & (snr > BROAD_SNR) & (ratio > FLUX_RATIO_MIN) & wider
    accepted &= result.chi2_dof < CHI2_RISE_MAX * narrow.chi2_dof[row]
    kept[row[accepted]] = True
    merged = {}
    for field in fields(Measures):
        values = getattr(narrow, field.name).clone()
        values[row[accepted]] = getattr(result, field.name)[accepted]
        merged[field.name] = values
    return Measures(**merged), kept


def broad_curve(found: Suspects, tables: Grids) -> tuple[Problem, State, torch.Tensor]:
    """Return the joint fit of suspects and their broad lines, (suspect, slot) scaled flux per pixel."""
    task, state, velocity, log_sigma, _, _ = _fitted_broad(found.batch, tables, found.system, found.active)
    slots = torch.arange(SLOTS, dtype=torch.float64, device=velocity.device)[None]
    flux = continuum_coefficients(task, state)[:, found.system.columns.shape[1] :]
    curve = torch.zeros(len(velocity), SLOTS, dtype=torch.float64, device=velocity.device)
    for column, line in enumerate(_BALMER):
        centre = (float(LINE_SLOT[line]) - found.batch.phase + velocity)[:, None]
        curve += flux[:, column, None] * _gaussian(slots, centre, log_sigma.exp()[:, None])
    return task, state, curve


Record = TypeVar("Record", Measures, SpectrumBatch, ContinuumSystem)


def _joined(kind: type[Record], parts: Sequence[Record], row: torch.Tensor | None = None) -> Record:
    """Return records of tensors joined along the batch, or the rows of one."""
    joined = {field.name: torch.cat([getattr(part, field.name) for part in parts]) for field in fields(kind)}
    return kind(**(joined if row is None else {name: values[row] for name, values in joined.items()}))


def joined_measures(parts: Sequence[Measures]) -> Measures:
    """Return the measurements of several batches as one."""
    return _joined(Measures, parts)


def _gaussian(position: torch.Tensor, centre: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    z = (position - centre) / sigma
    return torch.exp(-0.5 * z * z) / (sigma * math.sqrt(2 * math.pi))


def _positions(device: torch.device) -> torch.Tensor:
    """Return (bin + segment pixel,) positions in slots at phase 0."""
    bins = torch.arange(SLOTS // BIN_PIXELS, dtype=torch.float64, device=device) * BIN_PIXELS + (BIN_PIXELS - 1) / 2
    return torch.cat([bins, torch.from_numpy(SEGMENT_SLOTS).to(device, torch.float64)])


def _suspect(batch: SpectrumBatch, tables: Grids, task: Problem, state: State, narrow: Measures) -> torch.Tensor:
    """Return (batch,) True where a broad component is worth a try."""
    system = task.system
    device = batch.flux.device
    position = _positions(device)
    centres = torch.tensor(LINE_SLOT, device=device)
    shapes = [
        sum(
            _TEMPLATE_RATIO[LINES[line].name] * _gaussian(position, centres[line], torch.tensor(sigma, device=device))
            for line in _BALMER
        )
        for sigma in _TEMPLATE_SIGMAS
    ]
    template = torch.stack([torch.as_tensor(shape) for shape in shapes])
    coefficients = continuum_coefficients(task, state)
    binned = tables.binned[1]
    outside = system.binned_flux - system.binned_weight * (coefficients @ binned)
    model = line_model(task, state) + (coefficients[:, None] @ system.columns)[:, 0]
    inside = system.weight * (system.flux - model)
    weight = torch.cat([system.binned_weight, system.weight], 1)
    match = torch.cat([outside, inside], 1) @ template.T
    norm = weight @ template.square().T
    static = torch.cat([binned, tables.segment[2].view(len(binned), -1)], 1)
    overlap = torch.stack([weight @ (static * shape).T for shape in template], 1)
    norm = norm - torch.bmm(overlap, task.root.mT).square().sum(2)
    gain = match.clamp_min(0.0).square() / norm.clamp_min(1e-12)
    gain = torch.where(norm > 1e-3 * (weight @ template.square().T), gain, 0.0).amax(1)
    noise = narrow.chi2_dof.nan_to_num(1.0).clamp(1.0, 4.0)
    usable = ~narrow.flux[:, :].isnan().all(1)
    return usable & ((gain / noise > SUSPECT_GAIN) | (narrow.sigma_kms[:, 0] > SUSPECT_SIGMA_KMS))


def _columns(batch: SpectrumBatch, velocity: torch.Tensor, log_sigma: torch.Tensor, flux: torch.Tensor) -> torch.Tensor:
    """Return (batch, 4, bin + segment pixel) broad lines and the derivatives of their sum by velocity and log width.

    Parameters
    ----------
    velocity, log_sigma
        (batch,) shift in pixels and natural log of the width in pixels.
    flux
        (batch, line) present fluxes, which the derivatives are taken at.
    """
    position = _positions(batch.flux.device)[None]
    sigma = log_sigma.exp()[:, None]
    lines, by_velocity, by_width = [], torch.zeros(1), torch.zeros(1)
    for column, line in enumerate(_BALMER):
        centre = (float(LINE_SLOT[line]) - batch.phase + velocity)[:, None]
        shape = _gaussian(position, centre, sigma)
        z = (position - centre) / sigma
        lines.append(shape)
        by_velocity = by_velocity.to(shape) + flux[:, column, None] * shape * z / sigma
        by_width = by_width.to(shape) + flux[:, column, None] * shape * (z * z - 1)
    return torch.stack([*lines, by_velocity, by_width], 1)


def _with_columns(batch: SpectrumBatch, tables: Grids, system: ContinuumSystem, extra: torch.Tensor) -> ContinuumSystem:
    """Return the continuum system with ``extra`` (batch, 4, bin + segment pixel) columns."""
    bins = system.binned_weight.shape[1]
    outside, inside = extra[:, :, :bins], extra[:, :, bins:]
    weighted = outside * system.binned_weight[:, None]
    terms = system.normal.shape[1]
    own = torch.bmm(weighted, outside.mT)
    # Steps of 4 pixels and of 0.5 in log width are what the derivatives are good for.
    own = own + torch.diag(torch.tensor([1e-8, 1e-8, 1 / 16, 4.0], dtype=own.dtype, device=own.device))
    cross = torch.bmm(weighted, binned_at_phase(batch.phase, tables).mT)
    normal_outside = own.new_zeros((len(own), terms + 4, terms + 4))
    normal_outside[:, :terms, :terms] = system.normal_outside
    normal_outside[:, terms:, :terms], normal_outside[:, :terms, terms:] = cross, cross.mT
    normal_outside[:, terms:, terms:] = own
    right_outside = torch.cat([system.right_outside, (outside @ system.binned_flux[:, :, None])[:, :, 0]], 1)
    columns = torch.cat([system.columns, inside], 1)
    lines = columns * system.weight[:, None]
    return replace(
        system,
        columns=columns,
        normal=normal_outside + torch.bmm(lines, columns.mT),
        right=right_outside + (lines @ system.flux[:, :, None])[:, :, 0],
        normal_outside=normal_outside,
        right_outside=right_outside,
    )


def _fitted_broad(
    batch: SpectrumBatch, tables: Grids, system: ContinuumSystem, active: torch.Tensor
) -> tuple[Problem, State, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the joint fit; the broad component's velocity and log width (pixels), S/N and share of the narrow one."""
    count = len(batch)
    zeros = batch.phase.new_zeros(count)
    start = torch.stack([zeros, zeros + LOG_SIGMA_MEAN], 1)[:, None].expand(count, 2, 2)
    flux = batch.phase.new_zeros((count, len(_BALMER)))
    best = batch.phase.new_full((count,), torch.inf)
    log_sigma, kinematics = zeros, start
    terms = system.columns.shape[1]
    for sigma in _TEMPLATE_SIGMAS:
        width = torch.full_like(zeros, math.log(sigma))
        task = problem(
            _with_columns(batch, tables, system, _columns(batch, zeros, width, flux)),
            batch.phase,
            batch.lsf_sigma,
            active,
        )
        state = fitted(task, start, steps=1)
        better = state.objective < best
        best = torch.where(better, state.objective, best)
        log_sigma = torch.where(better, width, log_sigma)
        kinematics = torch.where(better[:, None, None], state.kinematics, kinematics)
        found = continuum_coefficients(task, state)[:, terms : terms + 2]
        flux = torch.where(better[:, None], found, flux)
    low, high = (math.log(limit / PIXEL_KMS) for limit in SIGMA_LIMITS_KMS)
    velocity, limit = zeros, 1500.0 / PIXEL_KMS
    for step in range(STEPS + 1):
        extra = _columns(batch, velocity, log_sigma, flux)
        task = problem(_with_columns(batch, tables, system, extra), batch.phase, batch.lsf_sigma, active)
        state = fitted(task, kinematics, steps=1 if step < STEPS else 4)
        kinematics = state.kinematics
        if step < STEPS:
            coefficients = continuum_coefficients(task, state)
            flux = coefficients[:, terms : terms + 2]
            velocity = (velocity + coefficients[:, terms + 2].clamp(-6.0, 6.0)).clamp(-limit, limit)
            log_sigma = (log_sigma + coefficients[:, terms + 3].clamp(-0.4, 0.4)).clamp(low, high)
    coefficients = continuum_coefficients(task, state)[:, terms : terms + 2]
    error = task.root.square().sum(1).sqrt()[:, terms : terms + 2]
    line_snr = coefficients / error.clamp_min(1e-30)
    snr, strongest = line_snr.max(1)
    amplitude = torch.tensor([AMPLITUDES.index(LINES[line].name) for line in _BALMER], device=strongest.device)
    narrow = state.flux.gather(1, amplitude[strongest][:, None])[:, 0]
    ratio = coefficients.gather(1, strongest[:, None])[:, 0] / narrow.clamp_min(1e-30)
    return task, state, velocity, log_sigma, snr, ratio

"""A broad Balmer component (type-1 nuclei), kept only where chi2 says so.

The broad H-alpha and H-beta are smooth, so they join the continuum as two more columns; velocity and width, common to
both, are found by Gauss-Newton with their derivatives as two further columns. Whatever the narrow lines report is thus
marginalised over the broad component. Only spectra whose residual matches a broad template, or whose Balmer lines
came out too wide, are fitted again.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from mmagn.lines import LINES
from mmagn.spectroscopy.batch import BIN_PIXELS, LINE_SLOT, SLOTS, SpectrumBatch
from mmagn.spectroscopy.kinematics import fitted
from mmagn.spectroscopy.measures import Coverage, LineFit, Measures, continuum_coefficients, measures, solved_batch
from mmagn.spectroscopy.profiles import AMPLITUDES, GROUPS, PIXEL_KMS, SEGMENT_SLOTS
from mmagn.spectroscopy.rows import rows_of
from mmagn.spectroscopy.system import ContinuumSystem, Grids, binned_at_phase
from mmagn.spectroscopy.varpro import LOG_SIGMA_MEAN, Problem, State, problem

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
PROMISING_GAIN = 15.0
PROMISING_CHI2 = 2.0
"""Chi2, over chi2 per degree of freedom, that the best template must gain for the fit to continue; a fit without broad
lines of a worse chi2 per degree of freedom is always continued."""
VELOCITY_LIMIT_KMS = 1500.0
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
        (suspect,) their rows in the whole.
    batch, system, covered
        The spectra, their normal equations and which lines they show.
    objective, chi2_dof
        (suspect,) of the fit without a broad component.
    """

    row: torch.Tensor
    batch: SpectrumBatch
    system: ContinuumSystem
    covered: Coverage
    objective: torch.Tensor
    chi2_dof: torch.Tensor

    def __len__(self) -> int:
        """Return the number of suspects."""
        return len(self.row)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Broad:
    """A broad component of every suspect.

    Attributes
    ----------
    velocity, log_sigma
        (suspect,) shift and natural log of the width, pixels.
    flux
        (suspect, line) scaled fluxes.
    kinematics
        (suspect, group, 2) of the narrow lines.
    objective
        (suspect,) of the joint fit.
    """

    velocity: torch.Tensor
    log_sigma: torch.Tensor
    flux: torch.Tensor
    kinematics: torch.Tensor
    objective: torch.Tensor


def suspects(batch: SpectrumBatch, tables: Grids, fit: LineFit, first_row: int = 0) -> Suspects:
    """Return the spectra whose residual matches a broad template, or whose Balmer lines are too wide.

    Parameters
    ----------
    batch, tables, fit
        Spectra, continuum model and fit without a broad component.
    first_row
        Row of the first spectrum of the batch in the whole.
    """
    row = torch.nonzero(_suspect(tables, fit))[:, 0]
    whole = Suspects(
        row=torch.arange(first_row, first_row + len(batch), device=row.device),
        batch=batch,
        system=fit.system,
        covered=fit.covered,
        objective=fit.state.objective,
        chi2_dof=fit.measures.chi2_dof,
    )
    return rows_of(whole, row)


def broad_measures(candidates: Suspects, tables: Grids) -> tuple[torch.Tensor, Measures]:
    """Return the rows of the whole that need a broad component, and their measurements from the joint fit."""
    start = _best_template(candidates, tables)
    noise = candidates.chi2_dof.nan_to_num(1.0).clamp_min(1.0)
    # Where lines are no Gaussians the first step of the kinematics decides nothing.
    promising = (candidates.objective - start.objective > PROMISING_GAIN * noise) | (noise > PROMISING_CHI2)
    promising = torch.nonzero(promising)[:, 0]
    candidates = rows_of(candidates, promising)
    task, state, broad = _joint_fit(candidates, tables, rows_of(start, promising))
    result = measures(candidates.batch, solved_batch(task, state), candidates.covered)
    snr, ratio = _strength(task, state)
    noise = torch.minimum(candidates.chi2_dof, result.chi2_dof).nan_to_num(1.0).clamp_min(1.0)
    wider = broad.log_sigma + math.log(PIXEL_KMS) - state.kinematics[:, 0, 1] > math.log(WIDTH_RATIO)
    accepted = (
        ((candidates.objective - state.objective) / noise > CHI2_GAIN) & (snr > BROAD_SNR) & (ratio > FLUX_RATIO_MIN)
    )
    accepted &= wider & (result.chi2_dof < CHI2_RISE_MAX * candidates.chi2_dof)
    accepted = torch.nonzero(accepted)[:, 0]
    return candidates.row[accepted], rows_of(result, accepted)


def broad_curve(candidates: Suspects, tables: Grids) -> tuple[Problem, State, torch.Tensor]:
    """Return the joint fit of suspects and their broad lines, (suspect, slot) scaled flux per pixel."""
    task, state, broad = _joint_fit(candidates, tables, _best_template(candidates, tables))
    slots = torch.arange(SLOTS, dtype=torch.float64, device=task.phase.device)[None]
    flux = _broad_coefficients(task, state)
    curve = torch.zeros(len(candidates), SLOTS, dtype=torch.float64, device=task.phase.device)
    for column, line in enumerate(_BALMER):
        centre = (float(LINE_SLOT[line]) - task.phase + broad.velocity)[:, None]
        curve += flux[:, column, None] * _gaussian(slots, centre, broad.log_sigma.exp()[:, None])
    return task, state, curve


def _gaussian(position: torch.Tensor, centre: torch.Tensor | float, sigma: torch.Tensor) -> torch.Tensor:
    z = (position - centre) / sigma
    return torch.exp(-0.5 * z * z) / (sigma * math.sqrt(2 * math.pi))


@lru_cache(maxsize=4)
def _positions(device: torch.device) -> torch.Tensor:
    """Return (bin + segment pixel,) positions in slots at phase 0."""
    bins = torch.arange(SLOTS // BIN_PIXELS, dtype=torch.float64, device=device) * BIN_PIXELS + (BIN_PIXELS - 1) / 2
    return torch.cat([bins, torch.from_numpy(SEGMENT_SLOTS).to(device, torch.float64)])


@lru_cache(maxsize=4)
def _templates(tables: Grids) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return broad templates T, their squares, and their products with the continuum at phase 0.

    Shapes (template, pixel), (template, pixel), (pixel, template x term); pixels are bins, then segment pixels.
    """
    position = _positions(tables.segment.device)
    shapes = []
    for sigma in _TEMPLATE_SIGMAS:
        width = torch.tensor(sigma, dtype=position.dtype, device=position.device)
        parts = [
            _TEMPLATE_RATIO[LINES[line].name] * _gaussian(position, float(LINE_SLOT[line]), width) for line in _BALMER
        ]
        shapes.append(torch.stack(parts).sum(0))
    template = torch.stack(shapes)
    binned = tables.binned[1]
    continuum = torch.cat([binned, tables.segment[2].view(len(binned), -1)], 1)
    return template, template.square(), (template[:, None] * continuum).flatten(0, 1).T.contiguous()


def _suspect(tables: Grids, fit: LineFit) -> torch.Tensor:
    """Return (batch,) True where a broad component is worth a try."""
    system, narrow = fit.system, fit.measures
    template, square, products = _templates(tables)
    outside = system.binned_flux - system.binned_weight * (fit.coefficients @ tables.binned[1])
    match = torch.cat([outside, system.weight * fit.residual], 1) @ template.T
    weight = torch.cat([system.binned_weight, system.weight], 1)
    alone = weight @ square.T
    overlap = (weight @ products).view(len(weight), len(template), -1)
    norm = alone - torch.bmm(overlap, fit.task.root.mT).square().sum(2)
    gain = match.clamp_min(0.0).square() / norm.clamp_min(1e-12)
    gain = torch.where(norm > 1e-3 * alone, gain, 0.0).amax(1)
    noise = narrow.chi2_dof.nan_to_num(1.0).clamp(1.0, 4.0)
    usable = ~narrow.flux.isnan().all(1)
    return usable & ((gain / noise > SUSPECT_GAIN) | (narrow.sigma_kms[:, 0] > SUSPECT_SIGMA_KMS))


def _columns(phase: torch.Tensor, broad: _Broad) -> torch.Tensor:
    """Return (suspect, 4, bin + segment pixel) broad lines and derivatives of their sum by velocity and log width."""
    position = _positions(phase.device)[None]
    sigma = broad.log_sigma.exp()[:, None]
    centre = torch.tensor([LINE_SLOT[line] for line in _BALMER], dtype=phase.dtype, device=phase.device)
    z = (position - (centre - (phase - broad.velocity)[:, None])[:, :, None]) / sigma[:, :, None]
    lines = torch.exp(-0.5 * z * z) / (sigma * math.sqrt(2 * math.pi))[:, :, None]
    model = broad.flux[:, :, None] * lines
    by_velocity = (model * z).sum(1, keepdim=True) / sigma[:, :, None]
    by_width = (model * (z * z - 1)).sum(1, keepdim=True)
    return torch.cat([lines, by_velocity, by_width], 1)


def _with_columns(phase: torch.Tensor, tables: Grids, system: ContinuumSystem, extra: torch.Tensor) -> ContinuumSystem:
    """Return the continuum system with ``extra`` (batch, 4, bin + segment pixel) columns."""
    bins = system.binned_weight.shape[1]
    outside, inside = extra[:, :, :bins], extra[:, :, bins:]
    weighted = outside * system.binned_weight[:, None]
    terms = system.normal.shape[1]
    own = torch.bmm(weighted, outside.mT)
    # Steps of 4 pixels and of 0.5 in log width are what the derivatives are good for.
    own = own + torch.diag(torch.tensor([1e-8, 1e-8, 1 / 16, 4.0], dtype=own.dtype, device=own.device))
    cross = torch.bmm(weighted, binned_at_phase(phase, tables).mT)
    normal_outside = own.new_zeros((len(own), terms + 4, terms + 4))
    normal_outside[:, :terms, :terms] = system.normal_outside
    normal_outside[:, terms:, :terms], normal_outside[:, :terms, terms:] = cross, cross.mT
    normal_outside[:, terms:, terms:] = own
    right_outside = torch.cat([system.right_outside, (outside @ system.binned_flux[:, :, None])[:, :, 0]], 1)
    data = torch.cat([system.columns, inside, system.flux[:, None]], 1)
    weighted = data[:, :-1] * system.weight[:, None]
    products = torch.bmm(weighted, data.mT)
    return replace(
        system,
        data=data,
        normal=normal_outside + products[:, :, :-1],
        right=right_outside + products[:, :, -1],
        normal_outside=normal_outside,
        right_outside=right_outside,
    )


def _problem(candidates: Suspects, tables: Grids, broad: _Broad) -> Problem:
    """Return the joint problem with the broad lines of given shape among the continuum columns."""
    phase = candidates.batch.phase
    system = _with_columns(phase, tables, candidates.system, _columns(phase, broad))
    return problem(system, phase, candidates.batch.lsf_sigma, candidates.covered.constrained)


def _broad_coefficients(task: Problem, state: State) -> torch.Tensor:
    """Return (suspect, 4) coefficients of broad lines and their derivatives."""
    return continuum_coefficients(task, state)[:, -4:]


def _best_template(candidates: Suspects, tables: Grids) -> _Broad:
    """Return the best of a few widths at the systemic velocity; all are tried as one batch."""
    count, device = len(candidates), candidates.row.device
    suspect = torch.arange(count, device=device)
    stacked = rows_of(candidates, suspect.repeat(len(_TEMPLATE_SIGMAS)))
    zeros = stacked.objective.new_zeros(len(stacked))
    widths = torch.tensor(_TEMPLATE_SIGMAS, dtype=zeros.dtype, device=device).log()
    narrow = torch.stack([zeros, zeros + LOG_SIGMA_MEAN], 1)[:, None].expand(-1, len(GROUPS), -1)
    trial = _Broad(
        velocity=zeros,
        log_sigma=widths.repeat_interleave(count),
        flux=zeros[:, None].expand(-1, len(_BALMER)),
        kinematics=narrow,
        objective=zeros,
    )
    task = _problem(stacked, tables, trial)
    state = fitted(task, narrow, steps=1)
    flux = _broad_coefficients(task, state)[:, : len(_BALMER)]
    trial = replace(trial, flux=flux, kinematics=state.kinematics, objective=state.objective)
    best = state.objective.view(len(_TEMPLATE_SIGMAS), count).nan_to_num(torch.inf).argmin(0) if count else suspect
    return rows_of(trial, best * count + suspect)


def _joint_fit(candidates: Suspects, tables: Grids, broad: _Broad) -> tuple[Problem, State, _Broad]:
    """Return the joint fit, from a start: shape of the broad lines and kinematics of the narrow ones in turn."""
    low, high = (math.log(limit / PIXEL_KMS) for limit in SIGMA_LIMITS_KMS)
    limit = VELOCITY_LIMIT_KMS / PIXEL_KMS
    for _ in range(STEPS):
        task = _problem(candidates, tables, broad)
        state = fitted(task, broad.kinematics, steps=1)
        coefficients = _broad_coefficients(task, state)
        broad = _Broad(
            velocity=(broad.velocity + coefficients[:, 2].clamp(-6.0, 6.0)).clamp(-limit, limit),
            log_sigma=(broad.log_sigma + coefficients[:, 3].clamp(-0.4, 0.4)).clamp(low, high),
            flux=coefficients[:, : len(_BALMER)],
            kinematics=state.kinematics,
            objective=state.objective,
        )
    task = _problem(candidates, tables, broad)
    return task, fitted(task, broad.kinematics, steps=4), broad


def _strength(task: Problem, state: State) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (suspect,) signal-to-noise of the strongest broad line, and its flux over that of the narrow line."""
    coefficients = _broad_coefficients(task, state)[:, : len(_BALMER)]
    error = task.root.square().sum(1).sqrt()[:, -4:][:, : len(_BALMER)]
    snr, strongest = (coefficients / error.clamp_min(1e-30)).max(1)
    amplitude = torch.tensor([AMPLITUDES.index(LINES[line].name) for line in _BALMER], device=strongest.device)
    narrow = state.flux.gather(1, amplitude[strongest][:, None])[:, 0]
    return snr, coefficients.gather(1, strongest[:, None])[:, 0] / narrow.clamp_min(1e-30)

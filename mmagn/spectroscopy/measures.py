"""From spectra to numbers: one batch fitted, then fluxes with errors, equivalent widths, kinematics and chi2.

Undefined is NaN, with a flag that says why.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from mmagn.lines import SII_RATIO_RANGE
from mmagn.spectroscopy.batch import LINE_SLOT, PIXEL_ANGSTROM, SpectrumBatch, slots_between
from mmagn.spectroscopy.kinematics import converged, detected_groups, solution
from mmagn.spectroscopy.profiles import (
    AMPLITUDES,
    ANCHORS,
    GROUPS,
    LINE_RATIO,
    PIXEL_KMS,
    SEGMENT_SLOTS,
    SEGMENTS,
    line_coverage,
    line_patches,
    segment_rows,
)
from mmagn.spectroscopy.system import ContinuumSystem, Grids, continuum_system
from mmagn.spectroscopy.varpro import (
    LOG_SIGMA_SCATTER,
    Problem,
    State,
    flux_covariance,
    group_members,
    problem,
)

COVERAGE_MIN = 0.65
"""Smallest share of a line's core on valid pixels for its flux to be reported."""
COVERAGE_OF_FIT = 0.25
"""Smallest share for it to be fitted."""
LEVEL_WINDOWS_ANGSTROM = ((4500.0, 4650.0), (5050.0, 5150.0), (5500.0, 5650.0), (6000.0, 6150.0))
"""Rest windows without emission lines, whose median is the continuum level."""
LEVEL_PIXELS_MIN = 20
LINE_RADIUS_PIXELS = 12
LINE_CHI2_MAX = 4.0
"""Chi2 per pixel within so far of a line (830 km/s) that no noise gives: the line is no Gaussian, or not alone."""
SIDEBAND_PIXELS = (16, 26)
"""Distance from a line where the fitted continuum is averaged: outside the Balmer absorption core."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Coverage:
    """Which lines a spectrum shows, each (batch, amplitude) bool.

    Attributes
    ----------
    constrained
        Data constrain the flux: the line itself or one tied to it is covered.
    outside, masked
        The line of that name lies outside the spectrum or on masked pixels, and is not reported.
    """

    constrained: torch.Tensor
    outside: torch.Tensor
    masked: torch.Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Solution:
    """A solved batch.

    Attributes
    ----------
    task, state
        The problem and its solution.
    coefficients
        (batch, term) of the continuum.
    emission, residual
        (batch, segment pixel) scaled flux per pixel: all lines; data less continuum and lines.
    """

    task: Problem
    state: State
    coefficients: torch.Tensor
    emission: torch.Tensor
    residual: torch.Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Measures:
    """Measurements of a batch; fluxes in 1e-17 erg/s/cm2, continua in 1e-17 erg/s/cm2/A, kinematics in km/s.

    Attributes
    ----------
    flux, flux_err, ew, ew_err, continuum
        (batch, amplitude) in the order of ``AMPLITUDES``; widths in rest-frame Angstrom, emission positive.
    outside, masked
        (batch, amplitude) why a flux is NaN.
    velocity_kms, sigma_kms
        (batch, group), NaN where the lines are too weak to tell.
    poor_fit
        (batch, amplitude) True where Gaussians and continuum do not describe the pixels around the line: chi2 per valid
        pixel above ``LINE_CHI2_MAX``.
    level, snr_median, chi2_dof
        (batch,).
    converged
        (batch,) True where the last step was short.
    """

    flux: torch.Tensor
    flux_err: torch.Tensor
    ew: torch.Tensor
    ew_err: torch.Tensor
    continuum: torch.Tensor
    outside: torch.Tensor
    masked: torch.Tensor
    poor_fit: torch.Tensor
    velocity_kms: torch.Tensor
    sigma_kms: torch.Tensor
    level: torch.Tensor
    snr_median: torch.Tensor
    chi2_dof: torch.Tensor
    converged: torch.Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class LineFit(Solution):
    """A batch fitted without broad lines: its solution, normal equations, coverage and measurements."""

    system: ContinuumSystem
    covered: Coverage
    measures: Measures


def coverage(batch: SpectrumBatch) -> Coverage:
    """Return which lines the spectra of a batch show."""
    share = line_coverage(batch.ivar)
    slot = torch.tensor(LINE_SLOT, device=share.device) - batch.phase[:, None]
    inside = (slot > batch.first[:, None] + 1) & (slot < batch.last[:, None] - 2)
    members = torch.tensor(LINE_RATIO > 0, dtype=share.dtype, device=share.device)
    usable = share[:, ANCHORS] >= COVERAGE_MIN
    outside = ~inside[:, ANCHORS] & ~usable
    return Coverage(
        constrained=(share > COVERAGE_OF_FIT).to(share.dtype) @ members.T > 0,
        outside=outside,
        masked=~usable & ~outside,
    )


def level_and_snr(batch: SpectrumBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (batch,) median flux density and median signal-to-noise per pixel in the line-free windows."""
    windows = [slots_between(*window) for window in LEVEL_WINDOWS_ANGSTROM]
    slots = torch.cat([torch.arange(window.start, window.stop) for window in windows]).to(batch.flux.device)
    flux, ivar = batch.flux[:, slots], batch.ivar[:, slots]
    valid = ivar > 0
    enough = valid.sum(1) >= LEVEL_PIXELS_MIN
    flux = torch.where(valid, flux, torch.nan)
    level = torch.where(enough, flux.nanmedian(1).values, torch.nan)
    snr = torch.where(enough, (flux * ivar.sqrt()).nanmedian(1).values, torch.nan)
    return level.double(), snr.double()


def sulphur_ratio(flux: torch.Tensor) -> torch.Tensor:
    """Return (batch,) [S II] 6716 / 6731 of fluxes (batch, amplitude), inside its physical range; NaN without emission.

    The fluxes themselves stay free: true ratios crowd near the upper limit, so fluxes moved to it would be biased and
    their errors too large.
    """
    one, two = flux[:, AMPLITUDES.index("sii_6718")], flux[:, AMPLITUDES.index("sii_6733")]
    share = (one / (one + two)).clamp(*(ratio / (1 + ratio) for ratio in SII_RATIO_RANGE))
    return torch.where(one + two > 0, share / (1 - share), torch.nan)


def continuum_coefficients(task: Problem, state: State) -> torch.Tensor:
    """Return (batch, term) coefficients of the continuum at the solution."""
    rotated = task.flux_root - (state.flux[:, None] @ state.coupling)[:, 0]
    return (task.root.mT @ rotated[:, :, None])[:, :, 0]


@lru_cache(maxsize=4)
def _sidebands(device: torch.device) -> torch.Tensor:
    """Return (segment pixel, amplitude) weights of the mean flux density on both sides of a line."""
    low, high = SIDEBAND_PIXELS
    average = np.zeros((len(SEGMENT_SLOTS), len(AMPLITUDES)))
    for column, line in enumerate(ANCHORS):
        distance = np.abs(SEGMENT_SLOTS - round(float(LINE_SLOT[line])))
        beside = (distance >= low) & (distance <= high)
        average[beside, column] = 1 / (PIXEL_ANGSTROM[SEGMENT_SLOTS[beside]] * beside.sum())
    return torch.from_numpy(average).to(device)


def _continuum_at_lines(fit: Solution) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (batch, amplitude) fitted continuum density beside each line and its error."""
    average = fit.task.columns @ _sidebands(fit.residual.device)
    scale = fit.task.scale[:, None]
    density = (fit.coefficients[:, None] @ average)[:, 0]
    return density * scale, (fit.task.root @ average).square().sum(1).sqrt() * scale


def line_model(task: Problem, state: State) -> torch.Tensor:
    """Return (batch, segment pixel) scaled flux per pixel of all lines."""
    patches = line_patches(state.kinematics, task.phase, task.lsf_sigma, derivatives=False)
    flux = state.flux * task.active
    model = torch.zeros_like(task.weight)
    for segment in SEGMENTS:
        rows = segment_rows(patches, segment)
        model[:, segment.pixels] = (flux[:, None, segment.of(1)] @ rows)[:, 0]
    return model


def solved_batch(task: Problem, state: State) -> Solution:
    """Return the solution with its continuum, emission and residual."""
    coefficients = continuum_coefficients(task, state)
    emission = line_model(task, state)
    residual = task.flux - emission - (coefficients[:, None] @ task.columns)[:, 0]
    return Solution(task=task, state=state, coefficients=coefficients, emission=emission, residual=residual)


def line_fit(batch: SpectrumBatch, tables: Grids) -> LineFit:
    """Return the fit of a batch without broad lines."""
    covered = coverage(batch)
    system = continuum_system(batch, tables)
    task = problem(system, batch.phase, batch.lsf_sigma, covered.constrained)
    fit = solved_batch(task, solution(system, task))
    return LineFit(**vars(fit), system=system, covered=covered, measures=measures(batch, fit, covered))


def _chi2_dof(fit: Solution) -> torch.Tensor:
    task = fit.task
    chi2 = (task.weight * fit.residual.square()).sum(1)
    freedom = (task.weight > 0).sum(1) - task.active.sum(1) - 2 * len(GROUPS)
    return torch.where(freedom > 0, chi2 / freedom.clamp_min(1), torch.nan)


@lru_cache(maxsize=4)
def _line_windows(device: torch.device) -> torch.Tensor:
    """Return (segment pixel, amplitude) 1.0 around the line of a free flux."""
    distance = np.abs(SEGMENT_SLOTS[:, None] - LINE_SLOT[list(ANCHORS)])
    return torch.from_numpy((distance <= LINE_RADIUS_PIXELS).astype(np.float64)).to(device)


def _poor_fit(fit: Solution) -> torch.Tensor:
    """Return (batch, amplitude) True where chi2 around a line is too high."""
    windows = _line_windows(fit.residual.device)
    pixels = (fit.task.weight > 0).to(windows.dtype) @ windows
    return (fit.task.weight * fit.residual.square()) @ windows > LINE_CHI2_MAX * pixels.clamp_min(1.0)


def measures(batch: SpectrumBatch, fit: Solution, covered: Coverage) -> Measures:
    """Return the measurements of a solved batch."""
    task, state = fit.task, fit.state
    covariance, kinematic = flux_covariance(state)
    level, snr = level_and_snr(batch)
    unusable = batch.redshift.isnan() | batch.constant | (task.square <= 0)
    missing = covered.outside | covered.masked | unusable[:, None]
    stretch = (1 + batch.redshift) * 10.0 ** (1e-4 * batch.phase)
    factor = (task.scale * stretch)[:, None]
    flux = torch.where(missing, torch.nan, state.flux * factor)
    flux_err = torch.where(missing, torch.nan, covariance.diagonal(dim1=1, dim2=2).clamp_min(0.0).sqrt() * factor)
    continuum, continuum_err = _continuum_at_lines(fit)
    continuum = torch.where(missing, torch.nan, continuum)
    positive = continuum > 0
    rest = 1.0 / (continuum * (1 + batch.redshift)[:, None])
    ew_err = (flux_err.square() + (flux / continuum * continuum_err).square()).sqrt() * rest
    detected = detected_groups(task, state)
    certain = kinematic.diagonal(dim1=1, dim2=2)[:, 1::2].sqrt() < 0.9 * LOG_SIGMA_SCATTER
    certain = certain & detected & (~missing[:, None] & (group_members(missing.device) > 0)).any(2)
    return Measures(
        flux=flux,
        flux_err=flux_err,
        ew=torch.where(positive, flux * rest, torch.nan),
        ew_err=torch.where(positive, ew_err, torch.nan),
        continuum=continuum,
        outside=covered.outside,
        masked=covered.masked,
        poor_fit=_poor_fit(fit) & ~missing,
        velocity_kms=torch.where(certain, state.kinematics[..., 0] * PIXEL_KMS, torch.nan),
        sigma_kms=torch.where(certain, state.kinematics[..., 1].exp(), torch.nan),
        level=torch.where(unusable, torch.nan, level),
        snr_median=torch.where(batch.redshift.isnan(), torch.nan, snr),
        chi2_dof=torch.where(unusable, torch.nan, _chi2_dof(fit)),
        converged=converged(state, detected) | unusable,
    )

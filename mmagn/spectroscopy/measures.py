"""From a fit to numbers: fluxes with errors, equivalent widths, kinematics, chi2 and flags, as plain arrays.

Undefined is NaN, with a flag that says why.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mmagn.lines import SII_RATIO_RANGE
from mmagn.spectroscopy.batch import LINE_SLOT, PIXEL_ANGSTROM, SpectrumBatch, slots_between
from mmagn.spectroscopy.profiles import (
    AMPLITUDES,
    ANCHORS,
    GROUPS,
    PIXEL_KMS,
    SEGMENT_SLOTS,
    SEGMENTS,
    line_coverage,
    line_patches,
    segment_rows,
)
from mmagn.spectroscopy.varpro import (
    LOG_SIGMA_SCATTER,
    Problem,
    State,
    converged,
    detected_groups,
    flux_covariance,
    group_members,
)

COVERAGE_MIN = 0.65
"""Smallest share of a line's core on valid pixels for its flux to be reported."""
LEVEL_WINDOWS_ANGSTROM = ((4500.0, 4650.0), (5050.0, 5150.0), (5500.0, 5650.0), (6000.0, 6150.0))
"""Rest windows without emission lines, whose median is the continuum level."""
LEVEL_PIXELS_MIN = 20
SIDEBAND_PIXELS = (16, 26)
"""Distance from a line where the fitted continuum is averaged: outside the Balmer absorption core."""

Arrays = dict[str, NDArray[np.float64]]


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
    velocity_kms: torch.Tensor
    sigma_kms: torch.Tensor
    level: torch.Tensor
    snr_median: torch.Tensor
    chi2_dof: torch.Tensor
    converged: torch.Tensor


def coverage(batch: SpectrumBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return which fluxes data constrain, which lines lie outside the spectrum, which into a mask.

    Each (batch, amplitude) bool. A flux with a tied line stays in the fit as long as one of the two is covered, but is
    reported only where the line of that name itself is.
    """
    share = line_coverage(batch.ivar)
    slot = torch.tensor(LINE_SLOT, device=share.device) - batch.phase[:, None]
    inside = (slot > batch.first[:, None] + 1) & (slot < batch.last[:, None] - 2)
    constrained = share.new_zeros((len(share), len(AMPLITUDES)), dtype=torch.bool)
    for segment in SEGMENTS:
        for line, row, _, _ in segment.parts:
            constrained[:, segment.amplitudes[row]] |= share[:, line] > 0.25
    usable = share[:, ANCHORS] >= COVERAGE_MIN
    outside = ~inside[:, ANCHORS] & ~usable
    return constrained, outside, ~usable & ~outside


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


def _sidebands(device: torch.device) -> torch.Tensor:
    low, high = SIDEBAND_PIXELS
    average = np.zeros((len(SEGMENT_SLOTS), len(AMPLITUDES)))
    for column, line in enumerate(ANCHORS):
        distance = np.abs(SEGMENT_SLOTS - round(float(LINE_SLOT[line])))
        beside = (distance >= low) & (distance <= high)
        average[beside, column] = 1 / (PIXEL_ANGSTROM[SEGMENT_SLOTS[beside]] * beside.sum())
    return torch.from_numpy(average).to(device)


def _continuum_at_lines(task: Problem, coefficients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (batch, amplitude) fitted continuum density beside each line and its error."""
    average = task.system.columns @ _sidebands(task.system.columns.device)
    scale = task.system.scale[:, None]
    density = (coefficients[:, None] @ average)[:, 0]
    return density * scale, (task.root @ average).square().sum(1).sqrt() * scale


def line_model(task: Problem, state: State) -> torch.Tensor:
    """Return (batch, segment pixel) scaled flux per pixel of all lines."""
    patches = line_patches(state.kinematics, task.phase, task.lsf_sigma)
    flux = state.flux * task.active
    model = torch.zeros_like(task.system.flux)
    for segment in SEGMENTS:
        rows = segment_rows(patches, segment)[:, ::3]
        model[:, segment.pixels] = (flux[:, None, list(segment.amplitudes)] @ rows)[:, 0]
    return model


def _chi2_dof(task: Problem, state: State, coefficients: torch.Tensor) -> torch.Tensor:
    model = line_model(task, state) + (coefficients[:, None] @ task.system.columns)[:, 0]
    chi2 = (task.system.weight * (task.system.flux - model).square()).sum(1)
    freedom = (task.system.weight > 0).sum(1) - task.active.sum(1) - 2 * len(GROUPS)
    return torch.where(freedom > 0, chi2 / freedom.clamp_min(1), torch.nan)


def measures(batch: SpectrumBatch, task: Problem, state: State) -> Measures:
    """Return the measurements of a fit.

    Parameters
    ----------
    batch
        The spectra.
    task, state
        What was solved, and the solution.
    """
    _, outside, masked = coverage(batch)
    covariance, kinematic = flux_covariance(state)
    coefficients = continuum_coefficients(task, state)
    chi2_dof = _chi2_dof(task, state, coefficients)
    level, snr = level_and_snr(batch)
    unusable = batch.redshift.isnan() | batch.constant | (task.system.square <= 0)
    missing = outside | masked | unusable[:, None]
    stretch = (1 + batch.redshift) * 10.0 ** (1e-4 * batch.phase)
    factor = (task.system.scale * stretch)[:, None]
    flux = torch.where(missing, torch.nan, state.flux * factor)
    flux_err = torch.where(missing, torch.nan, covariance.diagonal(dim1=1, dim2=2).clamp_min(0.0).sqrt() * factor)
    continuum, continuum_err = _continuum_at_lines(task, coefficients)
    continuum = torch.where(missing, torch.nan, continuum)
    positive = continuum > 0
    rest = 1.0 / (continuum * (1 + batch.redshift)[:, None])
    ew_err = (flux_err.square() + (flux / continuum * continuum_err).square()).sqrt() * rest
    told = kinematic.diagonal(dim1=1, dim2=2)[:, 1::2].sqrt() < 0.9 * LOG_SIGMA_SCATTER
    told = told & detected_groups(task, state)
    told = told & (~missing[:, None] & (group_members(missing.device) > 0)).any(2)
    return Measures(
        flux=flux,
        flux_err=flux_err,
        ew=torch.where(positive, flux * rest, torch.nan),
        ew_err=torch.where(positive, ew_err, torch.nan),
        continuum=continuum,
        outside=outside,
        masked=masked,
        velocity_kms=torch.where(told, state.kinematics[..., 0] * PIXEL_KMS, torch.nan),
        sigma_kms=torch.where(told, state.kinematics[..., 1].exp(), torch.nan),
        level=torch.where(unusable, torch.nan, level),
        snr_median=torch.where(batch.redshift.isnan(), torch.nan, snr),
        chi2_dof=torch.where(unusable, torch.nan, chi2_dof),
        converged=converged(task, state) | unusable,
    )

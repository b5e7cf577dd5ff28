"""Velocity and width of the lines by damped Gauss-Newton steps (Levenberg-Marquardt), all spectra of a batch at once.

Each spectrum accepts or refuses its own steps and stops by itself, so its result does not depend on the others of the
batch.
"""

import math
from functools import lru_cache

import numpy as np
import torch

from mmagn.lines import LINES
from mmagn.spectroscopy.batch import LINE_SLOT
from mmagn.spectroscopy.profiles import (
    ANCHORS,
    GROUPS,
    LINE_RATIO,
    PATCH_PIXELS,
    PATCH_RADIUS,
    PIXEL_KMS,
    SEGMENT_SLOTS,
)
from mmagn.spectroscopy.rows import chosen, rows_of, with_rows
from mmagn.spectroscopy.system import ContinuumSystem
from mmagn.spectroscopy.varpro import (
    GROUP_CORRELATION,
    LOG_SIGMA_MEAN,
    LOG_SIGMA_SCATTER,
    VELOCITY_SCATTER_KMS,
    Problem,
    State,
    evaluated,
    group_members,
    kinematic_prior,
    solved,
)

VELOCITY_LIMIT_KMS = 900.0
SIGMA_LIMITS_KMS = (8.0, 700.0)
STEPS = 6
"""Most steps of a fit."""
SHORT_STEP = 1e-4
"""A fit stops where the squared length of its next step, in units of its errors, is below this: a hundredth of an
error."""
TOLERANCE = 1e-6
"""Rise of chi2 that does not count: near the minimum rounding, and with it the rest of the batch, must not decide
whether a step is taken."""
FEWER = 0.75
"""Once no more than this share of a batch still moves, the rest is set aside."""
DETECTED_SNR = 3.0
"""Root of the summed squares of signal-to-noise of a group's positive lines for its kinematics to count."""
CONVERGED = 0.1
"""Largest squared length of the next step in units of its errors for a fit that has converged."""
_START_SHIFTS = (-4, -2, 0, 2, 4)
_START_SIGMAS = (1.5, 2.3, 3.8)


@lru_cache(maxsize=4)
def _start_tables(device: torch.device) -> tuple[torch.Tensor, ...]:
    """Return window pixels (line, patch pixel), templates (template, patch pixel), their shifts and widths."""
    first = torch.tensor([int(np.searchsorted(SEGMENT_SLOTS, round(float(slot)))) for slot in LINE_SLOT])
    window = first[:, None] + torch.arange(-PATCH_RADIUS, PATCH_RADIUS + 1)
    shifts = torch.tensor(_START_SHIFTS, dtype=torch.float64).repeat(len(_START_SIGMAS))
    sigmas = torch.tensor(_START_SIGMAS, dtype=torch.float64).repeat_interleave(len(_START_SHIFTS))
    pixel = torch.arange(-PATCH_RADIUS, PATCH_RADIUS + 1, dtype=torch.float64)
    shape = torch.exp(-0.5 * ((pixel - shifts[:, None]) / sigmas[:, None]).square())
    shape /= shape.sum(1, keepdim=True)
    return tuple(table.to(device) for table in (window, shape, shifts, sigmas))


@lru_cache(maxsize=4)
def _line_sums(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (amplitude, line) flux ratios and their squares: sums over a free line and those tied to it."""
    ratio = torch.tensor(LINE_RATIO, dtype=torch.float64, device=device)
    return ratio, ratio.square()


def start_kinematics(system: ContinuumSystem, task: Problem) -> torch.Tensor:
    """Return (batch, group, 2) start values: the best of a coarse grid of shifts and widths, per group.

    A matched filter at every line on the spectrum minus a continuum fitted beside the lines; gains of the lines of a
    group add up where the flux is positive, less the prior's penalty.
    """
    beside = solved(system.normal_outside, system.right_outside[:, :, None])
    residual = (task.flux - torch.bmm(beside.mT, task.columns)[:, 0]) * task.weight
    window, templates, shifts, widths = _start_tables(residual.device)
    ratio, ratio_squared = _line_sums(residual.device)
    shape = (len(residual), len(LINES), PATCH_PIXELS)
    projection = ratio @ (residual[:, window.flatten()].view(shape) @ templates.T)
    norm = ratio_squared @ (task.weight[:, window.flatten()].view(shape) @ templates.T.square())
    gain = projection.clamp_min(0.0).square() / norm.clamp_min(1e-300) * task.active[:, :, None]
    gains = group_members(gain.device) @ gain
    lsf = task.lsf_sigma[:, ANCHORS].mean(1, keepdim=True)
    log_sigma = ((widths.square() - lsf.square()).clamp_min(0.1).sqrt() * PIXEL_KMS).log()
    velocity = shifts + task.phase[:, None]
    penalty = (velocity * (PIXEL_KMS / VELOCITY_SCATTER_KMS)).square()
    penalty = penalty + ((log_sigma - LOG_SIGMA_MEAN) / LOG_SIGMA_SCATTER).square()
    best = (gains - penalty[:, None]).argmax(2)
    return torch.stack([velocity.gather(1, best), log_sigma.gather(1, best)], 2)


def _bounded(kinematics: torch.Tensor) -> torch.Tensor:
    limit = VELOCITY_LIMIT_KMS / PIXEL_KMS
    low, high = (math.log(sigma) for sigma in SIGMA_LIMITS_KMS)
    return torch.stack([kinematics[..., 0].clamp(-limit, limit), kinematics[..., 1].clamp(low, high)], -1)


def next_step(state: State, damping: torch.Tensor) -> torch.Tensor:
    """Return (batch, group, 2) the damped Gauss-Newton step within 3 pixels, 0.7 in log width, and the bounds."""
    damped = state.curvature + torch.diag_embed(damping[:, None] * state.curvature.diagonal(dim1=1, dim2=2))
    step = solved(damped, state.gradient[:, :, None])[:, :, 0].view(-1, len(GROUPS), 2)
    step = torch.stack([step[..., 0].clamp(-3.0, 3.0), step[..., 1].clamp(-0.7, 0.7)], -1)
    return _bounded(state.kinematics + step) - state.kinematics


def squared_length(state: State, step: torch.Tensor) -> torch.Tensor:
    """Return (batch,) squared lengths of steps (batch, group, 2) in units of their errors."""
    flat = step.flatten(1)
    return (flat * (state.curvature @ flat[:, :, None])[:, :, 0]).sum(1)


def fitted(task: Problem, kinematics: torch.Tensor, steps: int = STEPS) -> State:
    """Return the state after damped steps from ``kinematics``.

    Parameters
    ----------
    task
        The problem.
    kinematics
        (batch, group, 2) start values.
    steps
        Most steps. A spectrum refuses those that do not lower its objective, and stops where the next one is short.
    """
    state = evaluated(task, _bounded(kinematics))
    return _stepped(task, state, torch.full_like(state.objective, 1e-2), steps)


def _stepped(task: Problem, state: State, damping: torch.Tensor, steps: int) -> State:
    for left in range(steps, 0, -1):
        step = next_step(state, damping)
        moving = squared_length(state, step) * (1 + damping).square() > SHORT_STEP
        rows = torch.nonzero(moving)[:, 0]
        if len(rows) <= FEWER * len(moving):
            if not len(rows):
                return state
            part = _stepped(rows_of(task, rows), rows_of(state, rows), damping[rows], left)
            return with_rows(state, rows, part)
        trial = evaluated(task, state.kinematics + step)
        better = (trial.objective < state.objective + TOLERANCE) & moving
        state = chosen(better, trial, state)
        damping = torch.where(moving, torch.where(better, damping / 6, damping * 8).clamp(1e-9, 1e6), damping)
    return state


def detected_groups(task: Problem, state: State) -> torch.Tensor:
    """Return (batch, group) True where the positive lines of a group together exceed ``DETECTED_SNR``."""
    variance = solved(state.normal, torch.diag_embed(torch.ones_like(state.flux))).diagonal(dim1=1, dim2=2)
    snr = state.flux.clamp_min(0.0) / variance.clamp_min(1e-300).sqrt() * task.active
    return (snr.square() @ group_members(snr.device).T).sqrt() > DETECTED_SNR


def with_expected_kinematics(task: Problem, state: State) -> State:
    """Return the state with the kinematics of undetected groups replaced by their expectation.

    Such a group holds noise, or the ripples of an imperfect continuum; its velocity and width become those of the
    prior, given the other group's.
    """
    detected = detected_groups(task, state)
    rows = torch.nonzero(~detected.all(1))[:, 0]
    if not len(rows):
        return state
    mean = kinematic_prior(state.flux.device)[0].view(len(GROUPS), 2)
    own, detected = state.kinematics[rows], detected[rows, :, None]
    measured = torch.where(detected, own, mean)
    expected = mean + GROUP_CORRELATION * (measured.flip(1) - mean)
    return with_rows(state, rows, evaluated(rows_of(task, rows), torch.where(detected, own, expected)))


def solution(system: ContinuumSystem, task: Problem) -> State:
    """Return the fit of all lines from their own start values."""
    return with_expected_kinematics(task, fitted(task, start_kinematics(system, task)))


def converged(state: State, detected: torch.Tensor) -> torch.Tensor:
    """Return (batch,) True where the next undamped step is short against its errors or pushes against a limit.

    Groups that are not ``detected`` (batch, group) take no steps.
    """
    step = next_step(state, torch.zeros_like(state.objective))
    return squared_length(state, step * detected[..., None]) < CONVERGED

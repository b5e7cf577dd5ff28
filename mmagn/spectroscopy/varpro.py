"""Variable projection: line fluxes and continuum solved exactly, velocity and width by damped Gauss-Newton steps.

For given velocities and widths the model is linear, so its unknowns are eliminated and only four non-linear ones per
spectrum remain (Golub & Pereyra 1973, SIAM J. Numer. Anal. 10, 413; the Gauss-Newton matrix is that of Kaufman 1975,
BIT 15, 49). All spectra of a batch take the same number of steps; each accepts or refuses its own, so the result of a
spectrum does not depend on its neighbours. Velocities and widths carry a weak Gaussian prior, part of the joint
matrix: lines too weak to show their kinematics keep the typical one instead of chasing noise.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch

from mmagn.lines import LINES
from mmagn.spectroscopy.batch import LINE_SLOT
from mmagn.spectroscopy.profiles import (
    AMPLITUDE_GROUP,
    AMPLITUDES,
    ANCHORS,
    GROUPS,
    PATCH_RADIUS,
    PIXEL_KMS,
    SEGMENTS,
    line_patches,
    segment_rows,
)
from mmagn.spectroscopy.system import ContinuumSystem

VELOCITY_SCATTER_KMS = 130.0
LOG_SIGMA_MEAN = math.log(110.0)
LOG_SIGMA_SCATTER = 0.55
GROUP_CORRELATION = 0.7
"""Prior: velocity about the redshift, natural log of the intrinsic width in km/s, and how alike the two groups are."""
VELOCITY_LIMIT_KMS = 900.0
SIGMA_LIMITS_KMS = (8.0, 700.0)
STEPS = 6
TOLERANCE = 1e-6
"""Rise of chi2 that does not count: near the minimum rounding, and with it the company a spectrum keeps, must not
decide whether a step is taken."""
DETECTED_SNR = 3.0
"""Root of the summed squares of signal-to-noise of a group's positive lines for its kinematics to count."""
CONVERGED = 0.1
"""Largest squared length of the next step in units of its errors for a fit that has converged."""
_START_SHIFTS = (-4, -2, 0, 2, 4)
_START_SIGMAS = (1.5, 2.3, 3.8)
_COUNT = len(AMPLITUDES)


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """What a fit needs of every spectrum.

    Attributes
    ----------
    system
        Continuum normal equations and native line pixels.
    data
        (batch, term + 1, segment pixel) continuum columns and the flux.
    root
        (batch, term, term) inverse of the lower Cholesky factor of the continuum's normal matrix.
    flux_root
        (batch, term) ``root`` times the right-hand side.
    phase, lsf_sigma
        See ``SpectrumBatch``.
    active
        (batch, amplitude) True where data constrain the flux.
    """

    system: ContinuumSystem
    data: torch.Tensor
    root: torch.Tensor
    flux_root: torch.Tensor
    phase: torch.Tensor
    lsf_sigma: torch.Tensor
    active: torch.Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """A fit at given kinematics.

    Attributes
    ----------
    kinematics
        (batch, group, 2) velocity in pixels and natural log of the intrinsic width in km/s.
    objective
        (batch,) chi2 plus the prior terms.
    flux
        (batch, amplitude) best line fluxes, scaled.
    curvature, gradient
        (batch, 4, 4) and (batch, 4): reduced Gauss-Newton matrix and descent direction of half the objective.
    normal
        (batch, amplitude, amplitude) continuum-reduced normal matrix of the fluxes.
    mixed
        (batch, amplitude, 4) its block with the kinematics.
    right
        (batch, amplitude) continuum-reduced right-hand side.
    coupling
        (batch, amplitude, term) lines against continuum columns times ``root``.
    """

    kinematics: torch.Tensor
    objective: torch.Tensor
    flux: torch.Tensor
    curvature: torch.Tensor
    gradient: torch.Tensor
    normal: torch.Tensor
    mixed: torch.Tensor
    right: torch.Tensor
    coupling: torch.Tensor

    def where(self, chosen: torch.Tensor, other: "State") -> "State":
        """Return this state where ``chosen`` (batch,), the other elsewhere."""
        picked = {}
        for name in self.__dataclass_fields__:
            mine, theirs = getattr(self, name), getattr(other, name)
            picked[name] = torch.where(chosen.view(-1, *[1] * (mine.ndim - 1)), mine, theirs)
        return State(**picked)


def factored(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return Cholesky factors of positive definite matrices (batch, n, n) scaled to unit diagonal, and the scales."""
    unit = matrix.diagonal(dim1=1, dim2=2).clamp_min(1e-300).rsqrt()
    scaled = matrix * unit[:, :, None] * unit[:, None, :]
    scaled.diagonal(dim1=1, dim2=2).add_(1e-12)
    return torch.linalg.cholesky_ex(scaled).L, unit


def solved(matrix: torch.Tensor | tuple[torch.Tensor, torch.Tensor], right: torch.Tensor) -> torch.Tensor:
    """Return ``matrix^-1 right`` (batch, n, column) of matrices or of what ``factored`` made of them."""
    factor, unit = factored(matrix) if isinstance(matrix, torch.Tensor) else matrix
    solution: torch.Tensor = torch.cholesky_solve(right * unit[:, :, None], factor)
    return solution * unit[:, :, None]


def inverse_root(normal: torch.Tensor) -> torch.Tensor:
    """Return (batch, n, n) R with ``R normal R^T = 1``, lower triangular."""
    factor, unit = factored(normal)
    identity = torch.eye(normal.shape[1], dtype=normal.dtype, device=normal.device).expand_as(normal)
    root: torch.Tensor = torch.linalg.solve_triangular(factor, identity, upper=False)
    return root * unit[:, None, :]


@lru_cache(maxsize=4)
def kinematic_prior(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean (4,) and precision (4, 4) of (velocity, log width) of both groups, as in ``State.kinematics``."""
    velocity = (VELOCITY_SCATTER_KMS / PIXEL_KMS) ** 2
    width = LOG_SIGMA_SCATTER**2
    rho = GROUP_CORRELATION
    covariance = torch.tensor(
        [
            [velocity, 0.0, rho * velocity, 0.0],
            [0.0, width, 0.0, rho * width],
            [rho * velocity, 0.0, velocity, 0.0],
            [0.0, rho * width, 0.0, width],
        ],
        dtype=torch.float64,
    )
    mean = torch.tensor([0.0, LOG_SIGMA_MEAN] * len(GROUPS), dtype=torch.float64)
    return mean.to(device), torch.linalg.inv(covariance).to(device)


def problem(system: ContinuumSystem, phase: torch.Tensor, lsf_sigma: torch.Tensor, active: torch.Tensor) -> Problem:
    """Return the problem with its continuum factorised."""
    root = inverse_root(system.normal)
    flux_root = (root @ system.right[:, :, None])[:, :, 0]
    data = torch.cat([system.columns, system.flux[:, None]], 1)
    return Problem(
        system=system, data=data, root=root, flux_root=flux_root, phase=phase, lsf_sigma=lsf_sigma, active=active
    )


@lru_cache(maxsize=4)
def group_members(device: torch.device) -> torch.Tensor:
    """Return (group, amplitude) 1.0 where a flux belongs to a kinematic group."""
    members = [[float(own == group) for own in AMPLITUDE_GROUP] for group in range(len(GROUPS))]
    return torch.tensor(members, dtype=torch.float64, device=device)


def _gram(task: Problem, kinematics: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return reduced Gram matrix, right-hand side and continuum coupling of (profile, d/dv, d/dlog width) rows.

    Shapes (batch, 3 amplitude, 3 amplitude), (batch, 3 amplitude), (batch, 3 amplitude, term); rows run over
    amplitudes, then over the three kinds.
    """
    patches = line_patches(kinematics, task.phase, task.lsf_sigma)
    system, count = task.system, 3 * _COUNT
    gram = patches.new_zeros((len(patches), count, count))
    against = patches.new_zeros((len(patches), count, task.data.shape[1]))
    for segment in SEGMENTS:
        rows = segment_rows(patches, segment)
        weighted = rows * system.weight[:, None, segment.pixels]
        own = slice(3 * segment.amplitudes[0], 3 * segment.amplitudes[-1] + 3)
        gram[:, own, own] = torch.bmm(weighted, rows.mT)
        against[:, own] = torch.bmm(weighted, task.data[:, :, segment.pixels].mT)
    coupling = torch.bmm(against[:, :, :-1], task.root.mT)
    gram -= torch.bmm(coupling, coupling.mT)
    right = against[:, :, -1] - torch.bmm(coupling, task.flux_root[:, :, None])[:, :, 0]
    return gram, right, coupling


def evaluated(task: Problem, kinematics: torch.Tensor) -> State:
    """Return the best linear solution at given kinematics, with the Gauss-Newton system of the kinematics."""
    gram, right, coupling = _gram(task, kinematics)
    batch = len(gram)
    gram = gram.view(batch, _COUNT, 3, _COUNT, 3)
    right = right.view(batch, _COUNT, 3)
    keep = task.active.to(gram.dtype)
    normal = gram[:, :, 0, :, 0] * keep[:, :, None] * keep[:, None, :]
    normal = normal + torch.diag_embed(1.0 - keep)
    right_flux = right[:, :, 0] * keep
    factor = factored(normal)
    flux = solved(factor, right_flux[:, :, None])[:, :, 0]
    # One column per group and kind: the derivative of the whole model of that group.
    share = group_members(gram.device)[None] * flux[:, None]
    mixed = torch.einsum("bgm,blkm->blgk", share, gram[:, :, 0, :, 1:].permute(0, 1, 3, 2))
    mixed = (mixed * keep[:, :, None, None]).flatten(2)
    curvature = torch.einsum("bgl,blimj,bhm->bgihj", share, gram[:, :, 1:, :, 1:], share).reshape(batch, 4, 4)
    slope = torch.einsum("bgl,blk->bgk", share, right[:, :, 1:]).flatten(1)
    slope = slope - (mixed.mT @ flux[:, :, None])[:, :, 0]
    mean, precision = kinematic_prior(gram.device)
    offset = kinematics.flatten(1) - mean
    pull = offset @ precision
    reduced = curvature - mixed.mT @ solved(factor, mixed)
    explained = (right_flux * flux).sum(1) + task.flux_root.square().sum(1)
    return State(
        kinematics=kinematics,
        objective=task.system.square - explained + (offset * pull).sum(1),
        flux=flux,
        curvature=reduced + precision,
        gradient=slope - pull,
        normal=normal,
        mixed=mixed,
        right=right_flux,
        coupling=coupling.view(batch, _COUNT, 3, -1)[:, :, 0],
    )


def _start_templates(device: torch.device) -> torch.Tensor:
    pixel = torch.arange(-PATCH_RADIUS, PATCH_RADIUS + 1, dtype=torch.float64, device=device)
    profiles = []
    for sigma in _START_SIGMAS:
        for shift in _START_SHIFTS:
            shape = torch.exp(-0.5 * ((pixel - shift) / sigma).square())
            profiles.append(shape / shape.sum())
    return torch.stack(profiles)


def start_kinematics(task: Problem) -> torch.Tensor:
    """Return (batch, group, 2) start values: the best of a coarse grid of shifts and widths, per group.

    A matched filter at every line on the spectrum minus a continuum fitted beside the lines; gains of the lines of a
    group add up where the flux is positive, less the prior's penalty.
    """
    system = task.system
    beside = solved(system.normal_outside, system.right_outside[:, :, None])
    residual = (system.flux - torch.bmm(beside.mT, system.columns)[:, 0]) * system.weight
    templates = _start_templates(residual.device)
    offset = {int(slot): first for first, slot in _segment_offsets()}
    gains = residual.new_zeros((len(residual), len(GROUPS), len(templates)))
    matched: dict[str, list[torch.Tensor]] = {}
    for index, line in enumerate(LINES):
        first = offset[round(float(LINE_SLOT[index]))]
        window = slice(first - PATCH_RADIUS, first + PATCH_RADIUS + 1)
        ratio = line.tied_ratio if line.tied_to else 1.0
        pair = [ratio * residual[:, window] @ templates.T, ratio**2 * system.weight[:, window] @ templates.T.square()]
        known = matched.setdefault(line.tied_to or line.name, [torch.zeros_like(part) for part in pair])
        matched[line.tied_to or line.name] = [old + new for old, new in zip(known, pair, strict=True)]
    for index, (projection, norm) in ((AMPLITUDES.index(name), pair) for name, pair in matched.items()):
        gain = projection.clamp_min(0.0).square() / norm.clamp_min(1e-300)
        gains[:, AMPLITUDE_GROUP[index]] += gain * task.active[:, index, None]
    lsf = task.lsf_sigma[:, ANCHORS].mean(1, keepdim=True)
    widths = torch.tensor(_START_SIGMAS, dtype=lsf.dtype, device=lsf.device).repeat_interleave(len(_START_SHIFTS))
    shifts = torch.tensor(_START_SHIFTS, dtype=lsf.dtype, device=lsf.device).repeat(len(_START_SIGMAS))
    log_sigma = ((widths.square() - lsf.square()).clamp_min(0.1).sqrt() * PIXEL_KMS).log()
    velocity = shifts + task.phase[:, None]
    penalty = (velocity * (PIXEL_KMS / VELOCITY_SCATTER_KMS)).square()
    penalty = penalty + ((log_sigma - LOG_SIGMA_MEAN) / LOG_SIGMA_SCATTER).square()
    best = (gains - penalty[:, None]).argmax(2)
    return torch.stack([velocity.gather(1, best), log_sigma.gather(1, best)], 2)


def _segment_offsets() -> list[tuple[int, int]]:
    return [
        (segment.pixels.start + k, slot)
        for segment in SEGMENTS
        for k, slot in enumerate(range(segment.slots.start, segment.slots.stop))
    ]


def _bounded(kinematics: torch.Tensor) -> torch.Tensor:
    limit = VELOCITY_LIMIT_KMS / PIXEL_KMS
    low, high = (math.log(sigma) for sigma in SIGMA_LIMITS_KMS)
    return torch.stack([kinematics[..., 0].clamp(-limit, limit), kinematics[..., 1].clamp(low, high)], -1)


def next_step(state: State, damping: torch.Tensor) -> torch.Tensor:
    """Return (batch, group, 2) the damped Gauss-Newton step, limited to 3 pixels and 0.7 in log width."""
    damped = state.curvature + torch.diag_embed(damping[:, None] * state.curvature.diagonal(dim1=1, dim2=2))
    step = solved(damped, state.gradient[:, :, None])[:, :, 0].view(-1, len(GROUPS), 2)
    return torch.stack([step[..., 0].clamp(-3.0, 3.0), step[..., 1].clamp(-0.7, 0.7)], -1)


def fitted(task: Problem, kinematics: torch.Tensor, steps: int = STEPS) -> State:
    """Return the state after a fixed number of damped steps from ``kinematics`` (Levenberg-Marquardt).

    Parameters
    ----------
    task
        The problem.
    kinematics
        (batch, group, 2) start values.
    steps
        Number of steps; every spectrum takes all of them and refuses those that do not lower its objective.
    """
    state = evaluated(task, _bounded(kinematics))
    damping = torch.full_like(state.objective, 1e-2)
    for _ in range(steps):
        trial = evaluated(task, _bounded(state.kinematics + next_step(state, damping)))
        better = trial.objective < state.objective + TOLERANCE
        state = trial.where(better, state)
        damping = torch.where(better, damping / 6, damping * 8).clamp(1e-9, 1e6)
    return state


def detected_groups(task: Problem, state: State) -> torch.Tensor:
    """Return (batch, group) True where the positive lines of a group together exceed ``DETECTED_SNR``."""
    variance = solved(state.normal, torch.diag_embed(torch.ones_like(state.flux))).diagonal(dim1=1, dim2=2)
    snr = state.flux.clamp_min(0.0) / variance.clamp_min(1e-300).sqrt() * task.active
    return (snr.square() @ group_members(snr.device).T).sqrt() > DETECTED_SNR


def settled(task: Problem, state: State) -> State:
    """Return the state with the kinematics of undetected groups put back to what is expected of them.

    Such a group has shown nothing but noise, or the ripples of an imperfect continuum; its velocity and width are then
    those of the prior, given the other group's.
    """
    mean, _ = kinematic_prior(state.flux.device)
    mean = mean.view(len(GROUPS), 2)
    detected = detected_groups(task, state)[..., None]
    seen = torch.where(detected, state.kinematics, mean)
    expected = mean + GROUP_CORRELATION * (seen.flip(1) - mean)
    return evaluated(task, torch.where(detected, state.kinematics, expected))


def converged(task: Problem, state: State) -> torch.Tensor:
    """Return (batch,) True where the next undamped step is short against its errors or pushes against a limit.

    Groups without a detection do not take steps.
    """
    step = _bounded(state.kinematics + next_step(state, torch.zeros_like(state.objective))) - state.kinematics
    flat = (step * detected_groups(task, state)[..., None]).flatten(1)
    return (flat * (state.curvature @ flat[:, :, None])[:, :, 0]).sum(1) < CONVERGED


def flux_covariance(state: State) -> tuple[torch.Tensor, torch.Tensor]:
    """Return covariances of fluxes (batch, amplitude, amplitude) and kinematics (batch, 4, 4) from the joint matrix."""
    identity = torch.eye(4, dtype=state.curvature.dtype, device=state.curvature.device).expand_as(state.curvature)
    kinematic = solved(state.curvature, identity)
    lever = solved(state.normal, state.mixed)
    own = solved(state.normal, torch.eye(_COUNT, dtype=lever.dtype, device=lever.device).expand_as(state.normal))
    return own + lever @ kinematic @ lever.mT, kinematic

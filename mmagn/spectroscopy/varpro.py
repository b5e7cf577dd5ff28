"""Variable projection: line fluxes and continuum solved exactly for given velocities and widths.

For given velocities and widths the model is linear, so its unknowns are eliminated and only four non-linear ones per
spectrum remain (Golub & Pereyra 1973, SIAM J. Numer. Anal. 10, 413; the Gauss-Newton matrix is that of Kaufman 1975,
BIT 15, 49). Velocities and widths carry a weak Gaussian prior, part of the joint matrix: lines too weak to show their
kinematics keep the typical one instead of following the noise.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch

from mmagn.spectroscopy.profiles import (
    AMPLITUDE_GROUP,
    AMPLITUDES,
    GROUPS,
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
"""Prior: velocity about the redshift, natural log of the intrinsic width in km/s, correlation of the two groups."""
_COUNT = len(AMPLITUDES)


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """What the fit of the lines needs of every spectrum.

    Attributes
    ----------
    scale, data, weight, square
        See ``ContinuumSystem``.
    root
        (batch, term, term) inverse of the lower Cholesky factor of the continuum's normal matrix.
    flux_root
        (batch, term) ``root`` times the right-hand side.
    phase, lsf_sigma
        See ``SpectrumBatch``.
    active
        (batch, amplitude) True where data constrain the flux.
    """

    scale: torch.Tensor
    data: torch.Tensor
    weight: torch.Tensor
    square: torch.Tensor
    root: torch.Tensor
    flux_root: torch.Tensor
    phase: torch.Tensor
    lsf_sigma: torch.Tensor
    active: torch.Tensor

    @property
    def columns(self) -> torch.Tensor:
        """(batch, term, segment pixel) continuum columns."""
        return self.data[:, :-1]

    @property
    def flux(self) -> torch.Tensor:
        """(batch, segment pixel) scaled flux per pixel."""
        return self.data[:, -1]


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
    coupling: torch.Tensor


def factored(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return Cholesky factors of positive definite matrices (batch, n, n) scaled to unit diagonal, and the scales."""
    unit = matrix.diagonal(dim1=1, dim2=2).clamp_min(1e-300).rsqrt()
    scaled = matrix * unit[:, :, None] * unit[:, None, :]
    scaled.diagonal(dim1=1, dim2=2).add_(1e-12)
    return torch.linalg.cholesky_ex(scaled).L, unit


def solved(matrix: torch.Tensor | tuple[torch.Tensor, torch.Tensor], right: torch.Tensor) -> torch.Tensor:
    """Return ``matrix^-1 right`` (batch, n, column) of matrices or of their factors from ``factored``."""
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
    own = torch.diag(torch.tensor([(VELOCITY_SCATTER_KMS / PIXEL_KMS) ** 2, LOG_SIGMA_SCATTER**2], dtype=torch.float64))
    shared = GROUP_CORRELATION * own
    covariance = torch.cat([torch.cat([own, shared], 1), torch.cat([shared, own], 1)])
    mean = torch.tensor([0.0, LOG_SIGMA_MEAN] * len(GROUPS), dtype=torch.float64)
    return mean.to(device), torch.linalg.inv(covariance).to(device)


def problem(system: ContinuumSystem, phase: torch.Tensor, lsf_sigma: torch.Tensor, active: torch.Tensor) -> Problem:
    """Return the problem with its continuum factorised."""
    root = inverse_root(system.normal)
    return Problem(
        scale=system.scale,
        data=system.data,
        weight=system.weight,
        square=system.square,
        root=root,
        flux_root=(root @ system.right[:, :, None])[:, :, 0],
        phase=phase,
        lsf_sigma=lsf_sigma,
        active=active,
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
    count = 3 * _COUNT
    gram = patches.new_zeros((len(patches), count, count))
    against = patches.new_zeros((len(patches), count, task.data.shape[1]))
    for segment in SEGMENTS:
        rows = segment_rows(patches, segment)
        weighted = rows * task.weight[:, None, segment.pixels]
        own = segment.of(3)
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
    explained = (right_flux * flux).sum(1) + task.flux_root.square().sum(1)
    return State(
        kinematics=kinematics,
        objective=task.square - explained + (offset * pull).sum(1),
        flux=flux,
        curvature=curvature - mixed.mT @ solved(factor, mixed) + precision,
        gradient=slope - pull,
        normal=normal,
        mixed=mixed,
        coupling=coupling.view(batch, _COUNT, 3, coupling.shape[-1])[:, :, 0],
    )


def flux_covariance(state: State) -> tuple[torch.Tensor, torch.Tensor]:
    """Return covariances of fluxes (batch, amplitude, amplitude) and kinematics (batch, 4, 4) from the joint matrix."""
    identity = torch.eye(4, dtype=state.curvature.dtype, device=state.curvature.device).expand_as(state.curvature)
    kinematic = solved(state.curvature, identity)
    factor = factored(state.normal)
    lever = solved(factor, state.mixed)
    own = solved(factor, torch.eye(_COUNT, dtype=lever.dtype, device=lever.device).expand_as(state.normal))
    return own + lever @ kinematic @ lever.mT, kinematic

"""The stellar continuum, learned from the survey itself: eigenspectra that carry Balmer absorption.

Weighted expectation-maximisation PCA (Bailey 2012, PASP 124, 1015) on the rest grid. Emission lines are the
difficulty: their cores cover the Balmer absorption cores. Lines are therefore fitted first, with the best continuum
known so far; a galaxy shows its line cores to the PCA only where its H-alpha emission is measured to be next to
nothing, and elsewhere the cores of all its lines are masked as far as that galaxy's own line width asks for. Under the
Balmer cores the eigenspectra are kept smooth (stars rotate and disperse), so that the absorption wings of galaxies
with emission carry on where few galaxies show the core. Fit and PCA are repeated with the new basis.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import BSpline

from mmagn.lines import LINES
from mmagn.records import Spectrum
from mmagn.spectroscopy.basis import ContinuumBasis, local_basis, other_lines, window_polynomials
from mmagn.spectroscopy.batch import (
    LINE_SLOT,
    PIXEL_ANGSTROM,
    REST_ANGSTROM,
    SLOTS,
    SpectrumBatch,
    slots_between,
    spectrum_batch,
)
from mmagn.spectroscopy.config import SpectroscopyConfig
from mmagn.spectroscopy.measures import Measures, coverage, line_model, measures
from mmagn.spectroscopy.profiles import AMPLITUDES, LINE_GROUP, SEGMENT_SLOTS, SEGMENTS, total_sigma
from mmagn.spectroscopy.system import Grids, continuum_system, grids
from mmagn.spectroscopy.varpro import fitted, problem, settled, start_kinematics

__all__ = ["ContinuumBasis", "learned_basis"]

ROUNDS = 2
"""Times that lines are fitted and the basis learned from the rest."""
ITERATIONS = 20
SPECTRA_PER_TERM = 30
"""Fewer spectra than this per eigenspectrum learn fewer eigenspectra."""
MASK_LEVEL = 0.002
"""Emission above this fraction of the level is masked, what is left of the wings is subtracted."""
QUIET_EW_ANGSTROM = 0.6
"""A galaxy with less H-alpha + [N II] emission shows the stars under its lines."""
SHOWN_LINES = ("oiii_4959", "oiii_5007", "sii_6718", "sii_6733")
"""Lines where it does: their pixels hold metal features that cannot be guessed from beside them."""
UNSEEN_SIGMA_KMS = 220.0
"""Width taken for lines too weak to show theirs: galaxies without bright lines are massive."""
MASK_SIGMAS = 2.2
"""Cores of this many line widths are masked in every galaxy, whatever the flux."""
SMOOTH_RADIUS = 22
"""Pixels on either side of a line complex where eigenspectra are kept smooth."""
KNOT_PIXELS = 7.0
"""Knots of the cubic splines there: no stellar feature is narrower (Gaussian sigma of 4 pixels, 280 km/s)."""
KNOT_GAP_PIXELS = 6.5
"""No knots this close to H-beta: under the emission only the wide shapes of absorption are left."""
HALPHA_KNOT_PIXELS = 18.0
"""Knots under H-alpha and [N II], whose masks leave only islands in between."""
BALMER_SIGMAS = (3.5, 4.5, 6.0, 8.0, 11.0)
"""Widths in pixels of the absorption core under H-beta."""
HALPHA_OVER_HBETA = 0.65
"""Stellar absorption of H-alpha over that of H-beta in equivalent width, at the same profile in Angstrom."""
BALMER_RADIUS_ANGSTROM = 24.0
"""Half-width of the H-beta absorption that is carried over to H-alpha."""
WINDOW_SCATTER = 0.03
"""Prior of the low-order corrections in the two line windows, relative to the level."""
LEVEL_ANGSTROM = (4200.0, 6800.0)
HBETA, HALPHA = ([line.name for line in LINES].index(name) for name in ("hbeta", "halpha"))
_CHUNK = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class _Sample:
    """Spectra to learn from: (object, pixel) flux over level, and its inverse variance with emission masked."""

    flux: torch.Tensor
    weight: torch.Tensor


def learned_basis(spectra: Iterable[Spectrum], config: SpectroscopyConfig) -> ContinuumBasis | None:
    """Return the continuum basis learned from the survey's own galaxies.

    Parameters
    ----------
    spectra
        Spectra of the survey; QSOs, stars and broad-line objects are passed over, and no more than
        ``config.basis_maximum`` galaxies are read.
    config
        Settings; the fit runs on ``config.device``.

    Returns
    -------
    ContinuumBasis or None
        Mean, eigenspectra and low-order corrections around the lines with their priors; None where fewer than
        ``config.basis_minimum`` usable galaxies came.
    """
    galaxies = list(islice(_galaxies(spectra), config.basis_maximum))
    if len(galaxies) < config.basis_minimum:
        return None
    batch = spectrum_batch(galaxies)
    terms = max(1, min(config.basis_terms, len(galaxies) // SPECTRA_PER_TERM))
    basis = local_basis()
    columns: torch.Tensor | None = None
    for _ in range(ROUNDS):
        sample = _line_masked(batch, basis)
        if len(sample.flux) < config.basis_minimum:
            return None
        columns, precision = _eigenspectra(sample, terms, columns)
        basis = _basis(columns, precision)
    return basis


def _galaxies(spectra: Iterable[Spectrum]) -> Iterator[Spectrum]:
    for spectrum in spectra:
        broad = "BROADLINE" in spectrum.spectral_subclass
        if spectrum.spectral_class in ("", "GALAXY") and not broad and spectrum.redshift > 0:
            yield spectrum


def _line_masked(batch: SpectrumBatch, basis: ContinuumBasis) -> _Sample:
    """Return the spectra divided by their level, with emission cores masked where there is emission."""
    tables = grids(basis, batch.flux.device)
    parts = [
        _chunk_masked(batch.rows(torch.arange(start, min(start + _CHUNK, len(batch)))), tables)
        for start in range(0, len(batch), _CHUNK)
    ]
    return _Sample(flux=torch.cat([part.flux for part in parts]), weight=torch.cat([part.weight for part in parts]))


def _chunk_masked(batch: SpectrumBatch, tables: Grids) -> _Sample:
    system = continuum_system(batch, tables)
    constrained, _, _ = coverage(batch)
    task = problem(system, batch.phase, batch.lsf_sigma, constrained)
    state = settled(task, fitted(task, start_kinematics(task)))
    result = measures(batch, task, state)
    quiet = _quiet(result)
    emission = line_model(task, state) * system.scale[:, None] / torch.from_numpy(PIXEL_ANGSTROM[SEGMENT_SLOTS])
    flux = batch.flux.double()
    for segment in SEGMENTS:
        if all(LINES[line].name in SHOWN_LINES for line, _, _, _ in segment.parts):
            emission[:, segment.pixels] *= ~quiet[:, None]
    flux[:, SEGMENT_SLOTS] -= emission
    weight = batch.ivar.double() * torch.from_numpy(~other_lines())
    weight[:, SEGMENT_SLOTS] *= emission.abs() <= MASK_LEVEL * result.level.abs()[:, None]
    told = ~result.sigma_kms.isnan()
    log_sigma = torch.where(told, state.kinematics[:, :, 1], math.log(UNSEEN_SIGMA_KMS))
    sigma = total_sigma(log_sigma, batch.lsf_sigma)
    centre = torch.from_numpy(LINE_SLOT) - batch.phase[:, None] + state.kinematics[:, LINE_GROUP, 0]
    slot = torch.arange(SLOTS)
    for line, name in enumerate(line.name for line in LINES):
        core = (slot - centre[:, line, None]).abs() <= MASK_SIGMAS * sigma[:, line, None]
        weight *= ~(core & ~(quiet & (name in SHOWN_LINES))[:, None])
    level_slots = slots_between(*LEVEL_ANGSTROM)
    ivar = weight[:, level_slots]
    level = (ivar * flux[:, level_slots]).sum(1) / ivar.sum(1).clamp_min(1e-30)
    snr = level * ivar.sum(1).sqrt() / (ivar > 0).sum(1).clamp_min(1).sqrt()
    usable = (snr > 2.0) & (result.chi2_dof < 4.0) & ~batch.constant
    return _Sample(flux=(flux / level[:, None])[usable], weight=(weight * level[:, None].square())[usable])


def _quiet(result: Measures) -> torch.Tensor:
    """Return (batch,) True for galaxies whose H-alpha and [N II] emission is measured to be next to nothing."""
    pair = [AMPLITUDES.index("halpha"), AMPLITUDES.index("nii_6584")]
    width, error = result.ew[:, pair].sum(1), result.ew_err[:, pair].square().sum(1).sqrt()
    return (width < QUIET_EW_ANGSTROM) & (error < QUIET_EW_ANGSTROM)


def _eigenspectra(sample: _Sample, terms: int, start: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (1 + terms, pixel) mean and eigenspectra, and the (terms,) precision of their coefficients."""
    flux, weight = sample.flux, sample.weight
    # Galaxies far brighter than their fellows must not own the basis: cap the weight at S/N 50 per pixel.
    weight = weight.clamp_max(2500.0)
    columns = _start_columns(flux, weight, terms) if start is None else start
    for _ in range(ITERATIONS):
        coefficients = _coefficients(flux, weight, columns)
        columns = _updated_columns(flux, weight, coefficients)
        columns = _orthonormal(columns, coefficients)
    coefficients = _coefficients(flux, weight, columns)
    relative = coefficients[:, 1:] / coefficients[:, :1]
    low, high = torch.quantile(relative, torch.tensor([0.01, 0.99], dtype=torch.float64), dim=0)
    spread = relative.clamp(low, high).std(0)
    return columns, (2.0 * spread).clamp_min(1e-4).square().reciprocal()


def _start_columns(flux: torch.Tensor, weight: torch.Tensor, terms: int) -> torch.Tensor:
    total = weight.sum(0)
    mean = torch.where(total > 0, (weight * flux).sum(0) / total.clamp_min(1e-30), 1.0)
    residual = torch.where(weight > 0, flux - mean, 0.0)
    residual *= (weight / (weight + 25.0)).sqrt()
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn(residual.shape[1], terms + 6, generator=generator, dtype=torch.float64)
    for _ in range(4):
        probe = torch.linalg.qr(residual.T @ (residual @ probe)).Q
    _, _, directions = torch.linalg.svd(residual @ probe, full_matrices=False)
    return torch.cat([mean[None], directions[:terms] @ probe.T])


def _coefficients(flux: torch.Tensor, weight: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Return (object, term) weighted least-squares coefficients, with a slight ridge for poorly covered spectra."""
    count = len(columns)
    products = (columns[:, None] * columns[None]).reshape(count * count, -1)
    normal = (weight @ products.T).view(-1, count, count)
    ridge = torch.full((count,), 1e-2, dtype=torch.float64)
    normal = normal + torch.diag(ridge)
    right = (weight * flux) @ columns.T
    solution: torch.Tensor = torch.linalg.solve(normal, right[:, :, None])
    return solution[:, :, 0]


def _updated_columns(flux: torch.Tensor, weight: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """Return the columns that fit best, pixel by pixel, smooth in the Balmer cores."""
    count = coefficients.shape[1]
    products = (coefficients[:, :, None] * coefficients[:, None]).reshape(-1, count * count)
    normal = (weight.T @ products).view(-1, count, count)
    right = (weight * flux).T @ coefficients
    scale = normal.diagonal(dim1=1, dim2=2).mean(0)
    ridge = torch.diag(1e-6 * scale + 1e-12)
    columns: torch.Tensor = torch.linalg.solve(normal + ridge, right[:, :, None])[:, :, 0].T
    for slots, shapes in _smooth_windows():
        known = torch.zeros_like(columns[:, slots])
        if slots.start < LINE_SLOT[HALPHA] < slots.stop:
            known = _halpha_absorption(columns, slots)
            known *= _best_scale(normal[slots], right[slots], shapes, known)
        rest = right[slots] - (normal[slots] @ known.T[:, :, None])[:, :, 0]
        columns[:, slots] = known + _smooth_columns(normal[slots], rest, shapes)
    return columns


def _smooth_columns(normal: torch.Tensor, right: torch.Tensor, shapes: torch.Tensor) -> torch.Tensor:
    """Return (term, pixel) columns of a window, best among sums of smooth ``shapes`` (shape, pixel)."""
    count, terms = right.shape[1], len(shapes)
    full = torch.einsum("sp,tp,pkl->sktl", shapes, shapes, normal).reshape(terms * count, terms * count)
    unit = full.diagonal().clamp_min(1e-30).rsqrt()
    full = full * unit[:, None] * unit + 1e-6 * torch.eye(terms * count, dtype=torch.float64)
    vector = (shapes @ right).reshape(-1) * unit
    solution: torch.Tensor = torch.linalg.solve(full, vector) * unit
    return solution.view(terms, count).T @ shapes


def _best_scale(normal: torch.Tensor, right: torch.Tensor, shapes: torch.Tensor, known: torch.Tensor) -> float:
    """Return the factor on ``known`` columns that fits best together with smooth shapes."""
    pull = (normal @ known.T[:, :, None])[:, :, 0]
    without, taken = _smooth_columns(normal, right, shapes), _smooth_columns(normal, pull, shapes)
    left_over = right - (normal @ without.T[:, :, None])[:, :, 0]
    moved = pull - (normal @ taken.T[:, :, None])[:, :, 0]
    scale = float((known.T * left_over).sum() / (known.T * moved).sum().clamp_min(1e-30))
    return min(max(scale, 0.6), 1.3)


def _halpha_absorption(columns: torch.Tensor, slots: slice) -> torch.Tensor:
    """Return (term, pixel) the H-beta absorption of every column, moved to H-alpha and scaled."""
    offset = REST_ANGSTROM - LINES[HBETA].wavelength_angstrom
    values = columns.numpy()
    ends = [np.abs(offset - side) < 4.0 for side in (-BALMER_RADIUS_ANGSTROM, BALMER_RADIUS_ANGSTROM)]
    low, high = (values[:, end].mean(1, keepdims=True) for end in ends)
    line = low + (high - low) * (offset + BALMER_RADIUS_ANGSTROM) / (2 * BALMER_RADIUS_ANGSTROM)
    inside = np.abs(offset) < BALMER_RADIUS_ANGSTROM
    absorption = np.where(inside, values - line, 0.0)
    ratio = HALPHA_OVER_HBETA * _near(values[0], HALPHA) / _near(values[0], HBETA)
    at = REST_ANGSTROM[slots] - LINES[HALPHA].wavelength_angstrom
    return torch.from_numpy(np.stack([ratio * np.interp(at, offset, row, left=0.0, right=0.0) for row in absorption]))


def _near(mean: NDArray[np.float64], line: int) -> float:
    """Return the median of the mean spectrum around a line."""
    centre = round(float(LINE_SLOT[line]))
    return float(np.median(mean[centre - 60 : centre + 61]))


@cache
def _smooth_windows() -> tuple[tuple[slice, torch.Tensor], ...]:
    """Return slots and (shape, pixel) smooth shapes of every run of pixels that emission covers."""
    windows = []
    for segment in SEGMENTS:
        lines = [line for line, _, _, _ in segment.parts]
        low = round(float(LINE_SLOT[min(lines, key=lambda k: LINE_SLOT[k])])) - SMOOTH_RADIUS
        high = round(float(LINE_SLOT[max(lines, key=lambda k: LINE_SLOT[k])])) + SMOOTH_RADIUS + 1
        pixel = np.arange(low, high)
        spacing = HALPHA_KNOT_PIXELS if HALPHA in lines else KNOT_PIXELS
        inner = np.linspace(low, high - 1, max(2, round((high - 1 - low) / spacing) + 1))
        if HBETA in lines:
            inner = inner[np.abs(inner - LINE_SLOT[HBETA]) > KNOT_GAP_PIXELS]
        knots = np.concatenate([[inner[0]] * 3, inner, [inner[-1]] * 3])
        shapes = BSpline.design_matrix(pixel.astype(np.float64), knots, 3).toarray().T
        widths = BALMER_SIGMAS if HBETA in lines else ()
        wide = [np.exp(-0.5 * ((pixel - LINE_SLOT[HBETA]) / sigma) ** 2) for sigma in widths]
        windows.append((slice(low, high), torch.from_numpy(np.stack([*shapes, *wide]))))
    return tuple(windows)


def _orthonormal(columns: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """Return the columns with the mean at level 1 and the others orthogonal to it and to each other."""
    typical = coefficients.mean(0)
    mean = typical @ columns
    others = columns[1:]
    level = slots_between(*LEVEL_ANGSTROM)
    mean = mean / mean[level].mean()
    direction = mean / mean.norm()
    others = others - (others @ direction)[:, None] * direction
    directions, mixing = torch.linalg.qr(others.T)
    _, _, rotation = torch.linalg.svd(coefficients[:, 1:] @ mixing.T, full_matrices=False)
    return torch.cat([mean[None], rotation @ directions.T])


def _basis(columns: torch.Tensor, precision: torch.Tensor) -> ContinuumBasis:
    """Return the model: eigenspectra and low-order corrections around H-beta and around H-alpha."""
    eigenspectra = columns.numpy()
    mean = eigenspectra[0]
    windows = np.concatenate(
        [window_polynomials(4750.0, 5100.0, 1) * mean, window_polynomials(6220.0, 6850.0, 2) * mean]
    )
    diagonal = np.concatenate([[0.0], precision.numpy(), np.full(len(windows), WINDOW_SCATTER**-2)])
    count = len(diagonal)
    return ContinuumBasis(
        kind="basis",
        columns=np.concatenate([eigenspectra, windows]),
        prior_mean=np.zeros(count),
        prior_precision=np.diag(diagonal),
        references=mean[None],
        reference_of=np.zeros(count, np.int64),
        fitted=~other_lines(),
    )

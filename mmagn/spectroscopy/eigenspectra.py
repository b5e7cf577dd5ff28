"""Eigenspectra of galaxies by factor analysis: noise, missing pixels and masked line cores accounted for.

Expectation-maximisation for a mean and a few columns with coefficients of unit scatter, every pixel with its own
weight (Rubin & Thayer 1982, Psychometrika 47, 69; Bailey 2012, PASP 124, 1015 without the scatter). The uncertainty of
the coefficients enters the columns: without it, pixels that few spectra show are learned too shallow. Under emission
lines the columns are sums of smooth shapes, H-beta a polynomial and absorption of one shape, H-alpha that of H-beta.
"""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import BSpline

from mmagn.lines import LINES
from mmagn.spectroscopy.batch import LINE_SLOT, REST_ANGSTROM, slots_between
from mmagn.spectroscopy.profiles import SEGMENTS

ITERATIONS = 25
UNKNOWN_VARIANCE = 0.3
"""A column is dropped where a typical spectrum leaves more than this of its unit variance undetermined: it is noise."""
WEIGHT_MAX = 2500.0
"""Signal-to-noise per pixel is capped at 50: galaxies far brighter than their fellows must not own the columns."""
SMOOTH_RADIUS = 22
"""Pixels on either side of a line complex where eigenspectra are kept smooth."""
KNOT_PIXELS = 7.0
"""Knots of the cubic splines there: no stellar feature is narrower (Gaussian sigma of 4 pixels, 280 km/s)."""
HBETA_RADIUS = 13.0
HBETA_DEGREE = 2
"""So close to H-beta every eigenspectrum is a polynomial and an absorption of one shape, its strength read from the
wings."""
HALPHA_KNOT_PIXELS = 18.0
"""Knots under H-alpha and [N II], whose masks leave only islands in between."""
BALMER_SIGMAS = (3.5, 4.0, 4.5, 5.0, 5.5, 6.0)
"""Widths in pixels tried for the absorption core under H-beta; one is taken for all eigenspectra."""
WING_SHARES = (0.2, 0.3, 0.4, 0.5, 0.6)
"""Shares of its wings in that absorption that are tried."""
WING_RATIO = 2.4
"""Width of the wings of that absorption over its core."""
HALPHA_OVER_HBETA = 0.65
"""Stellar absorption of H-alpha over that of H-beta in equivalent width, at the same profile in Angstrom."""
BALMER_RADIUS_ANGSTROM = 24.0
"""Half-width of the H-beta absorption that is carried over to H-alpha."""
LEVEL_ANGSTROM = (4200.0, 6800.0)
"""Rest range over which spectra are put to level 1."""
HBETA, HALPHA = ([line.name for line in LINES].index(name) for name in ("hbeta", "halpha"))


def eigenspectra(flux: torch.Tensor, weight: torch.Tensor, terms: int, start: torch.Tensor | None) -> torch.Tensor:
    """Return the mean galaxy and the columns that galaxies scatter along.

    Parameters
    ----------
    flux, weight
        (object, pixel) flux over level, and its inverse variance, 0 where not valid or masked.
    terms
        Number of columns besides the mean.
    start
        (1 + terms, pixel) columns to start from; None starts from a singular value decomposition.

    Returns
    -------
    torch.Tensor
        (1 + terms or fewer, pixel): the mean, of level 1, then columns whose coefficients scatter
        by 1 for a galaxy of level 1.
    """
    weight = weight.clamp_max(WEIGHT_MAX)
    columns = _start_columns(flux, weight, terms) if start is None else start
    for _ in range(ITERATIONS):
        coefficients, covariance = _coefficients(flux, weight, columns)
        moments = coefficients[:, :, None] * coefficients[:, None] + covariance
        columns = _updated_columns(flux, weight, coefficients, moments)
        columns = _standardised(columns, coefficients.mean(0), moments.mean(0))
    _, covariance = _coefficients(flux, weight, columns)
    told = covariance.diagonal(dim1=1, dim2=2).median(0).values < UNKNOWN_VARIANCE
    told[0] = True
    return columns[told]


def _start_columns(flux: torch.Tensor, weight: torch.Tensor, terms: int) -> torch.Tensor:
    total = weight.sum(0)
    mean = torch.where(total > 0, (weight * flux).sum(0) / total.clamp_min(1e-30), 1.0)
    residual = torch.where(weight > 0, flux - mean, 0.0)
    residual *= (weight / (weight + 25.0)).sqrt()
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn(residual.shape[1], terms + 6, generator=generator, dtype=torch.float64)
    for _ in range(4):
        probe = torch.linalg.qr(residual.T @ (residual @ probe)).Q
    _, scatter, directions = torch.linalg.svd(residual @ probe, full_matrices=False)
    scaled = directions[:terms] * scatter[:terms, None] / len(flux) ** 0.5
    return torch.cat([mean[None], scaled @ probe.T])


def _coefficients(flux: torch.Tensor, weight: torch.Tensor, columns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (object, term) coefficients and their (object, term, term) covariance, given unit scatter."""
    count = len(columns)
    products = (columns[:, None] * columns[None]).reshape(count * count, -1)
    prior = torch.ones(count, dtype=torch.float64)
    prior[0] = 1e-4
    covariance = torch.linalg.inv((weight @ products.T).view(-1, count, count) + torch.diag(prior))
    right = (weight * flux) @ columns.T
    return (covariance @ right[:, :, None])[:, :, 0], covariance


def _updated_columns(
    flux: torch.Tensor, weight: torch.Tensor, coefficients: torch.Tensor, moments: torch.Tensor
) -> torch.Tensor:
    """Return the columns that fit best, pixel by pixel, smooth under the lines."""
    count = coefficients.shape[1]
    normal = (weight.T @ moments.flatten(1)).view(-1, count, count)
    right = (weight * flux).T @ coefficients
    ridge = torch.diag(1e-6 * normal.diagonal(dim1=1, dim2=2).mean(0) + 1e-12)
    columns: torch.Tensor = torch.linalg.solve(normal + ridge, right[:, :, None])[:, :, 0].T
    for slots, shapes in _smooth_windows():
        known = torch.zeros_like(columns[:, slots])
        if slots.start < LINE_SLOT[HALPHA] < slots.stop:
            known = _halpha_absorption(columns, slots)
            known *= _best_scale(normal[slots], right[slots], shapes[0], known)
        rest = right[slots] - (normal[slots] @ known.T[:, :, None])[:, :, 0]
        fits = [_smooth_columns(normal[slots], rest, family) for family in shapes]
        columns[:, slots] = known + max(fits, key=lambda fit: _explained(normal[slots], rest, fit))
    return columns


def _standardised(columns: torch.Tensor, typical: torch.Tensor, moments: torch.Tensor) -> torch.Tensor:
    """Return the columns with the mean at level 1, the others orthogonal to it and of unit scatter, largest first."""
    mean = typical @ columns
    mean = mean / mean[slots_between(*LEVEL_ANGSTROM)].mean()
    direction = mean / mean.norm()
    others = columns[1:] - (columns[1:] @ direction)[:, None] * direction
    scatter = moments[1:, 1:] - typical[1:, None] * typical[1:]
    directions, mixing = torch.linalg.qr(others.T)
    strength, rotation = torch.linalg.eigh(mixing @ scatter @ mixing.T)
    order = strength.argsort(descending=True)
    scaled = rotation[:, order] * strength[order].clamp_min(1e-12).sqrt()
    return torch.cat([mean[None], scaled.T @ directions.T])


def _smooth_columns(normal: torch.Tensor, right: torch.Tensor, shapes: torch.Tensor) -> torch.Tensor:
    """Return (term, pixel) columns of a window, best among sums of smooth ``shapes`` (shape, pixel)."""
    count, terms = right.shape[1], len(shapes)
    full = torch.einsum("sp,tp,pkl->sktl", shapes, shapes, normal).reshape(terms * count, terms * count)
    unit = full.diagonal().clamp_min(1e-30).rsqrt()
    full = full * unit[:, None] * unit + 1e-6 * torch.eye(terms * count, dtype=torch.float64)
    vector = (shapes @ right).reshape(-1) * unit
    solution: torch.Tensor = torch.linalg.solve(full, vector) * unit
    return solution.view(terms, count).T @ shapes


def _balmer_shape(offset: NDArray[np.float64], sigma: float, share: float) -> NDArray[np.float64]:
    """Return a core of Gaussian ``sigma`` with wings ``WING_RATIO`` times as wide, of unit area."""
    widths = np.array([sigma, WING_RATIO * sigma])[:, None]
    both = np.exp(-0.5 * (offset / widths) ** 2) / (widths * np.sqrt(2 * np.pi))
    return np.asarray((1 - share) * both[0] + share * both[1])


def _explained(normal: torch.Tensor, right: torch.Tensor, columns: torch.Tensor) -> float:
    """Return by how much chi2 falls with these (term, pixel) columns."""
    return float((columns.T * (2 * right - (normal @ columns.T[:, :, None])[:, :, 0])).sum())


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
def _smooth_windows() -> tuple[tuple[slice, tuple[torch.Tensor, ...]], ...]:
    """Return slots and families of (shape, pixel) smooth shapes of every run of pixels that emission covers."""
    windows = []
    for segment in SEGMENTS:
        lines = [line for line, _, _, _ in segment.parts]
        low = round(float(LINE_SLOT[min(lines, key=lambda k: LINE_SLOT[k])])) - SMOOTH_RADIUS
        high = round(float(LINE_SLOT[max(lines, key=lambda k: LINE_SLOT[k])])) + SMOOTH_RADIUS + 1
        pixel = np.arange(low, high)
        spacing = HALPHA_KNOT_PIXELS if HALPHA in lines else KNOT_PIXELS
        inner = np.linspace(low, high - 1, max(2, round((high - 1 - low) / spacing) + 1))
        knots = np.concatenate([[inner[0]] * 3, inner, [inner[-1]] * 3])
        shapes = BSpline.design_matrix(pixel.astype(np.float64), knots, 3).toarray().T
        families = [shapes]
        if HBETA in lines:
            offset = pixel - LINE_SLOT[HBETA]
            inside = np.abs(offset) <= HBETA_RADIUS
            smooth = np.polynomial.legendre.legvander(offset / HBETA_RADIUS, HBETA_DEGREE).T * inside
            free = np.eye(len(pixel))[~inside]
            families = [
                np.stack([*smooth, *free, _balmer_shape(offset, sigma, share) * inside])
                for sigma in BALMER_SIGMAS
                for share in WING_SHARES
            ]
        windows.append((slice(low, high), tuple(torch.from_numpy(family) for family in families)))
    return tuple(windows)

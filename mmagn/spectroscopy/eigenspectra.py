"""Eigenspectra of galaxies by factor analysis: noise, missing pixels and emission lines accounted for.

Expectation-maximisation for a mean and a few columns with coefficients of unit scatter, every pixel with its own
weight (Rubin & Thayer 1982, Psychometrika 47, 69; Bailey 2012, PASP 124, 1015 without the scatter). The uncertainty of
the coefficients enters the columns: without it, pixels that few spectra show are learned too shallow. Emission is
marginalised (``learning.py``); under it the columns are as smooth as beside it (``smoothness.py``).
"""

import torch

from mmagn.spectroscopy.batch import LINE_SLOT, slots_between
from mmagn.spectroscopy.learning import LEVEL_ANGSTROM, LearningSample
from mmagn.spectroscopy.profiles import SEGMENTS
from mmagn.spectroscopy.smoothness import Shapes, halpha_prior, roughness, segment_shapes

ITERATIONS = 15
UNKNOWN_VARIANCE = 0.3
"""A column is dropped where a typical spectrum leaves more than this of its unit variance undetermined: it is noise."""
MEAN_PRECISION = 1e-4
"""Prior precision of the coefficient of the mean: its size is free."""
SCATTER_ITERATIONS, START_SCATTER = 60, 0.2
START_MASK_PIXELS = 9
_CHUNK = 256


def eigenspectra(sample: LearningSample, terms: int, start: torch.Tensor | None) -> torch.Tensor:
    """Return the mean galaxy and the columns that galaxies scatter along.

    Parameters
    ----------
    sample
        The spectra.
    terms
        Number of columns besides the mean.
    start
        (1 + terms, pixel) columns to start from; None starts from a singular value decomposition.

    Returns
    -------
    torch.Tensor
        (1 + terms, pixel): the mean, of level 1, then columns whose coefficients scatter by 1 for a galaxy of level 1.
    """
    columns = _start_columns(sample, terms) if start is None else start
    for _ in range(ITERATIONS):
        mean, covariance = _coefficients(sample, columns)
        moments = mean[:, :, None] * mean[:, None] + covariance
        columns = _updated_columns(sample, mean, moments, columns)
        columns = _standardised(columns, mean.mean(0), moments.mean(0))
    return columns


def constrained_columns(sample: LearningSample, columns: torch.Tensor) -> torch.Tensor:
    """Return the columns whose coefficients a typical spectrum constrains, the mean first."""
    _, covariance = _coefficients(sample, columns)
    constrained = covariance.diagonal(dim1=1, dim2=2).median(0).values < UNKNOWN_VARIANCE
    constrained[0] = True
    return columns[constrained]


def scatter_along(
    sample: LearningSample,
    columns: torch.Tensor,
    further: torch.Tensor,
    start: torch.Tensor | None = None,
    iterations: int = SCATTER_ITERATIONS,
) -> torch.Tensor:
    """Return (further,) by how much galaxies scatter along further columns that no eigenspectrum accounts for.

    The variance that makes the sample likeliest, by expectation-maximisation with accelerated steps.

    Parameters
    ----------
    sample
        The spectra.
    columns
        (term, pixel) mean and eigenspectra.
    further
        (further, pixel) columns.
    start
        (further,) scatter to start from; None starts from ``START_SCATTER``.
    iterations
        Steps.
    """
    count = len(further)
    scatter = torch.full((count,), START_SCATTER, dtype=torch.float64) if start is None else start
    for _ in range(iterations):
        mean, covariance = _coefficients(sample, torch.cat([columns, further * scatter[:, None]]))
        variance = mean.square() + covariance.diagonal(dim1=1, dim2=2)
        scatter = scatter * variance[:, -count:].mean(0).clamp(0.25, 4.0)
    return scatter


def _start_columns(sample: LearningSample, terms: int) -> torch.Tensor:
    """Return columns from a singular value decomposition, parabolas across the cores of the lines."""
    weight = sample.weight.clone()
    centres = [round(float(slot)) for slot in LINE_SLOT]
    for centre in centres:
        weight[:, centre - START_MASK_PIXELS : centre + START_MASK_PIXELS + 1] = 0.0
    total = weight.sum(0)
    mean = torch.where(total > 0, (weight * sample.flux).sum(0) / total.clamp_min(1e-30), 1.0)
    residual = torch.where(weight > 0, sample.flux - mean, 0.0)
    residual *= (weight / (weight + 25.0)).sqrt()
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn(residual.shape[1], terms + 6, generator=generator, dtype=torch.float64)
    for _ in range(4):
        probe = torch.linalg.qr(residual.T @ (residual @ probe)).Q
    _, scatter, directions = torch.linalg.svd(residual @ probe, full_matrices=False)
    scaled = directions[:terms] * scatter[:terms, None] / len(sample) ** 0.5
    columns = torch.cat([mean[None], scaled @ probe.T])
    for centre in centres:
        near = torch.arange(-START_MASK_PIXELS - 7, START_MASK_PIXELS + 8)
        parabola = torch.stack([near.double() ** power for power in range(3)], 1)
        beside = near.abs() > START_MASK_PIXELS
        fit = torch.linalg.lstsq(parabola[beside], columns[:, centre + near[beside]].T).solution
        columns[:, centre + near[~beside]] = (parabola[~beside] @ fit).T
    return columns


def _coefficients(sample: LearningSample, columns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (object, term) coefficients and their (object, term, term) covariance, given unit scatter."""
    count = len(columns)
    products = (columns[:, None] * columns[None]).reshape(count * count, -1)
    normal = (sample.weight @ products.T).view(-1, count, count)
    right = (sample.weight * sample.flux) @ columns.T
    for segment, rows in zip(SEGMENTS, sample.emission, strict=True):
        projected = rows @ columns[:, segment.slots].T
        normal -= projected.mT @ projected
        right -= (projected.mT @ (rows @ sample.flux[:, segment.slots, None]))[:, :, 0]
    prior = torch.ones(count, dtype=torch.float64)
    prior[0] = MEAN_PRECISION
    covariance = torch.linalg.inv(normal + torch.diag(prior))
    return (covariance @ right[:, :, None])[:, :, 0], covariance


def _updated_columns(
    sample: LearningSample, mean: torch.Tensor, moments: torch.Tensor, before: torch.Tensor
) -> torch.Tensor:
    """Return the columns that fit best: pixel by pixel, and as sums of shapes under the lines."""
    count = mean.shape[1]
    normal = (sample.weight.T @ moments.flatten(1)).view(-1, count, count)
    right = (sample.weight * sample.flux).T @ mean
    ridge = torch.diag(1e-6 * normal.diagonal(dim1=1, dim2=2).mean(0) + 1e-12)
    columns: torch.Tensor = torch.linalg.solve(normal + ridge, right[:, :, None])[:, :, 0].T.contiguous()
    hbeta = columns.new_zeros(2, count)
    for segment, shapes, rows in zip(SEGMENTS, segment_shapes(), sample.emission, strict=True):
        system = _shape_system(shapes, rows, normal[segment.slots], moments)
        smooth = torch.linalg.inv(roughness(before, segment.slots))
        system += torch.einsum("st,kl->sktl", shapes.precision, smooth)
        projected = rows @ shapes.values.T
        data = (rows @ sample.flux[:, segment.slots, None])[:, :, 0]
        vector = shapes.values @ right[segment.slots] - torch.einsum("irs,ir,ik->sk", projected, data, mean)
        if shapes.balmer == "halpha":
            expected, precision = halpha_prior(before[0], hbeta)
            for row in (-2, -1):
                system[row, :, row] += torch.diag(precision[row])
            vector[-2:] += precision * expected
        solution = _solution(system, vector)
        if shapes.balmer == "hbeta":
            hbeta = solution[-2:]
        columns[:, segment.slots] = solution.T @ shapes.values
    return columns


def _shape_system(shapes: Shapes, rows: torch.Tensor, normal: torch.Tensor, moments: torch.Tensor) -> torch.Tensor:
    """Return (shape, term, shape, term) the information in the data about the coefficients of shapes in all columns.

    Parameters
    ----------
    rows
        (object, row, segment pixel) of ``LearningSample.emission``.
    normal
        (segment pixel, term, term) without emission.
    moments
        (object, term, term) second moments of the coefficients.
    """
    size, count = len(shapes.values), moments.shape[1]
    projected = rows @ shapes.values.T
    lost = moments.new_zeros(count * count, size * size)
    for start in range(0, len(rows), _CHUNK):
        part = projected[start : start + _CHUNK]
        lost += moments[start : start + _CHUNK].flatten(1).T @ (part.mT @ part).flatten(1)
    system = torch.einsum("sp,tp,pkl->sktl", shapes.values, shapes.values, normal)
    return system - lost.view(count, count, size, size).permute(2, 0, 3, 1)


def _solution(system: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    """Return (shape, term) the solution of symmetric equations (shape, term, shape, term)."""
    size = vector.numel()
    matrix = system.reshape(size, size)
    unit = matrix.diagonal().clamp_min(1e-30).rsqrt()
    scaled = matrix * unit[:, None] * unit + 1e-9 * torch.eye(size, dtype=torch.float64)
    solution: torch.Tensor = torch.linalg.solve(scaled, vector.reshape(-1) * unit) * unit
    return solution.view_as(vector)


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

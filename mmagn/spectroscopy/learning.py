"""Spectra to learn the stellar continuum from, with their emission lines marginalised instead of masked.

Masking the cores of emission lines would hide the stars under them wherever there is emission. Instead, everything that
the lines of a galaxy could explain is eliminated from its likelihood (flux, velocity, width and departure from a
Gaussian of each line); the rest of its information is kept. Two priors on the fluxes keep faint emission out of the
continuum: H-beta follows H-alpha by the Balmer decrement, which is measured where H-alpha is brightest and an error of
the continuum matters least; and galaxies with little emission have the ratios to [N II] of galaxies with a little more
(Cid Fernandes et al. 2011, MNRAS 413, 1687: both are lit by old stars).
"""

import math
from dataclasses import dataclass

import torch

from mmagn.spectroscopy.basis import OTHER_LINE_RADIUS, ContinuumBasis, other_line_distance
from mmagn.spectroscopy.batch import PIXEL_ANGSTROM, SpectrumBatch, slots_between
from mmagn.spectroscopy.measures import LineFit, line_fit
from mmagn.spectroscopy.profiles import (
    AMPLITUDE_GROUP,
    AMPLITUDES,
    SEGMENT_SLOTS,
    SEGMENTS,
    Segment,
    line_patches,
    segment_rows,
    total_sigma,
)
from mmagn.spectroscopy.rows import joined, rows_of
from mmagn.spectroscopy.system import grids

LEVEL_ANGSTROM = (4200.0, 6800.0)
"""Rest range over which spectra are put to level 1."""
WEIGHT_MAX = 2500.0
"""Signal-to-noise per pixel is capped at 50: few bright galaxies must not dominate the continuum."""
OTHER_MASK_SIGMAS = 3.5
"""Lines that are not fitted are masked as far as this many widths of the galaxy's own lines."""
ASSUMED_SIGMA_KMS = 200.0
"""Width assumed for lines too weak to measure it: galaxies without bright lines are massive."""
MODEL_ERROR = 0.03
"""Error of the emission model as a fraction of it, added to the noise."""
KINEMATIC_SCATTER = 1.5
"""Prior of the errors of velocity (pixels) and of log width that are marginalised: hardly any."""
SHAPE_SCATTER = 0.1
"""Prior of half the squared error of log width: the next order, and what lines have in place of Gaussian wings."""
DECREMENT_EW_ANGSTROM = 50.0
"""The Balmer decrement is measured from galaxies with more H-alpha, where stellar absorption matters least."""
DECREMENT_SCATTER = 0.1
"""Scatter of the decrement over galaxies, natural log."""
TYPICAL_DECREMENT = 3.5
"""H-alpha over H-beta where too few galaxies constrain it (2.86 to 3.1 and a little dust)."""
QUIET_EW_ANGSTROM = 3.0
"""Galaxies with less H-alpha and less [N II] are quiet: retired, after Cid Fernandes et al."""
QUIET_LIKE_EW_ANGSTROM = (1.5, 6.0)
"""H-alpha of the galaxies that the ratios of quiet ones are measured from."""
QUIET_SCATTER = 0.5
"""Scatter of those ratios over galaxies, relative."""
RATIO_GALAXIES = 20
"""Fewest galaxies that a ratio is measured from."""
LEAST_ERROR_ANGSTROM = 0.03
_CHUNK = 256
_HALPHA, _HBETA, _NII = (AMPLITUDES.index(name) for name in ("halpha", "hbeta", "nii_6584"))


@dataclass(frozen=True, kw_only=True, eq=False)
class LearningSample:
    """Spectra to learn from.

    Attributes
    ----------
    flux
        (object, pixel) flux over level, less the emission that is expected beforehand.
    weight
        (object, pixel) its inverse variance, 0 where not valid or in a line that is not fitted.
    emission
        For every segment (object, row, segment pixel): rows R that take emission out of the weights. The information
        of a galaxy on its continuum in the segment is ``diag(weight) - R^T R``.
    """

    flux: torch.Tensor
    weight: torch.Tensor
    emission: tuple[torch.Tensor, ...]

    def __len__(self) -> int:
        """Return the number of spectra."""
        return len(self.flux)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Fit:
    batch: SpectrumBatch
    lines: LineFit


def learning_sample(batch: SpectrumBatch, basis: ContinuumBasis) -> LearningSample:
    """Return the usable spectra of a batch with their emission marginalised.

    Parameters
    ----------
    batch
        Galaxies without broad lines, on the CPU.
    basis
        The best continuum known so far; lines are fitted with it.
    """
    tables = grids(basis, batch.flux.device)
    fits = []
    for start in range(0, len(batch), _CHUNK):
        part = rows_of(batch, torch.arange(start, min(start + _CHUNK, len(batch))))
        fits.append(_Fit(batch=part, lines=line_fit(part, tables)))
    per_halpha, ratios = _emission_ratios(fits)
    parts = [_marginalised(fit, per_halpha, ratios) for fit in fits]
    return LearningSample(
        flux=torch.cat([part.flux for part in parts]),
        weight=torch.cat([part.weight for part in parts]),
        emission=tuple(torch.cat([part.emission[k] for part in parts]) for k in range(len(SEGMENTS))),
    )


def _emission_ratios(fits: list[_Fit]) -> tuple[float, torch.Tensor]:
    """Return H-beta over H-alpha, and (amplitude,) fluxes of quiet galaxies over [N II], NaN for too few galaxies."""
    results = joined([fit.lines.measures for fit in fits])
    flux, error, width = results.flux, results.flux_err, results.ew
    snr, halpha = flux / error, width[:, _HALPHA]
    bright = (halpha > DECREMENT_EW_ANGSTROM) & (snr[:, _HALPHA] > 10) & ~flux[:, _HBETA].isnan()
    hbeta = 1 / TYPICAL_DECREMENT
    if bright.sum() >= RATIO_GALAXIES:  # the mean: what H-beta is expected to be; 1 over the median decrement is less
        hbeta = float((flux[bright, _HBETA] / flux[bright, _HALPHA]).mean())
    low, high = QUIET_LIKE_EW_ANGSTROM
    alike = (halpha > low) & (halpha < high) & (snr[:, _HALPHA] > 4)
    ratios = flux.new_full((len(AMPLITUDES),), torch.nan)
    if alike.sum() >= RATIO_GALAXIES:
        ratios = (flux[alike] / flux[alike, _NII, None]).nanmedian(0).values.clamp_min(0.0)
    return hbeta, ratios


def _expected_emission(
    fit: _Fit, level: torch.Tensor, per_halpha: float, ratios: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (batch, amplitude) expected line fluxes over the level, in Angstrom, and their precision; 0 is unknown."""
    result, stretch = fit.lines.measures, (1 + fit.batch.redshift) * 10.0 ** (1e-4 * fit.batch.phase)
    flux = (fit.lines.state.flux * (fit.lines.task.scale / level)[:, None]).clamp_min(0.0)
    error = result.flux_err / (stretch * level)[:, None]
    ew, ew_err = result.ew, result.ew_err
    quiet = (ew[:, _HALPHA] < QUIET_EW_ANGSTROM) & (ew[:, _NII] < QUIET_EW_ANGSTROM) & (ew_err[:, _HALPHA] < 1.0)
    known = quiet[:, None] & ~ratios.isnan() & ~error[:, _NII, None].isnan()
    known[:, _NII] = False
    ratios = ratios.nan_to_num(0.0)
    mean = ratios * flux[:, _NII, None]
    variance = (QUIET_SCATTER * mean).square() + (ratios * error[:, _NII, None].nan_to_num(1.0)).square()
    follows = (ew_err[:, _HALPHA] < 0.8) & ~error[:, _HALPHA].isnan()
    hbeta = flux[:, _HALPHA] * per_halpha
    own = (DECREMENT_SCATTER * hbeta).square() + (error[:, _HALPHA].nan_to_num(1.0) * per_halpha).square()
    mean[:, _HBETA] = torch.where(follows, hbeta, mean[:, _HBETA])
    variance[:, _HBETA] = torch.where(follows, own, variance[:, _HBETA])
    known[:, _HBETA] |= follows
    precision = torch.where(known, 1 / (variance + LEAST_ERROR_ANGSTROM**2), 0.0)
    return torch.where(known, mean, 0.0), precision


def _marginalised(fit: _Fit, per_halpha: float, ratios: torch.Tensor) -> LearningSample:
    batch, result = fit.batch, fit.lines.measures
    width = torch.from_numpy(PIXEL_ANGSTROM)
    emission = fit.lines.emission * fit.lines.task.scale[:, None] / width[SEGMENT_SLOTS]
    flux, weight = batch.flux.double(), batch.ivar.double()
    unseen = torch.where(result.sigma_kms.isnan(), math.log(ASSUMED_SIGMA_KMS), fit.lines.state.kinematics[:, :, 1])
    # Lines that are not fitted cannot be taken out: they are masked as far as this galaxy's width reaches.
    reach = (OTHER_MASK_SIGMAS * total_sigma(unseen, batch.lsf_sigma).amax(1)).clamp_min(OTHER_LINE_RADIUS)
    weight *= torch.from_numpy(other_line_distance()) > reach[:, None]
    starlight = flux.clone()
    starlight[:, SEGMENT_SLOTS] -= emission
    slots = slots_between(*LEVEL_ANGSTROM)
    ivar = weight[:, slots]
    level = (ivar * starlight[:, slots]).sum(1) / ivar.sum(1).clamp_min(1e-30)
    snr = level * ivar.sum(1).sqrt() / (ivar > 0).sum(1).clamp_min(1).sqrt()
    usable = (snr > 2.0) & (result.chi2_dof < 4.0) & ~batch.constant
    level = torch.where(usable, level, 1.0)
    inside = weight[:, SEGMENT_SLOTS]
    weight[:, SEGMENT_SLOTS] = inside / (1 + inside * (MODEL_ERROR * emission).square())
    flux, weight = flux / level[:, None], (weight * level[:, None].square()).clamp_max(WEIGHT_MAX)
    mean, precision = _expected_emission(fit, level, per_halpha, ratios)
    kinematics = torch.stack([fit.lines.state.kinematics[:, :, 0], unseen], 2)
    present = fit.lines.state.flux * fit.lines.task.active * (fit.lines.task.scale / level)[:, None]
    rows = _emission_rows(kinematics, batch, present)
    removed = []
    for segment, profiles, freedom in rows:
        own = list(segment.amplitudes)
        flux[:, segment.slots] -= (mean[:, own, None] * profiles).sum(1)
        every = torch.cat([profiles, freedom], 1)
        known = torch.cat([precision[:, own], torch.ones_like(freedom[:, :, 0])], 1)
        weighted = every * weight[:, None, segment.slots]
        normal = weighted @ every.mT
        ridge = known + 1e-8 * normal.diagonal(dim1=1, dim2=2) + 1e-6
        factor = torch.linalg.cholesky(normal + torch.diag_embed(ridge))
        removed.append(torch.linalg.solve_triangular(factor, weighted, upper=False)[usable])
    return LearningSample(flux=flux[usable], weight=weight[usable], emission=tuple(removed))


def _emission_rows(
    kinematics: torch.Tensor, batch: SpectrumBatch, present: torch.Tensor
) -> list[tuple[Segment, torch.Tensor, torch.Tensor]]:
    """Return for every segment its unit-flux profiles and how its model may depart from them, in unit scatter.

    Shapes (batch, amplitude, pixel) and (batch, 3 x group, pixel), flux density over level: for each group the first
    derivatives by velocity and log width and the second by log width, at the fluxes ``present`` (batch, amplitude).
    """
    width = torch.from_numpy(PIXEL_ANGSTROM)
    step = 0.15
    patches, wider, narrower = (
        line_patches(torch.stack([kinematics[..., 0], kinematics[..., 1] + change], 2), batch.phase, batch.lsf_sigma)
        for change in (0.0, step, -step)
    )
    second = (wider - 2 * patches + narrower) / step**2
    rows = []
    for segment in SEGMENTS:
        own, pixels = len(segment.amplitudes), segment.slots.stop - segment.slots.start
        three = segment_rows(patches, segment).view(-1, own, 3, pixels) / width[segment.slots]
        fourth = segment_rows(second, segment).view(-1, own, 3, pixels)[:, :, 0] / width[segment.slots]
        flux = present[:, list(segment.amplitudes)]
        freedom = []
        for group in sorted({AMPLITUDE_GROUP[amplitude] for amplitude in segment.amplitudes}):
            member = torch.tensor([AMPLITUDE_GROUP[amplitude] == group for amplitude in segment.amplitudes])
            share = (flux * member)[:, :, None]
            freedom += [(share * three[:, :, kind]).sum(1) * KINEMATIC_SCATTER for kind in (1, 2)]
            freedom.append((share * fourth).sum(1) * SHAPE_SCATTER)
        rows.append((segment, three[:, :, 0], torch.stack(freedom, 1)))
    return rows

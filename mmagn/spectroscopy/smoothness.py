"""The prior of eigenspectra under emission lines: as rough as beside them, with Balmer absorption.

Data alone cannot separate a bump of the starlight from an emission line. Under each complex of lines a column is
therefore a sum of splines with the prior of a Gaussian process, whose strength is the roughness of the same column
outside the complex and whose length is that of stellar features, and of a core and wings of Balmer absorption of any
strength under H-beta; those under H-alpha follow H-beta.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import BSpline

from mmagn.lines import LINE_BY_NAME, LINES
from mmagn.spectroscopy.basis import OTHER_LINE_RADIUS, other_line_distance
from mmagn.spectroscopy.batch import LINE_SLOT, PIXEL_ANGSTROM, SLOTS
from mmagn.spectroscopy.profiles import SEGMENT_SLOTS, SEGMENTS

KNOT_PIXELS = 3.0
"""Knots of the cubic splines: finer than any stellar feature."""
FEATURE_SIGMA_PIXELS = 3.0
"""Width of stellar features (210 km/s: dispersion and instrument)."""
BALMER_SIGMAS_PIXELS = (2.5, 7.0)
"""Core and wings of H-beta absorption in E-MILES populations; the same in Angstrom under H-alpha."""
HALPHA_OVER_HBETA = (0.65, 0.05)
"""Stellar absorption of H-alpha over that of H-beta in equivalent width, and how well that is known."""
NEAR_PIXELS = 260
"""So far on either side of a complex its roughness is measured,"""
WINDOW_PIXELS = 50
"""in windows of this many pixels, about a cubic in each."""
NUGGET = 1e-3
TREND_VARIANCE = 1e4
"""Prior variance of a parabola through a complex over that of the features: free."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Shapes:
    """Shapes that columns are made of in one segment.

    Attributes
    ----------
    values
        (shape, segment pixel): splines, then Balmer core and wings where there is such a line.
    precision
        (shape, shape) of the coefficients for a roughness of 1; 0 for the Balmer shapes.
    balmer
        Name of the Balmer line in the segment, "" where there is none.
    """

    values: torch.Tensor
    precision: torch.Tensor
    balmer: str


def line_slot(name: str) -> int:
    """Return the slot of the rest grid that is nearest to a line."""
    return round(float(LINE_SLOT[[line.name for line in LINES].index(name)]))


def density_near(mean: torch.Tensor, line: str) -> float:
    """Return the median of a spectrum on the rest grid around a line."""
    centre = line_slot(line)
    return float(mean[centre - 60 : centre + 61].median())


def balmer_shapes(line: str, slots: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (2, slot) core and wings of Balmer absorption under a line, each of unit sum over pixels."""
    offset = slots - float(LINE_SLOT[[own.name for own in LINES].index(line)])
    shrink = LINE_BY_NAME["hbeta"].wavelength_angstrom / LINE_BY_NAME[line].wavelength_angstrom
    sigmas = shrink * np.array(BALMER_SIGMAS_PIXELS)[:, None]
    return np.asarray(np.exp(-0.5 * (offset / sigmas) ** 2) / (sigmas * np.sqrt(2 * np.pi)))


@cache
def segment_shapes() -> tuple[Shapes, ...]:
    """Return the shapes of every segment."""
    shapes = []
    for segment in SEGMENTS:
        pixel = np.arange(segment.slots.start, segment.slots.stop)
        inner = np.linspace(pixel[0], pixel[-1], round((pixel[-1] - pixel[0]) / KNOT_PIXELS) + 1)
        knots = np.concatenate([[inner[0]] * 3, inner, [inner[-1]] * 3])
        splines = BSpline.design_matrix(pixel.astype(np.float64), knots, 3).toarray().T
        distance = pixel[:, None] - pixel
        trend = np.polynomial.legendre.legvander(np.linspace(-1, 1, len(pixel)), 2)
        # Features of one width are correlated over a Gaussian of sqrt(2) that width.
        covariance = np.exp(-(distance**2) / (4 * FEATURE_SIGMA_PIXELS**2)) + NUGGET * np.eye(len(pixel))
        covariance = covariance + TREND_VARIANCE * trend @ trend.T
        names = {LINES[line].name for line, _, _, _ in segment.parts}
        balmer = next(iter(names & {"hbeta", "halpha"}), "")
        values = np.concatenate([splines, balmer_shapes(balmer, pixel)]) if balmer else splines
        precision = np.zeros((len(values), len(values)))
        precision[: len(splines), : len(splines)] = splines @ np.linalg.inv(covariance) @ splines.T
        shapes.append(Shapes(values=torch.from_numpy(values), precision=torch.from_numpy(precision), balmer=balmer))
    return tuple(shapes)


def roughness(columns: torch.Tensor, slots: slice) -> torch.Tensor:
    """Return (term, term) covariance over pixels of the features of all columns on either side of ``slots``."""
    inside = np.zeros(SLOTS, np.bool_)
    inside[SEGMENT_SLOTS] = True
    usable = ~inside & (other_line_distance() > 2 * OTHER_LINE_RADIUS)
    features = []
    low, high = max(slots.start - NEAR_PIXELS, 0), min(slots.stop + NEAR_PIXELS, SLOTS)
    for start in range(low, high - WINDOW_PIXELS, WINDOW_PIXELS):
        pixel = start + np.flatnonzero(usable[start : start + WINDOW_PIXELS])
        if len(pixel) < 0.6 * WINDOW_PIXELS:
            continue
        cubic = np.polynomial.legendre.legvander(2 * (pixel - start) / WINDOW_PIXELS - 1, 3)
        values = columns[:, pixel].numpy().T
        features.append(values - cubic @ np.linalg.lstsq(cubic, values, rcond=None)[0])
    joined = torch.from_numpy(np.concatenate(features))
    covariance = joined.T @ joined / len(joined)
    # Columns that are alike must not make the matrix singular.
    floor = 1e-3 * covariance.diagonal() + 1e-10
    return covariance + torch.diag(floor)


def halpha_prior(mean: torch.Tensor, hbeta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and precision, each (2, term), of the Balmer shapes under H-alpha, from those under H-beta.

    Parameters
    ----------
    mean
        (pixel,) the mean spectrum, for the continuum at the two lines.
    hbeta
        (2, term) strengths of core and wings of every column under H-beta.
    """
    ratio, scatter = HALPHA_OVER_HBETA
    pixel_ratio = PIXEL_ANGSTROM[line_slot("hbeta")] / PIXEL_ANGSTROM[line_slot("halpha")]
    per_width = density_near(mean, "halpha") / density_near(mean, "hbeta") * float(pixel_ratio)
    spread = scatter * abs(per_width) * hbeta.norm(dim=0) + 1e-6
    return ratio * per_width * hbeta, spread.square().reciprocal().expand_as(hbeta)

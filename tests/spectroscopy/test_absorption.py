"""The absorption of the local continuum model is that of real stars."""

import numpy as np
import pytest

from mmagn.spectroscopy.absorption import BOTH, NARROW_SIGMA_KMS, OLD, WIDE_SIGMA_KMS, YOUNG, stellar_absorption
from mmagn.spectroscopy.basis import BLUE_WINDOW_ANGSTROM, RED_WINDOW_ANGSTROM
from mmagn.spectroscopy.batch import PIXEL_ANGSTROM, REST_ANGSTROM
from mmagn.spectroscopy.templates import air_angstrom

HBETA = (4847.875, 4876.625), (4827.875, 4847.875), (4876.625, 4891.625)
FE5015 = (4977.750, 5054.000), (4946.500, 4977.750), (5054.000, 5065.250)
"""Band, blue and red continuum of two indices (Trager et al. 1998, ApJS 116, 1), Angstrom in air."""


def index_angstrom(spectrum, index):
    """Return the equivalent width of an index of the Lick system."""
    air = air_angstrom(REST_ANGSTROM)
    band, *sides = ((low < air) & (air < high) for low, high in index)
    middles, levels = zip(*((air[side].mean(), spectrum[side].mean()) for side in sides), strict=True)
    return ((1 - spectrum / np.interp(air, middles, levels)) * PIXEL_ANGSTROM)[band].sum()


@pytest.mark.parametrize(
    ("shares", "hbeta", "fe5015"),
    # Worthey et al. 1994, ApJS 94, 687, for old stars; Worthey & Ottaviani 1997, ApJS 111, 377, for A stars.
    [(YOUNG, (5.0, 7.5), (0.5, 2.0)), (OLD, (1.3, 2.1), (3.0, 6.0))],
)
def test_young_and_old_stars_have_the_published_indices(shares, hbeta, fe5015):
    spectrum = 1 + stellar_absorption("hbeta", BLUE_WINDOW_ANGSTROM, shares)
    assert hbeta[0] < index_angstrom(spectrum, HBETA) < hbeta[1]
    assert fe5015[0] < index_angstrom(spectrum, FE5015) < fe5015[1]


def test_old_stars_absorb_under_oiii_and_hardly_under_nii():
    blue = stellar_absorption("hbeta", BLUE_WINDOW_ANGSTROM, OLD)
    red = stellar_absorption("halpha", RED_WINDOW_ANGSTROM, OLD)
    assert np.interp(5008.24, REST_ANGSTROM, blue) < -0.07
    assert np.interp(6585.27, REST_ANGSTROM, red) > -0.02


@pytest.mark.parametrize(("line", "window"), [("hbeta", BLUE_WINDOW_ANGSTROM), ("halpha", RED_WINDOW_ANGSTROM)])
def test_a_larger_dispersion_makes_features_shallower_and_takes_nothing_from_them(line, window):
    narrow, wide = (stellar_absorption(line, window, BOTH, sigma) for sigma in (NARROW_SIGMA_KMS, WIDE_SIGMA_KMS))
    assert (narrow <= 0).all() and (wide <= 0).all()
    assert narrow.min() < 1.1 * wide.min()
    assert (wide * PIXEL_ANGSTROM).sum() == pytest.approx((narrow * PIXEL_ANGSTROM).sum(), rel=0.02)

"""The absorption of the local continuum model is that of real stars."""

import numpy as np
import pytest

from mmagn.spectroscopy.absorption import METALS, balmer_absorption, metal_absorption
from mmagn.spectroscopy.basis import BLUE_WINDOW_ANGSTROM, RED_WINDOW_ANGSTROM
from mmagn.spectroscopy.batch import PIXEL_ANGSTROM, REST_ANGSTROM


def test_the_metals_of_old_stars_have_the_published_strength_of_the_index_fe5015():
    blend = sum(width for angstrom, width in METALS if 4979.0 < angstrom < 5055.5)
    assert 4.5 < blend < 6.5  # Worthey et al. 1994, ApJS 94, 687: 5 to 6 A at solar metallicity beyond 5 Gyr


def test_metals_absorb_under_oiii_and_hardly_under_halpha():
    blue, red = metal_absorption(*BLUE_WINDOW_ANGSTROM), metal_absorption(*RED_WINDOW_ANGSTROM)
    assert np.interp(5008.24, REST_ANGSTROM, blue) < -0.07
    assert np.interp(6564.6, REST_ANGSTROM, red) > -0.02


@pytest.mark.parametrize("line", ["hbeta", "halpha"])
def test_balmer_absorption_has_an_equivalent_width_of_one_angstrom(line):
    window = BLUE_WINDOW_ANGSTROM if line == "hbeta" else RED_WINDOW_ANGSTROM
    profile = balmer_absorption(line, *window)
    assert (profile <= 0).all()
    assert -(profile * PIXEL_ANGSTROM).sum() == pytest.approx(1.0)

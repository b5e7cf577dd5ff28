"""Outlines of cells close, run on across RA 0, and hold what HEALPix puts into the cell."""

import healpy
import numpy as np
import pytest

from mmagn.matching.outlines import cell_outlines
from mmagn.matching.sky import sky_group


def test_an_outline_surrounds_the_centre_of_its_cell_and_closes() -> None:
    cells = np.array([1104, 1171, 1708])
    for cell, outline in zip(cells, cell_outlines(cells, 16), strict=True):
        ra_deg, dec_deg = healpy.pix2ang(16, int(cell), nest=True, lonlat=True)
        np.testing.assert_allclose(outline[0], outline[-1], atol=1e-9)
        assert outline[:, 0].min() < ra_deg < outline[:, 0].max()
        assert outline[:, 1].min() < dec_deg < outline[:, 1].max()


def test_points_just_inside_an_outline_are_in_the_cell() -> None:
    cell = 1708
    outline = cell_outlines(np.array([cell]), 16)[0]
    centre = np.array(healpy.pix2ang(16, cell, nest=True, lonlat=True))
    inside = centre + 0.98 * (outline - centre)
    assert (sky_group(inside[:, 0], inside[:, 1], 16) == cell).all()


@pytest.mark.parametrize("ra_deg", [0.0, 359.99])
def test_a_cell_across_ra_zero_has_no_jump(ra_deg: float) -> None:
    cell = sky_group(np.array([ra_deg]), np.array([0.5]), 16)
    outline = cell_outlines(cell, 16)[0]
    assert np.abs(np.diff(outline[:, 0])).max() < 5
    assert np.ptp(outline[:, 0]) < 10

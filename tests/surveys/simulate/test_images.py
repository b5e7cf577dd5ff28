"""Claims about simulated cutouts: flux, PSF, nucleus, noise and the polarities of the published files."""

import numpy as np
import pytest

from mmagn.records import SOURCE_PIXEL
from mmagn.surveys.simulate.galaxies import galaxies
from mmagn.surveys.simulate.images import NO_VARIANCE, NOISE_EXCESS, counts, image_pixels, sersic


@pytest.fixture(scope="module")
def faint_galaxy():
    table = galaxies(["star-forming"], np.random.default_rng(1))
    table["magnitude"] += 30
    return table[0]


def isolated(galaxy, seed):
    """Return a cutout and the total counts within 6 arcsec of its middle, i band."""
    pixels = image_pixels(galaxy, None, (0.0, 0.0), np.random.default_rng(seed))
    axis = np.arange(160) - SOURCE_PIXEL
    near = np.hypot(axis, axis[:, None]) < 36
    return pixels, pixels.flux[2][near & pixels.clean[2]].sum()


@pytest.mark.parametrize(("index", "radius"), [(1.0, 8.0), (2.5, 6.0), (4.0, 4.0)])
def test_sersic_profile_holds_all_light_and_half_of_it_within_the_half_light_radius(index, radius):
    image = sersic((96.3, 95.8), radius, index, 1.0, 0.0)
    axis = np.arange(192)
    inside = np.hypot(axis - 96.3, (axis - 95.8)[:, None]) < radius
    assert image.sum() == pytest.approx(1, abs=0.02)
    assert image[inside].sum() == pytest.approx(0.5, abs=0.03)


def test_image_holds_the_catalogued_flux_at_zero_point_27():
    table = galaxies(["passive"] * 6, np.random.default_rng(2))
    for name, value in {"disc_radius_arcsec": 0.8, "bulge_radius_arcsec": 0.3, "bulge_index": 1.5}.items():
        table[name] = value
    table["nucleus_fraction"] = 0.0
    ratios = [isolated(row, seed)[1] / counts(row["magnitude"][2]) for seed, row in enumerate(table)]
    assert np.median(ratios) == pytest.approx(1, abs=0.05)
    assert counts(27.0) == 1


def test_nucleus_adds_a_point_of_the_width_of_the_psf():
    table = galaxies(["seyfert"] * 2, np.random.default_rng(3))
    table["disc_axis_ratio"], table["disc_radius_arcsec"], table["bulge_fraction"] = 1.0, 6.0, 0.0
    table["nucleus_fraction"] = [0.0, 0.9]
    table[1:]["magnitude"] = table["magnitude"][:1]
    bare, bright = (image_pixels(row, None, (0.0, 0.0), np.random.default_rng(4)) for row in table)
    peak = (bright.flux - bare.flux)[2, 60:100, 60:100]
    area = (peak > peak.max() / 2).sum() * 0.168**2
    assert 2 * np.sqrt(area / np.pi) == pytest.approx(bright.psf_fwhm_arcsec[2], rel=0.2)


def test_sources_lie_where_those_of_the_published_cutouts_do():
    table = galaxies(["passive"], np.random.default_rng(5))
    table["magnitude"], table["bulge_radius_arcsec"], table["disc_radius_arcsec"] = 15.0, 0.3, 0.4
    places = []
    for seed in range(16):
        pixels = image_pixels(table[0], None, (0.0, 0.0), np.random.default_rng(seed))
        near = np.where(pixels.clean[2], pixels.flux[2], 0)[70:90, 70:90]
        places += [70 + (near.sum(axis) * np.arange(20)).sum() / near.sum() for axis in (0, 1)]
    assert min(places) > 77.9 and max(places) < 79.1
    assert np.mean(places) == pytest.approx(SOURCE_PIXEL, abs=0.15)


def test_neighbour_appears_where_the_catalogue_puts_it(faint_galaxy):
    table = galaxies(["passive"], np.random.default_rng(5))
    table["magnitude"] = 15.0
    table["disc_radius_arcsec"], table["bulge_radius_arcsec"] = 0.8, 0.5
    pixels = image_pixels(faint_galaxy, table[0], (5.04, -3.36), np.random.default_rng(6))
    y, x = np.unravel_index(np.argmax(np.where(pixels.clean[2], pixels.flux[2], 0)), (160, 160))
    assert abs(x - (SOURCE_PIXEL + 30)) <= 1
    assert abs(y - (SOURCE_PIXEL - 20)) <= 1


def test_background_noise_exceeds_what_ivar_says_by_the_correlation(faint_galaxy):
    pulls = []
    for seed in range(6):
        pixels, _ = isolated(faint_galaxy, seed)
        usable = pixels.clean & (pixels.ivar < 1e30)
        pull = np.where(usable, pixels.flux * np.sqrt(pixels.ivar.astype(float)), 0)[0]
        pulls.append(np.diff(np.percentile(pull[usable[0]], (16, 50)))[0])
    assert np.median(pulls) == pytest.approx(NOISE_EXCESS, abs=0.08)


def test_artefacts_are_flagged_and_missing_variance_is_the_published_number(faint_galaxy):
    cutouts = [isolated(faint_galaxy, seed)[0] for seed in range(60)]
    assert all(np.isfinite(c.flux).all() and (c.ivar > 0).all() for c in cutouts)
    assert all(c.flux.dtype == c.ivar.dtype == np.float32 and c.clean.dtype == np.bool_ for c in cutouts)
    flagged = [not c.clean.all() for c in cutouts]
    assert 2 <= sum(flagged) <= 25
    assert any((c.ivar == NO_VARIANCE).any() for c in cutouts)
    brightest = max(c.flux[~c.clean].max() for c, bad in zip(cutouts, flagged, strict=True) if bad)
    assert brightest > 50


def test_same_seed_same_pixels(faint_galaxy):
    first, second = (isolated(faint_galaxy, 7)[0] for _ in range(2))
    assert np.array_equal(first.flux, second.flux)
    assert np.array_equal(first.clean, second.clean)

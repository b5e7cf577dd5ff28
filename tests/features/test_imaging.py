import numpy as np
import pytest
from astropy.stats import sigma_clipped_stats
from pair_records import cutout_of
from scipy.special import erf

from mmagn.features.imaging import CENTRAL_PIXELS, OUTSKIRTS_PIXELS, clipped_median, imaging_features
from mmagn.records import BANDS, SOURCE_PIXEL

MIDDLE = SOURCE_PIXEL
Y, X = np.mgrid[:160, :160]
RADIUS = np.hypot(Y - MIDDLE, X - MIDDLE)


def cutout(i_band, ivar=1.0):
    """A cutout whose other bands are a gradient that would give another answer."""
    in_i = np.arange(5)[:, None, None] == BANDS.index("i")
    return cutout_of(np.where(in_i, i_band, X), np.where(in_i, ivar, 0.0))


def features_of(i_band, ivar=1.0):
    return tuple(imaging_features([cutout(i_band, ivar)])[0])


def gaussian(sigma_pixels, total=1e5):
    return total * np.exp(-0.5 * (RADIUS / sigma_pixels) ** 2) / (2 * np.pi * sigma_pixels**2)


@pytest.mark.parametrize("sigma_pixels", [3.0, 8.0])
def test_concentration_of_a_gaussian_is_its_closed_form(sigma_pixels):
    inside = erf(CENTRAL_PIXELS / 2 / sigma_pixels / np.sqrt(2)) ** 2
    concentration, _ = features_of(gaussian(sigma_pixels))
    assert concentration == pytest.approx(inside, rel=0.01)


def test_a_point_source_has_contrast_one_and_a_flat_galaxy_none():
    point = np.where(RADIUS < 1, 1000.0, 0.0)
    assert features_of(point) == pytest.approx((1.0, 1.0))
    flat = np.where(RADIUS < 40, 10.0, 0.0)
    concentration, contrast = features_of(flat)
    assert contrast == pytest.approx(0.0)
    assert concentration == pytest.approx(CENTRAL_PIXELS**2 / np.count_nonzero(flat))


def test_contrast_compares_the_mean_of_the_two_squares():
    image = np.where(np.maximum(abs(Y - MIDDLE), abs(X - MIDDLE)) < OUTSKIRTS_PIXELS / 2, 2.0, 0.0)
    image[71:87, 71:87] = 8.0
    assert features_of(image)[1] == pytest.approx((8 - 2) / 8)


def test_scaling_turning_and_a_constant_sky_change_nothing():
    image = gaussian(5.0) + 0.3 * np.roll(gaussian(2.0), 9, axis=1)
    expected = features_of(image)
    for other in (7 * image, np.roll(image[::-1], -2, axis=0), image.T, image + 20.0):
        assert features_of(other) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("count", [500, 501])
def test_the_clipped_median_is_that_of_astropy(count):
    rng = np.random.default_rng(count)
    values = np.concatenate([rng.normal(3, 1, count), rng.exponential(40, 60), [-1e4]])
    assert clipped_median(np.sort(values)) == pytest.approx(sigma_clipped_stats(values, sigma=3.0)[1], rel=1e-12)
    assert clipped_median(np.full(7, 2.0)) == 2.0


def test_stars_in_the_border_do_not_move_the_background():
    image = gaussian(5.0)
    sky = np.random.default_rng(0).normal(0, 1, image.shape)
    with_stars = image + sky
    with_stars[3:8, 20:30] += 5000.0
    ivar = np.ones(image.shape)
    ivar[3:8, 20:30] = 0  # the light of the stars is masked, their neighbours in the border are not
    assert features_of(with_stars, ivar) == pytest.approx(features_of(image + sky), rel=0.01)


def test_invalid_pixels_are_in_no_sum_whatever_they_hold():
    image = gaussian(5.0)
    ivar = np.ones(image.shape)
    ivar[100:110, 40:50] = 0
    ivar[72, 71:79] = 0
    expected = features_of(image, ivar)
    for value in (0.0, 1e6, -1e6):
        spoiled = np.where(ivar > 0, image, value)
        assert features_of(spoiled, ivar) == expected
    valid = ivar > 0
    central = np.zeros(image.shape, dtype=bool)
    central[71:87, 71:87] = True
    assert expected[0] == pytest.approx(image[central & valid].sum() / image[valid].sum(), rel=1e-5)


def test_a_masked_centre_has_no_features():
    ivar = np.ones((160, 160))
    ivar[76:82, 76:82] = 0  # 36 of 256 pixels: the nucleus
    assert np.isnan(features_of(gaussian(5.0), ivar)).all()
    assert np.isnan(features_of(gaussian(5.0), 0.0)).all()


def test_a_masked_border_leaves_the_background_unknown():
    ivar = np.zeros((160, 160))
    ivar[20:140, 20:140] = 1
    assert np.isnan(features_of(gaussian(5.0), ivar)).all()


def test_without_light_there_is_no_fraction_of_it():
    assert np.isnan(features_of(np.zeros((160, 160)))).all()
    assert np.isnan(features_of(-gaussian(5.0))).all()
    dark_outside = gaussian(3.0) - np.where((RADIUS > 40) & (RADIUS < 60), 100.0, 0.0)
    concentration, contrast = features_of(dark_outside)
    assert np.isnan(concentration)
    assert 0 < contrast <= 1


def test_many_cutouts_at_once_are_each_as_alone():
    holes = np.ones((160, 160))
    holes[:12, 30:90] = 0
    cutouts = [cutout(gaussian(4.0)), cutout(gaussian(6.0) + 3.0, holes), cutout(gaussian(5.0), 0.0)]
    alone = np.concatenate([imaging_features([cutout]) for cutout in cutouts])
    np.testing.assert_array_equal(imaging_features(cutouts), alone)
    assert np.isfinite(alone).all(axis=1).tolist() == [True, True, False]
    assert imaging_features([]).shape == (0, 2)

"""Resampling to pixels of 1e-4 dex: what it keeps, what it makes invalid, and what its errors mean."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf

from mmagn.records import LOG10_STEP
from mmagn.surveys.grid import check_log_grid, is_log_grid, log_grid

DESI = 3600 + 0.8 * np.arange(7781)
GRIDS = {
    "linear": DESI,
    "2e-4 dex": 10 ** (3.56 + 2e-4 * np.arange(2100)),
    "the grid of the result": 10 ** (3.56 + 1e-4 * np.arange(4200)),
    "irregular": np.cumsum(np.random.default_rng(1).uniform(0.6, 1.1, 6000)) + 3700,
    "coarse": 4000 + 5.0 * np.arange(900),
}


@pytest.mark.parametrize("name", GRIDS)
def test_the_integral_over_the_whole_range_is_kept(name):
    wavelength = GRIDS[name]
    grid = log_grid(wavelength)
    flux = 5 + 3 * np.exp(-0.5 * ((wavelength - 6000) / 2.5) ** 2)  # constant at both ends, where parts are cut off
    result, _, _ = grid.resampled(flux, np.ones_like(flux), np.ones_like(flux))
    width = np.gradient(wavelength) if name != "irregular" else np.diff(_borders(wavelength))
    assert ((result - 5) * grid.width_angstrom).sum() == pytest.approx(((flux - 5) * width).sum(), rel=2e-4)
    np.testing.assert_allclose(result[[0, -1]], 5, rtol=1e-6)


def _borders(wavelength):
    middle = (wavelength[1:] + wavelength[:-1]) / 2
    return np.concatenate([[2 * wavelength[0] - middle[0]], middle, [2 * wavelength[-1] - middle[-1]]])


def test_pixels_lie_at_multiples_of_the_step_and_inside_the_range():
    grid = log_grid(DESI)
    position = np.log10(grid.wavelength_angstrom.astype(float)) / LOG10_STEP
    np.testing.assert_allclose(position, np.rint(position), atol=1e-3)
    np.testing.assert_allclose(np.diff(np.rint(position)), 1)
    ends = 10 ** ((np.rint(position[[0, -1]]) + np.array([-0.5, 0.5])) * LOG10_STEP)
    assert 3599.6 <= ends[0] < 3600.5 and 9822 < ends[1] <= 9824.4
    assert grid.covered.all()


def test_a_spectrum_on_the_grid_of_the_result_stays_as_it_is():
    wavelength = GRIDS["the grid of the result"]
    rng = np.random.default_rng(2)
    flux, ivar = rng.normal(3, 1, len(wavelength)), rng.uniform(0.5, 2, len(wavelength))
    sigma = wavelength * np.log(10) * LOG10_STEP * 1.1
    result, result_ivar, lsf_sigma = log_grid(wavelength).resampled(flux, ivar, sigma)
    inner = slice(2, -2)
    assert len(result) == len(flux)
    np.testing.assert_allclose(result[inner], flux[inner], rtol=2e-3, atol=2e-3)  # borders are not quite in the middle
    np.testing.assert_allclose(result_ivar[inner], ivar[inner], rtol=1e-3)
    np.testing.assert_allclose(lsf_sigma[inner], 1.1, rtol=1e-3)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(bad=st.lists(st.integers(0, 7780), min_size=1, max_size=6), kind=st.sampled_from(["ivar", "infinite", "nan"]))
def test_a_pixel_is_valid_where_all_pixels_with_a_weight_are_and_bad_fluxes_reach_no_other(bad, kind):
    grid = log_grid(DESI)
    flux, ivar = np.full(len(DESI), 2.0), np.full(len(DESI), 4.0)
    if kind == "ivar":
        flux[bad], ivar[bad] = 1e9, 0
    else:
        flux[bad] = np.inf if kind == "infinite" else np.nan
    result, result_ivar, _ = grid.resampled(flux, ivar, np.full(len(DESI), 0.7))
    weight = abs(grid.mean)[:, sorted(set(bad))].sum(axis=1)
    np.testing.assert_array_equal(result_ivar > 0, weight == 0)
    np.testing.assert_allclose(result[result_ivar > 0], 2.0, rtol=1e-6)
    assert (result[result_ivar == 0] == 0).all()
    assert (result_ivar == 0).sum() < 12 * len(set(bad))


def test_a_gap_between_two_arms_is_not_valid_and_nothing_is_put_there():
    wavelength = np.concatenate([4000 + 0.8 * np.arange(1000), 4900 + 0.8 * np.arange(1000)])
    grid = log_grid(wavelength)
    result, ivar, _ = grid.resampled(np.full(2000, 3.0), np.ones(2000), np.ones(2000))
    inside = (grid.wavelength_angstrom > 4802) & (grid.wavelength_angstrom < 4897)
    assert inside.sum() > 80
    assert (ivar[inside] == 0).all() and (result[inside] == 0).all()
    beside = (grid.wavelength_angstrom < 4790) | (grid.wavelength_angstrom > 4906)
    assert (ivar[beside] > 0).all()


def test_the_inverse_variance_is_that_of_the_row_sums_of_the_covariance():
    grid = log_grid(DESI)
    variance = 1 + 0.3 * np.sin(DESI / 40)
    _, ivar, _ = grid.resampled(np.ones_like(DESI), 1 / variance, np.ones_like(DESI))
    weights = grid.mean.toarray()[500:700]
    flux_weights = weights * grid.width_angstrom[500:700, None]
    covariance = (flux_weights * variance) @ flux_weights.T
    row_sum = covariance.sum(1)[20:-20]
    np.testing.assert_allclose(1 / ivar[520:680], row_sum / grid.width_angstrom[520:680] ** 2, rtol=0.03)


@pytest.mark.parametrize(("angstrom", "sigma_pixels"), [(3800, 0.85), (4900, 0.9), (6600, 1.2), (9600, 0.45)])
def test_the_scatter_of_a_fitted_line_is_what_its_error_says(angstrom, sigma_pixels):
    source = DESI[np.abs(DESI - angstrom) < 60]
    grid = log_grid(source)
    near = np.abs(grid.wavelength_angstrom - angstrom) < 40
    low = 10 ** (np.log10(grid.wavelength_angstrom[near].astype(float)) - LOG10_STEP / 2)
    scale = sigma_pixels * grid.width_angstrom[near].mean() * np.sqrt(2)
    part = 0.5 * (erf((low + grid.width_angstrom[near] - angstrom) / scale) - erf((low - angstrom) / scale))
    profile = part / grid.width_angstrom[near]
    rng = np.random.default_rng(5)
    source_ivar = (0.7 + 0.2 * np.sin(source / 30)) ** -2
    noise = rng.standard_normal((1500, len(source))) / np.sqrt(source_ivar)
    flux, ivar, _ = grid.resampled(noise, np.broadcast_to(source_ivar, noise.shape), np.full(len(source), 0.7))
    design = np.stack([profile, np.ones_like(profile)])
    normal = (design * ivar[0, near]) @ design.T
    amounts = np.linalg.solve(normal, (design * ivar[0, near]) @ flux[:, near].T)[0]
    assert 0.95 < (amounts / np.sqrt(np.linalg.inv(normal)[0, 0])).std() < 1.05


@pytest.mark.parametrize(
    "wavelength",
    [np.ones(3), np.arange(10, 0, -1.0), np.array([1, 2, np.nan] * 3), 5000 + 1e-3 * np.arange(9)],
)
def test_a_grid_that_does_not_rise_or_covers_nothing_is_refused(wavelength):
    with pytest.raises(ValueError, match="wavelength"):
        log_grid(wavelength)


@pytest.mark.parametrize("step", [70 / 69.03e4, 0.99e-4, 1.0001e-4])
def test_small_errors_of_every_step_add_up_to_another_grid(step):
    wavelength = 10 ** (3.58 + step * np.arange(3800))
    assert not is_log_grid(wavelength)
    with pytest.raises(ValueError, match=r"own\.fits has steps of .* dex from 3801\.89 A; expected steps of"):
        check_log_grid("own.fits", wavelength)
    assert is_log_grid(GRIDS["the grid of the result"].astype(np.float32))

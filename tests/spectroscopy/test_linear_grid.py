"""Lines of a spectrum observed on the linear grid of DESI and on the native grid of 1e-4 dex."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import erf

from mmagn.lines import LINES, REPORTED_LINES
from mmagn.records import LIGHT_SPEED_KMS, LOG10_STEP
from mmagn.spectroscopy.config import SpectroscopyConfig
from mmagn.spectroscopy.emission import line_table
from mmagn.surveys.grid import log_grid

CONFIG = SpectroscopyConfig(device="cpu", continuum="local")
DESI = 3600 + 0.8 * np.arange(7781)
SAMPLED_SIGMA = 0.87 * 0.8
SIGMA = np.sqrt(SAMPLED_SIGMA**2 - 0.8**2 / 12)
"""Angstrom: of an unresolved line as DESI samples it, and without its pixels."""


def mean_flux(low, high, redshift, sigma_kms, fluxes, continuum=10.0):
    """Mean flux density of a galaxy between wavelengths."""
    rest = (low + high) / 2 / (1 + redshift)
    flux = continuum * (1 - 0.1 * (rest - 5500) / 1500)
    for centre, share in ((4862.683, 1.0), (6564.614, 0.65)):
        flux *= 1 - share * 3.5 / (7 * np.sqrt(2 * np.pi)) * np.exp(-0.5 * ((rest - centre) / 7) ** 2)
    for line in LINES:
        centre = line.wavelength_angstrom * (1 + redshift)
        amount = fluxes[line.tied_to or line.name] * (line.tied_ratio or 1)
        scale = np.hypot(centre * sigma_kms / LIGHT_SPEED_KMS, SIGMA) * np.sqrt(2)
        flux += amount * 0.5 * (erf((high - centre) / scale) - erf((low - centre) / scale)) / (high - low)
    return flux


@pytest.fixture(scope="module")
def both_grids(spectrum, line_fluxes):
    """Builder of one galaxy as seen on the two grids, with the noise of the same photons."""
    grid = log_grid(DESI)
    position = np.rint(np.log10(grid.wavelength_angstrom.astype(float)) / LOG10_STEP)
    borders = 10 ** ((np.append(position, position[-1] + 1) - 0.5) * LOG10_STEP)

    def built(redshift, sigma_kms, noise, rng=None):
        linear = mean_flux(DESI - 0.4, DESI + 0.4, redshift, sigma_kms, line_fluxes)
        native = mean_flux(borders[:-1], borders[1:], redshift, sigma_kms, line_fluxes)
        if rng is not None:
            fine = 3599 + 0.1 * np.arange(62600)
            cumulated = np.append(0, np.cumsum(rng.standard_normal(len(fine) - 1)) * 0.1 * noise * np.sqrt(8))
            linear += np.diff(np.interp(np.append(DESI - 0.4, DESI[-1] + 0.4), fine, cumulated)) / 0.8
            native += np.diff(np.interp(borders, fine, cumulated)) / grid.width_angstrom
        ivar = np.full(len(DESI), noise**-2)
        flux, resampled_ivar, lsf_sigma = grid.resampled(linear, ivar, np.full(len(DESI), SAMPLED_SIGMA))
        native_lsf = np.sqrt((SIGMA / grid.width_angstrom) ** 2 + 1 / 12)
        record = spectrum(redshift=redshift, wavelength_angstrom=grid.wavelength_angstrom)
        native_ivar = (grid.width_angstrom / 0.8 * noise**-2).astype(np.float32)
        return (
            replace(record, flux=flux, ivar=resampled_ivar, lsf_sigma=lsf_sigma),
            replace(record, flux=native.astype("f4"), ivar=native_ivar, lsf_sigma=native_lsf.astype("f4")),
        )

    return built


@pytest.mark.parametrize(("sigma_kms", "sigmas"), [(40, 0.5), (60, 0.1), (120, 0.1), (250, 0.1)])
def test_every_line_at_every_redshift_has_one_flux_on_either_grid(both_grids, sigma_kms, sigmas):
    pairs = [both_grids(redshift, sigma_kms, noise=0.3) for redshift in np.linspace(0.0003, 0.4997, 24)]
    resampled, native = (line_table(part, CONFIG) for part in zip(*pairs, strict=True))
    for line in REPORTED_LINES:
        flux, other, error = (
            np.asarray(t) for t in (resampled[f"flux_{line}"], native[f"flux_{line}"], native[f"flux_{line}_err"])
        )
        covered = np.isfinite(flux) & np.isfinite(other)
        assert covered.sum() >= 20
        assert np.abs(flux / other - 1)[covered].max() < 0.005
        assert (np.abs(flux - other) / error)[covered].max() < sigmas
        np.testing.assert_allclose(resampled[f"flux_{line}_err"][covered], error[covered], rtol=0.01)
    np.testing.assert_allclose(resampled["sigma_kms_balmer"], native["sigma_kms_balmer"], atol=1.0)


@pytest.mark.parametrize(("redshift", "sigma_kms"), [(0.02, 150), (0.45, 60)])
def test_the_same_photons_scatter_the_fluxes_of_both_grids_alike(both_grids, redshift, sigma_kms):
    rng = np.random.default_rng(3)
    pairs = [both_grids(redshift, sigma_kms, 1.5, rng) for _ in range(150)]
    resampled, native = (line_table(part, CONFIG) for part in zip(*pairs, strict=True))
    for line in REPORTED_LINES:
        flux, error = np.asarray(resampled[f"flux_{line}"]), np.asarray(resampled[f"flux_{line}_err"])
        other, other_error = np.asarray(native[f"flux_{line}"]), np.asarray(native[f"flux_{line}_err"])
        assert 0.95 < (flux / error).std() / (other / other_error).std() < 1.05
        assert ((flux - other) / other_error).std() < 0.25

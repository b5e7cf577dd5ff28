from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pair_records import spectrum_of

from mmagn.records import LOG10_STEP
from mmagn.surveys.config import DataConfig
from mmagn.surveys.reader import iter_spectra
from mmagn.surveys.readers import survey_reader
from mmagn.tensors.config import TensorsConfig
from mmagn.tensors.spectrum import (
    SPECTRUM_HALF_SNR,
    spectrum_grid_angstrom,
    spectrum_pixels,
    spectrum_tensor,
    spectrum_tensors,
)

FIRST = 36000
NATIVE = TensorsConfig(
    spectrum_min_angstrom=10 ** (FIRST * LOG10_STEP),
    spectrum_max_angstrom=10 ** ((FIRST + 400) * LOG10_STEP),
    spectrum_binning=1,
)
BINNED = TensorsConfig(
    spectrum_min_angstrom=NATIVE.spectrum_min_angstrom,
    spectrum_max_angstrom=NATIVE.spectrum_max_angstrom,
    spectrum_binning=4,
)


def rest_flux() -> np.ndarray:
    """A sloping continuum of level 10 with one strong and one weak line, 400 pixels."""
    pixel = np.arange(400)
    lines = 40 * np.exp(-0.5 * ((pixel - 150) / 2) ** 2) + 5 * np.exp(-0.5 * ((pixel - 300) / 2) ** 2)
    return (10 + 0.005 * (pixel - 200) + lines).astype(np.float32)


def linear(tensor: np.ndarray, flux: np.ndarray) -> np.ndarray:
    """Flux read back from channel 0 where level and scale are the median of the flux."""
    level = np.median(flux)
    return level + level * np.sinh(tensor[0].astype(np.float64))


def test_resampling_onto_the_same_grid_changes_nothing() -> None:
    flux = rest_flux()
    tensor = spectrum_tensor(spectrum_of(flux, first_native=FIRST), NATIVE)
    assert tensor.shape == (2, spectrum_pixels(NATIVE)) == (2, 400)
    np.testing.assert_allclose(linear(tensor, flux), flux, rtol=1e-5)


@pytest.mark.parametrize("shift", [1, 137, 1461])
def test_a_redshift_moves_nothing_on_the_grid(shift: int) -> None:
    redshift = 10 ** (shift * LOG10_STEP) - 1
    at_rest = spectrum_tensor(spectrum_of(rest_flux(), first_native=FIRST), NATIVE)
    moved = spectrum_tensor(spectrum_of(rest_flux(), first_native=FIRST + shift, redshift=redshift), NATIVE)
    np.testing.assert_array_equal(moved, at_rest)


@pytest.mark.parametrize("redshift", [0.01, 0.0437, 0.1234, 0.3])
@pytest.mark.parametrize("config", [NATIVE, BINNED], ids=["native", "binned"])
def test_a_line_stays_within_half_a_native_pixel_of_its_place(redshift: float, config: TensorsConfig) -> None:
    rest_angstrom = 4030.0
    first = FIRST + 0.37
    observed = np.log10(rest_angstrom * (1 + redshift)) / LOG10_STEP - first
    flux = 10 + 20 * np.exp(-0.5 * ((np.arange(2000) - observed) / 3) ** 2)
    tensor = spectrum_tensor(spectrum_of(flux, first_native=first, redshift=redshift), config)
    excess = np.sinh(tensor[0].astype(np.float64))
    centre = np.average(
        np.log10(spectrum_grid_angstrom(config)) / LOG10_STEP, weights=np.where(excess > 0.01, excess, 0)
    )
    assert abs(centre - np.log10(rest_angstrom) / LOG10_STEP) < 0.55


def test_a_grid_pixel_is_the_ivar_weighted_mean_of_its_native_pixels() -> None:
    rng = np.random.default_rng(1)
    flux, ivar = 10 + rng.normal(size=400), rng.uniform(0.5, 4, size=400)
    tensor = spectrum_tensor(spectrum_of(flux, ivar, first_native=FIRST), BINNED)
    mean = (flux * ivar).reshape(100, 4).sum(1) / ivar.reshape(100, 4).sum(1)
    np.testing.assert_allclose(linear(tensor, mean), mean, rtol=1e-4)


def test_values_of_invalid_pixels_are_never_used() -> None:
    ivar = np.full(400, 4.0)
    ivar[145:160] = ivar[:30] = ivar[210:212] = 0
    expected = spectrum_tensor(spectrum_of(rest_flux(), ivar, first_native=FIRST), BINNED)
    for poison in (1e30, -1e30, np.nan):
        flux = np.where(ivar > 0, rest_flux(), poison)
        np.testing.assert_array_equal(spectrum_tensor(spectrum_of(flux, ivar, first_native=FIRST), BINNED), expected)


def test_nothing_is_claimed_outside_coverage() -> None:
    tensor = spectrum_tensor(spectrum_of(rest_flux()[:100], first_native=FIRST + 200), NATIVE)
    covered = np.zeros(400, dtype=bool)
    covered[200:300] = True
    assert not tensor[:, ~covered].any()
    assert (tensor[1, covered] > 0).all()


def test_brightness_and_units_do_not_matter() -> None:
    expected = spectrum_tensor(spectrum_of(rest_flux(), first_native=FIRST), NATIVE)
    dimmed = spectrum_tensor(spectrum_of(rest_flux() / 64, 4.0 * 64**2, first_native=FIRST), NATIVE)
    np.testing.assert_allclose(dimmed, expected, atol=1e-5)


def test_the_noise_can_be_read_back_from_the_information_channel() -> None:
    flux, ivar = rest_flux(), np.linspace(0.2, 8.0, 400)
    information = spectrum_tensor(spectrum_of(flux, ivar, first_native=FIRST), NATIVE)[1].astype(np.float64)
    noise = np.sqrt((1 - information) / information) / SPECTRUM_HALF_SNR
    np.testing.assert_allclose(noise, 1 / np.sqrt(ivar) / np.median(flux), rtol=1e-3)


@pytest.mark.parametrize("level", [0.0, -3.0, 1e-4])
def test_a_spectrum_without_continuum_is_in_units_of_its_noise(level: float) -> None:
    noise = np.random.default_rng(2).normal(size=400)
    tensor = spectrum_tensor(spectrum_of(level + noise, 1.0, first_native=FIRST), NATIVE)
    assert np.isfinite(tensor).all()
    assert 0.6 < np.sinh(tensor[0]).std() < 1.5


def test_valid_survives_half_precision_and_information_stays_in_range() -> None:
    ivar = np.geomspace(1e-12, 1e6, 400)
    ivar[::7] = 0
    tensor = spectrum_tensor(spectrum_of(rest_flux(), ivar, first_native=FIRST), NATIVE)
    assert tensor[1].min() >= 0 and tensor[1].max() <= 1
    np.testing.assert_array_equal(tensor[1].astype(np.float16) > 0, ivar > 0)


@pytest.mark.parametrize("ivar", [0.0, np.zeros(400)])
def test_no_valid_pixel_gives_no_information(ivar: object) -> None:
    assert not spectrum_tensor(spectrum_of(np.full(400, np.nan), ivar, first_native=FIRST), NATIVE).any()


def test_a_spectrum_that_misses_the_grid_gives_no_information() -> None:
    for first in (FIRST - 1000, FIRST + 1000):
        assert not spectrum_tensor(spectrum_of(rest_flux(), first_native=first), NATIVE).any()
    assert not spectrum_tensor(spectrum_of([]), NATIVE).any()


def test_the_default_grid_holds_hbeta_to_sii() -> None:
    grid = spectrum_grid_angstrom(TensorsConfig())
    assert len(grid) == spectrum_pixels(TensorsConfig())
    assert grid[0] < 4862 - 100 and grid[-1] > 6733 + 100
    np.testing.assert_allclose(np.diff(np.log10(grid)), 2 * LOG10_STEP, rtol=1e-6)


def test_real_spectra_are_finite_and_show_their_lines(real_tree: Path) -> None:
    config = TensorsConfig()
    spectra = list(iter_spectra(survey_reader(DataConfig(source="hdf5", root=str(real_tree))), Counter()))
    tensors = spectrum_tensors(spectra, config)
    assert np.isfinite(tensors).all()
    assert (tensors[:, 1] > 0).mean() > 0.8
    grid = spectrum_grid_angstrom(config)
    halpha = tensors[:, 0, np.abs(grid - 6564.614) < 8].max(axis=1)
    emission = np.isin([spectrum.spectral_subclass for spectrum in spectra], ["STARFORMING", "STARBURST", "AGN"])
    assert emission.sum() >= 5
    assert (halpha[emission] > 0.8).all()


@pytest.mark.parametrize("config", [BINNED, replace(BINNED, blank_lines=True)])
def test_many_spectra_at_once_are_each_as_alone(config: TensorsConfig) -> None:
    ivar = np.full(len(rest_flux()), 4.0)
    ivar[50:90] = 0
    spectra = [
        spectrum_of(rest_flux(), ivar, first_native=FIRST),
        spectrum_of([]),
        spectrum_of(rest_flux()[:100], first_native=FIRST + 200),
        spectrum_of(np.full(400, np.nan), 0.0, first_native=FIRST),
    ]
    alone = [spectrum_tensor(spectrum, config) for spectrum in spectra]
    np.testing.assert_array_equal(spectrum_tensors(spectra, config), alone)

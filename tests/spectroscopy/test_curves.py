"""The curves that are drawn are the fit: they follow the data where it has no noise, and say nothing out of range."""

import numpy as np
import pytest

from mmagn.spectroscopy.config import SpectroscopyConfig
from mmagn.spectroscopy.curves import fitted_curves
from mmagn.spectroscopy.emission import line_table

CONFIG = SpectroscopyConfig(continuum="local", device="cpu")


def between(one, low_angstrom: float, high_angstrom: float) -> np.ndarray:
    rest = one.wavelength_angstrom / (1 + one.redshift)
    return (rest > low_angstrom) & (rest < high_angstrom)


def test_without_noise_the_model_follows_the_lines(spectrum) -> None:
    one = spectrum()
    curves = fitted_curves(one, CONFIG)
    continuum, model = curves.continuum, curves.model
    lines = between(one, 6500, 6780)
    assert np.max(np.abs(model - one.flux)[lines]) < 0.02 * one.flux[lines].max()
    assert np.all(continuum[lines] < 12)


def test_the_area_between_model_and_continuum_is_the_flux_of_the_table(spectrum) -> None:
    one = spectrum()
    curves = fitted_curves(one, CONFIG)
    continuum, model = curves.continuum, curves.model
    width = np.gradient(one.wavelength_angstrom.astype(float))
    around = between(one, 4985, 5030)
    area = np.sum((model - continuum)[around] * width[around])
    assert area == pytest.approx(float(line_table([one], CONFIG)["flux_oiii_5007"][0]), rel=0.01)


def test_a_broad_component_is_in_the_model_and_not_in_the_continuum(spectrum) -> None:
    one = spectrum(broad_halpha=1500.0, noise=0.3)
    assert bool(line_table([one], CONFIG)["broad_line"][0])
    curves = fitted_curves(one, CONFIG)
    continuum, model = curves.continuum, curves.model
    wing = between(one, 6600, 6620)
    assert np.median(one.flux[wing]) > 13
    assert np.median(model[wing]) == pytest.approx(np.median(one.flux[wing]), rel=0.05)
    assert np.median(continuum[wing]) < 12
    assert np.median(curves.broad[wing]) == pytest.approx(np.median((model - continuum)[wing]), rel=0.05)


def test_curves_are_on_the_spectrums_own_pixels_and_undefined_out_of_range(spectrum) -> None:
    one = spectrum(pixels=3000)
    curves = fitted_curves(one, CONFIG)
    continuum, model = curves.continuum, curves.model
    assert continuum.shape == model.shape == one.flux.shape
    assert np.isnan(model[between(one, 3000, 3500)]).all()
    assert np.isfinite(model[between(one, 4900, 5050)]).all()


def test_an_unusable_spectrum_has_no_curves(spectrum) -> None:
    one = spectrum(ivar=np.zeros(3850, np.float32))
    curves = fitted_curves(one, CONFIG)
    assert all(np.isnan(curve).all() for curve in (curves.continuum, curves.broad, curves.model))


def test_the_continuum_does_not_fall_at_the_ends_of_its_windows(spectrum) -> None:
    continuum = fitted_curves(spectrum(), CONFIG).continuum
    assert np.nanmax(np.abs(np.diff(continuum))) < 0.05 * np.nanmedian(continuum)

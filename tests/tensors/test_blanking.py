from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from pair_records import spectrum_of

from mmagn.features.names import FEATURE_NAMES
from mmagn.lines import LINES
from mmagn.records import LIGHT_SPEED_KMS, LOG10_STEP
from mmagn.tensors.blanking import BLANK_HALF_WIDTH_KMS, blank_windows, blanked
from mmagn.tensors.config import TensorsConfig
from mmagn.tensors.spectrum import spectrum_grid_angstrom, spectrum_pixels, spectrum_tensor

PLAIN = TensorsConfig()
BLANK = TensorsConfig(blank_lines=True)
FIRST = round(np.log10(3700.0) / LOG10_STEP)
COUNT = round(np.log10(7100.0 / 3700.0) / LOG10_STEP)


def rest_angstrom() -> np.ndarray:
    return 10 ** ((FIRST + np.arange(COUNT)) * LOG10_STEP)


def near_a_line(wavelength: np.ndarray, width_kms: float = BLANK_HALF_WIDTH_KMS) -> np.ndarray:
    centres = np.array([line.wavelength_angstrom for line in LINES])
    velocity_kms = (wavelength[:, None] / centres - 1) * LIGHT_SPEED_KMS
    return (np.abs(velocity_kms) <= width_kms).any(axis=1)


def test_whatever_a_line_does_to_flux_noise_and_mask_leaves_the_tensor_as_it_is() -> None:
    rng, inside = np.random.default_rng(0), near_a_line(rest_angstrom())
    noise, ivar = rng.normal(0, 0.3, COUNT), np.full(COUNT, 1 / 0.3**2)
    without = spectrum_tensor(spectrum_of(10 + noise, ivar, first_native=FIRST), BLANK)
    strong = 10 + noise + np.where(inside, 80.0, 0.0)
    noisier = np.where(inside, ivar / 9, ivar)
    cut = np.where(inside & (rng.random(COUNT) < 0.5), 0.0, noisier)
    for flux, seen in ((strong, ivar), (strong, noisier), (strong, cut), (10 + noise, np.where(inside, 0.0, ivar))):
        np.testing.assert_array_equal(spectrum_tensor(spectrum_of(flux, seen, first_native=FIRST), BLANK), without)
    assert not np.array_equal(spectrum_tensor(spectrum_of(strong, ivar, first_native=FIRST), PLAIN), without)


def test_the_rest_of_the_spectrum_stays_what_it_was() -> None:
    flux = 10 + 0.002 * np.arange(COUNT)
    spectrum = spectrum_of(flux, 100.0, first_native=FIRST)
    plain, blank = spectrum_tensor(spectrum, PLAIN), spectrum_tensor(spectrum, BLANK)
    untouched = ~near_a_line(spectrum_grid_angstrom(PLAIN), 1200.0)
    np.testing.assert_allclose(blank[:, untouched], plain[:, untouched], atol=2e-3)


@pytest.mark.parametrize("redshift", [0.0, 0.0437, 0.25])
def test_the_mask_is_the_same_in_the_rest_frame_of_every_object(redshift: float) -> None:
    shift = round(np.log10(1 + redshift) / LOG10_STEP)
    spectrum = spectrum_of(np.full(COUNT, 10.0), 1e4, redshift=redshift, first_native=FIRST + shift)
    touched = np.abs(spectrum_tensor(spectrum, BLANK)[0]) > 0
    at_rest = np.abs(spectrum_tensor(spectrum_of(np.full(COUNT, 10.0), 1e4, first_native=FIRST), BLANK)[0]) > 0
    np.testing.assert_array_equal(touched, at_rest)


def test_every_line_is_covered_by_a_window_and_windows_are_apart() -> None:
    native = spectrum_pixels(PLAIN) * PLAIN.spectrum_binning
    windows = blank_windows(PLAIN.spectrum_min_angstrom, native)
    inside = np.zeros(native, dtype=bool)
    for first, last in windows:
        inside[first:last] = True
    wavelength = PLAIN.spectrum_min_angstrom * 10 ** (np.arange(native) * LOG10_STEP)
    assert inside[near_a_line(wavelength)].all()
    assert not inside[~near_a_line(wavelength, BLANK_HALF_WIDTH_KMS + 100)].any()
    assert all(one[1] < other[0] for one, other in pairwise(windows))


def test_the_filling_is_continuum_with_the_noise_of_its_surroundings() -> None:
    pixel = np.arange(400)
    flux, ivar = 20 + 0.05 * pixel, np.full(400, 4.0)
    pulls = []
    for number in range(200):
        filled, made = blanked(flux, ivar, slice(0, 400), [(150, 200)], str(number))
        np.testing.assert_array_equal(made, 4.0)
        pulls.append((filled - flux)[150:200] * 2)
    assert abs(np.mean(pulls)) < 0.03
    assert np.std(pulls) == pytest.approx(1, abs=0.03)


def test_the_noise_belongs_to_the_object() -> None:
    def made(name: str) -> np.ndarray:
        return blanked(np.ones(100), np.ones(100), slice(0, 100), [(40, 60)], name)[0]

    np.testing.assert_array_equal(made("7"), made("7"))
    assert not np.array_equal(made("7"), made("8"))


def test_what_the_spectrograph_did_not_reach_stays_invalid() -> None:
    blue_only = spectrum_tensor(spectrum_of(np.full(1800, 5.0), first_native=FIRST), BLANK)
    reached = spectrum_grid_angstrom(BLANK) < 10 ** ((FIRST + 1800) * LOG10_STEP)
    np.testing.assert_array_equal(blue_only[1] > 0, reached)
    assert not spectrum_tensor(spectrum_of(np.full(COUNT, 5.0), 0.0, first_native=FIRST), BLANK).any()


def test_only_features_that_exist_can_be_chosen() -> None:
    assert PLAIN.features == FEATURE_NAMES
    with pytest.raises(ValueError, match=r"tensors\.features has brightness; allowed: flux_oiii_5007"):
        replace(PLAIN, features=("brightness",))
    with pytest.raises(ValueError, match="a list of one or more, each once"):
        replace(PLAIN, features=())

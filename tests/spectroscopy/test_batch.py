from dataclasses import replace

import numpy as np
import pytest

from mmagn.records import LOG10_STEP
from mmagn.spectroscopy.batch import FIRST_SLOT, SLOTS, spectrum_batch


@pytest.mark.parametrize("redshift", [0.0, 0.0371, 0.5])
def test_every_pixel_keeps_its_value_and_lands_within_half_a_step_of_its_rest_wavelength(spectrum, redshift):
    one = spectrum(redshift=redshift)
    batch = spectrum_batch([one])
    phase = float(batch.phase[0])
    assert abs(phase) <= 0.5
    slots = np.arange(max(int(batch.first[0]), 0), min(int(batch.last[0]), SLOTS))
    native = slots - int(batch.first[0])
    np.testing.assert_array_equal(batch.flux[0, slots].numpy(), one.flux[native])
    rest = np.log10(one.wavelength_angstrom[native].astype(float) / (1 + redshift)) / LOG10_STEP - FIRST_SLOT
    np.testing.assert_allclose(rest, slots + phase, atol=2e-3)


def test_spectra_of_any_length_share_a_batch_and_padding_is_not_valid(spectrum):
    batch = spectrum_batch([spectrum(pixels=3850), spectrum(pixels=900), spectrum(pixels=0)])
    covered = (batch.ivar > 0).sum(1)
    assert covered[0] > covered[1] > covered[2] == 0
    assert (batch.flux[batch.ivar == 0] == 0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers_are_not_valid(spectrum, bad):
    one = spectrum()
    flux, ivar = one.flux.copy(), one.ivar.copy()
    flux[2000], ivar[2100] = bad, bad
    batch = spectrum_batch([spectrum(flux=flux, ivar=ivar)])
    assert (batch.ivar[0] > 0).sum() == (spectrum_batch([one]).ivar[0] > 0).sum() - 2
    assert batch.flux.isfinite().all()
    assert batch.ivar.isfinite().all()


@pytest.mark.parametrize("redshift", [np.nan, np.inf, -1.0, -3.0])
def test_a_spectrum_without_a_usable_redshift_gets_no_pixels(spectrum, redshift):
    batch = spectrum_batch([spectrum(), replace(spectrum(), redshift=redshift)])
    assert batch.redshift.isnan().tolist() == [False, True]
    assert (batch.ivar[1] == 0).all()


def test_a_spectrum_off_the_native_grid_is_not_placed(spectrum):
    linear = np.linspace(3800, 9200, 3850, dtype=np.float32)
    assert spectrum_batch([spectrum(wavelength_angstrom=linear)]).redshift.isnan().all()

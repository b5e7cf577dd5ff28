from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmagn.lines import REPORTED_LINES, SII_RATIO_RANGE
from mmagn.spectroscopy.config import SpectroscopyConfig
from mmagn.spectroscopy.emission import line_table

CONFIG = SpectroscopyConfig(device="cpu")
FLUX_COLUMNS = [f"flux_{line}" for line in REPORTED_LINES]
SOME = {"max_examples": 25, "deadline": None, "derandomize": True}


def fluxes_of(table):
    return np.stack([np.asarray(table[name]) for name in FLUX_COLUMNS], axis=1)


def errors_of(table):
    return np.stack([np.asarray(table[f"{name}_err"]) for name in FLUX_COLUMNS], axis=1)


@settings(**SOME)
@given(
    redshift=st.floats(0.0, 0.34),
    sigma_kms=st.floats(60.0, 250.0),
    velocity_kms=st.floats(-120.0, 120.0),
    lsf_sigma=st.floats(0.75, 1.4),
    brightness=st.floats(0.3, 30.0),
)
def test_without_noise_every_flux_comes_back(
    spectrum, line_fluxes, redshift, sigma_kms, velocity_kms, lsf_sigma, brightness
):
    true = {name: brightness * flux for name, flux in line_fluxes.items()}
    one = spectrum(
        true, redshift=redshift, sigma_kms=sigma_kms, velocity_kms=velocity_kms, lsf_sigma=lsf_sigma, assumed_noise=0.2
    )
    table = line_table([one], CONFIG)
    np.testing.assert_allclose(fluxes_of(table)[0], list(true.values()), rtol=0.03, atol=4.5)
    assert table["velocity_kms_balmer"][0] == pytest.approx(velocity_kms, abs=6)
    assert table["sigma_kms_balmer"][0] == pytest.approx(sigma_kms, rel=0.05, abs=5)


@settings(**SOME)
@given(ratio=st.floats(*SII_RATIO_RANGE), noise=st.floats(0.1, 5.0), seed=st.integers(0, 10**6))
def test_the_sulphur_ratio_never_leaves_its_physical_range(spectrum, line_fluxes, ratio, noise, seed):
    true = {**line_fluxes, "sii_6718": 60 * ratio, "sii_6733": 60.0}
    measured = line_table([spectrum(true, noise=noise, seed=seed)], CONFIG)["sii_ratio"][0]
    assert SII_RATIO_RANGE[0] - 1e-6 <= measured <= SII_RATIO_RANGE[1] + 1e-6


@pytest.mark.parametrize("ratio", SII_RATIO_RANGE)
def test_fluxes_of_the_sulphur_doublet_are_unbiased_at_the_limits_of_their_ratio(spectrum, line_fluxes, ratio):
    true = {**line_fluxes, "sii_6718": 20 * ratio, "sii_6733": 20.0}
    table = line_table([spectrum(true, noise=1.5, seed=seed) for seed in range(300)], CONFIG)
    pull = ((fluxes_of(table) - np.array(list(true.values()))) / errors_of(table))[:, -2:]
    # An imperfect continuum moves both; a limit on their ratio would move one against the other.
    assert abs((pull[:, 0] - pull[:, 1]).mean()) < 0.2
    assert 0.85 < pull.std(0).min() < pull.std(0).max() < 1.15


@settings(**SOME)
@given(log_oiii_hbeta=st.floats(-1.0, 1.0), log_nii_halpha=st.floats(-1.2, 0.5), width=st.floats(70.0, 220.0))
def test_without_noise_the_ratios_of_both_axes_of_the_diagram_come_back(
    spectrum, line_fluxes, log_oiii_hbeta, log_nii_halpha, width
):
    true = {name: 10 * flux for name, flux in line_fluxes.items()}
    true["oiii_5007"] = true["hbeta"] * 10**log_oiii_hbeta
    true["nii_6584"] = true["halpha"] * 10**log_nii_halpha
    table = line_table([spectrum(true, sigma_kms=width, assumed_noise=0.2)], CONFIG)[0]
    assert np.log10(table["flux_oiii_5007"] / table["flux_hbeta"]) == pytest.approx(log_oiii_hbeta, abs=0.02)
    assert np.log10(table["flux_nii_6584"] / table["flux_halpha"]) == pytest.approx(log_nii_halpha, abs=0.02)


@settings(**SOME)
@given(seed=st.integers(0, 10**6), factor=st.sampled_from([1e-6, 1e-3, 7.3, 1e4]))
def test_scaling_a_spectrum_scales_its_fluxes_and_leaves_ratios_and_widths_alone(spectrum, seed, factor):
    one = spectrum(noise=1.0, seed=seed, absorption_angstrom=2.0)
    scaled = replace(one, flux=(one.flux * factor).astype(np.float32), ivar=(one.ivar / factor**2).astype(np.float32))
    table = line_table([one, scaled], CONFIG)
    first, second = fluxes_of(table)
    np.testing.assert_allclose(second, factor * first, rtol=1e-4, atol=1e-4 * factor * errors_of(table)[0].max())
    assert table["ew_halpha"][1] == pytest.approx(table["ew_halpha"][0], rel=1e-4)
    assert table["sigma_kms_forbidden"][1] == pytest.approx(table["sigma_kms_forbidden"][0], rel=1e-3)


def test_moving_the_redshift_moves_nothing(spectrum, line_fluxes):
    redshifts = np.linspace(0.02, 0.33, 60)
    table = line_table([spectrum(redshift=z, assumed_noise=0.05, absorption_angstrom=2.0) for z in redshifts], CONFIG)
    spread = np.ptp(fluxes_of(table), axis=0) / np.array(list(line_fluxes.values()))
    assert (spread < 0.02).all()


def test_a_repeat_with_other_noise_agrees_within_errors(spectrum, line_fluxes):
    table = line_table([spectrum(noise=1.5, seed=seed) for seed in range(400)], CONFIG)
    pull = (fluxes_of(table) - np.array(list(line_fluxes.values()))) / errors_of(table)
    assert (np.abs(pull.mean(0)) < 0.3).all()
    # The stars are the same 400 times, so the share of the errors that stands for them is not seen.
    assert (pull.std(0) < 1.12).all()
    assert (pull.std(0) > 0.75).all()


def test_errors_know_about_velocity_and_width(spectrum):
    strong = line_table([spectrum(noise=1.0)], CONFIG)
    # Fixing both, the error of one Gaussian of 1.9 + 0.95 pixels in this noise would be 2 sqrt(pi) sigma noise^2.
    sigma = np.hypot(130 / 69.03, 0.95)
    fixed = np.sqrt(2 * np.sqrt(np.pi) * sigma) * 6564.6 * 1.1 * np.log(10) * 1e-4
    assert strong["flux_halpha_err"][0] > 1.1 * fixed


def test_noise_alone_is_rarely_taken_for_a_line(spectrum):
    noise = [spectrum({}, continuum=0.0, noise=1.0, seed=seed, redshift=0.05 + 1e-4 * seed) for seed in range(1000)]
    table = line_table(noise, CONFIG)
    assert ((fluxes_of(table) / errors_of(table) > 3).mean(0) <= 0.01).all()


def test_upper_limits_are_not_biased(spectrum):
    table = line_table([spectrum({}, noise=1.0, seed=seed) for seed in range(400)], CONFIG)
    pull = fluxes_of(table) / errors_of(table)
    assert (np.abs(pull.mean(0)) < 0.3).all()
    assert ((pull < 0).mean(0) > 0.3).all()


def test_the_last_redshifts_with_hbeta_inside_still_have_hbeta(spectrum, line_fluxes):
    last = 10 ** (3.58 + 3849e-4) / 4862.683 - 1
    table = line_table([spectrum(redshift=z, assumed_noise=0.05) for z in (0.5, last - 0.03, last + 0.01)], CONFIG)
    # With the line at the edge nothing but the prior tells emission from absorption; 1.3 A of it is one deviation.
    np.testing.assert_allclose(table["flux_hbeta"][:2], line_fluxes["hbeta"], rtol=0.15)
    assert np.isnan(table["flux_hbeta"][2])
    assert "outside" in table["flags_hbeta"][2]
    assert np.isnan(table["flux_halpha"]).all()
    assert all("outside" in flag for flag in table["flags_halpha"])


def test_a_line_in_a_mask_is_flagged_and_its_neighbours_are_measured(spectrum, line_fluxes):
    one = spectrum(assumed_noise=0.05)
    ivar = one.ivar.copy()
    ivar[np.abs(one.wavelength_angstrom / 1.1 / 5008.24 - 1) < 1e-3] = 0
    table = line_table([replace(one, ivar=ivar)], CONFIG)
    assert np.isnan(table["flux_oiii_5007"][0])
    assert np.isnan(table["flux_oiii_5007_err"][0])
    assert np.isnan(table["ew_oiii_5007"][0])
    assert table["flags_oiii_5007"][0] == "masked"
    assert table["flux_hbeta"][0] == pytest.approx(line_fluxes["hbeta"], rel=0.03)
    assert table["flags_hbeta"][0] == ""


@settings(**SOME)
@given(seed=st.integers(0, 10**6), fraction=st.floats(0.0, 0.3))
def test_scattered_bad_pixels_leave_fluxes_within_their_errors(spectrum, line_fluxes, seed, fraction):
    one = spectrum(noise=0.5, seed=seed)
    bad = np.random.default_rng(seed).random(one.flux.size) < fraction
    flux = np.where(bad, 1e4, one.flux).astype(np.float32)
    table = line_table([replace(one, flux=flux, ivar=np.where(bad, 0, one.ivar).astype(np.float32))], CONFIG)
    pull = (fluxes_of(table) - np.array(list(line_fluxes.values()))) / errors_of(table)
    assert np.nanmax(np.abs(pull)) < 6


def odd_spectra(spectrum):
    one = spectrum()
    return {
        "no_data": replace(one, ivar=np.zeros_like(one.ivar)),
        "constant": replace(one, flux=np.full_like(one.flux, 3.0)),
        "negative": replace(one, flux=-one.flux),
        "infinite": replace(one, ivar=np.full_like(one.ivar, np.inf)),
        "huge": replace(one, ivar=np.full_like(one.ivar, 3.4e38)),
        "not a number": replace(one, flux=np.full_like(one.flux, np.nan)),
        "redshift": replace(one, redshift=float("nan")),
        "empty": spectrum(pixels=0),
        "far": replace(one, redshift=6.0),
    }


def test_unusable_spectra_are_flagged_in_their_own_row(spectrum):
    odd = odd_spectra(spectrum)
    table = line_table(list(odd.values()), CONFIG)
    flags = dict(zip(odd, table["fit_flags"], strict=True))
    assert flags["no_data"] == flags["infinite"] == flags["huge"] == flags["not a number"] == "no_data"
    assert flags["constant"] == "constant"
    assert "negative" in flags["negative"]
    assert flags["redshift"] == flags["empty"] == "redshift"
    assert flags["far"] == "no_data"
    assert np.isnan(fluxes_of(table)[[name != "negative" for name in odd]]).all()
    assert np.isnan(table["ew_halpha"][list(odd).index("negative")])


def test_a_spectrum_does_not_depend_on_the_company_it_keeps(spectrum):
    good = [
        spectrum(
            noise=1.0, seed=seed, redshift=0.01 + 0.01 * seed, pixels=3500 + 10 * seed, broad_halpha=seed % 5 * 900
        )
        for seed in range(30)
    ]
    alone = np.concatenate([fluxes_of(line_table([one], CONFIG)) for one in good])
    mixed = list(odd_spectra(spectrum).values())
    together = line_table([*mixed, *good, *mixed], replace(CONFIG, batch_size=17))[len(mixed) : len(mixed) + len(good)]
    np.testing.assert_allclose(fluxes_of(together), alone, rtol=1e-9, atol=1e-9)


def test_rows_keep_their_order_and_identity_and_none_give_an_empty_table(spectrum):
    table = line_table([spectrum(object_id=str(number)) for number in (3, 1, 2)], CONFIG)
    assert list(table["object_id"]) == ["3", "1", "2"]
    empty = line_table([], CONFIG)
    assert len(empty) == 0
    assert empty.colnames == table.colnames
    assert table["flux_hbeta"].unit == "1e-17 erg / (s cm2)"
    assert table["ew_hbeta"].unit == "Angstrom"


def test_equivalent_width_is_flux_over_continuum_in_the_rest_frame(spectrum):
    table = line_table([spectrum(redshift=0.2, assumed_noise=0.02)], CONFIG)
    continuum = 10 * (1 - 0.1 * (6564.614 - 5500) / 1500)
    assert table["continuum_halpha"][0] == pytest.approx(continuum, rel=0.01)
    assert table["ew_halpha"][0] == pytest.approx(300 / continuum / 1.2, rel=0.02)


def test_the_local_continuum_gives_back_the_emission_under_stellar_absorption(spectrum):
    widths = (1.0, 2.0, 3.0)
    table = line_table([spectrum(absorption_angstrom=width, assumed_noise=0.2) for width in widths], CONFIG)
    missing = (100.0 - np.asarray(table["flux_hbeta"])) / np.asarray(table["continuum_hbeta"]) / 1.1
    assert (np.abs(missing) < 0.5).all()
    assert set(table["continuum_kind"]) == {"local"}


@pytest.mark.parametrize("broad_sigma_kms", [1000.0, 2000.0, 4000.0])
def test_a_broad_component_is_flagged_and_the_narrow_lines_keep_their_flux(spectrum, line_fluxes, broad_sigma_kms):
    one = spectrum(noise=0.5, broad_halpha=2500.0, broad_sigma_kms=broad_sigma_kms)
    table = line_table([one], CONFIG)
    assert table["broad_line"][0]
    assert "broad" in table["flags_halpha"][0]
    assert "broad" not in table["flags_nii_6584"][0]
    pull = (fluxes_of(table)[0] - np.array(list(line_fluxes.values()))) / errors_of(table)[0]
    assert (np.abs(pull) < 5).all()


def test_narrow_lines_alone_are_never_called_broad(spectrum):
    spectra = [
        spectrum(noise=0.5, seed=seed, sigma_kms=80 + 4 * seed, absorption_angstrom=0.1 * seed) for seed in range(40)
    ]
    assert not np.any(line_table(spectra, CONFIG)["broad_line"])
    assert not np.any(line_table([spectrum(broad_halpha=2500.0)], replace(CONFIG, broad_balmer=False))["broad_line"])


def test_an_outflow_under_a_line_is_flagged_as_a_poor_fit_and_plain_lines_are_not(spectrum, line_fluxes):
    plain = spectrum({**line_fluxes, "oiii_5007": 1500.0}, noise=0.5)
    wing = spectrum({"oiii_5007": 1500.0}, velocity_kms=-450.0, sigma_kms=350.0, continuum=0.0)
    table = line_table([plain, replace(plain, flux=plain.flux + wing.flux)], CONFIG)
    assert table["fit_flags"][0] == table["flags_oiii_5007"][0] == ""
    assert "poor_fit" in table["fit_flags"][1] and "poor_fit" in table["flags_oiii_5007"][1]


def test_suspects_without_a_promising_broad_component_are_left_alone(spectrum):
    wide = spectrum(sigma_kms=400.0, noise=1.5)
    table = line_table([wide] * 3, CONFIG)
    assert not table["broad_line"].any()
    assert np.isfinite(fluxes_of(table)).all()

"""Claims about simulated spectra: their truth is in the pixels, and their classes are where the BPT plane says."""

import time

import numpy as np
import pytest

from mmagn.lines import LINE_BY_NAME, REPORTED_LINES, SII_RATIO_RANGE
from mmagn.surveys.simulate.galaxies import CLASSES, bpt_region, drawn_classes, galaxies
from mmagn.surveys.simulate.spectra import (
    emission_flux,
    pipeline_class,
    simulated_spectra,
    spectrum_block,
    stellar_flux,
    weakest_snr,
)
from mmagn.surveys.simulate.spectrograph import SPECTROGRAPHS, fibre_lsf, sky_noise
from mmagn.surveys.simulate.stars import smooth_continuum

NARROW = CLASSES[:5]


def rest_window(survey, redshift, low, high):
    angstrom = 10 ** SPECTROGRAPHS[survey].log10_angstrom
    rest = angstrom / (1 + redshift)
    return angstrom, (rest > low) & (rest < high)


@pytest.mark.parametrize("survey", list(SPECTROGRAPHS))
@pytest.mark.parametrize(("line", "half_width"), [("hbeta", 40), ("oiii_5007", 25), ("oi_6302", 25)])
def test_integrated_line_equals_its_true_flux(survey, line, half_width):
    rng = np.random.default_rng(1)
    table = galaxies(rng.choice(NARROW, 60), rng)
    flux = emission_flux(table, survey, np.repeat(fibre_lsf(survey)[:1], 60, axis=0)).astype(float)
    centre = LINE_BY_NAME[line].wavelength_angstrom
    for row in range(60):
        angstrom, near = rest_window(survey, table["redshift"][row], centre - half_width, centre + half_width)
        total = np.sum(flux[row, near] * angstrom[near]) * np.log(10) * 1e-4
        assert total == pytest.approx(table[f"flux_{line}"][row], rel=5e-3)


def test_redshift_and_velocity_move_the_peak():
    table = galaxies(["seyfert"] * 20, np.random.default_rng(2))
    table["velocity_kms"] = np.linspace(-400, 400, 20)
    flux = emission_flux(table, "sdss", np.repeat(fibre_lsf("sdss")[:1], 20, axis=0)).astype(float)
    for row in range(20):
        angstrom, near = rest_window("sdss", table["redshift"][row], 4985, 5035)
        mean = np.sum(flux[row, near] * angstrom[near] ** 2) / np.sum(flux[row, near] * angstrom[near])
        expected = 5008.240 * (1 + table["redshift"][row]) * (1 + table["velocity_kms"][row] / 299792.458)
        assert mean == pytest.approx(expected, abs=0.15)


def test_line_width_is_gas_and_instrument_in_quadrature():
    table = galaxies(["star-forming"] * 20, np.random.default_rng(3))
    lsf = np.full((20, SPECTROGRAPHS["sdss"].pixels), 1.1, dtype=np.float32)
    flux = emission_flux(table, "sdss", lsf).astype(float)
    for row in range(20):
        _, near = rest_window("sdss", table["redshift"][row], 4820, 4905)
        pixel, weight = np.flatnonzero(near), flux[row, near]
        mean = np.average(pixel, weights=weight)
        sigma = np.sqrt(np.average((pixel - mean) ** 2, weights=weight))
        assert sigma == pytest.approx(np.hypot(table["sigma_kms_balmer"][row] / 69.03, 1.1), rel=5e-3)


@pytest.mark.parametrize(("line", "column"), [("hbeta", "ew_absorption_hbeta"), ("halpha", "ew_absorption_halpha")])
def test_balmer_absorption_has_its_equivalent_width(line, column):
    rng = np.random.default_rng(4)
    table = galaxies(rng.choice(NARROW, 40), rng, redshift_max=0.25)
    table["metals"], table["dust_tau"] = 0.0, 0.0
    flux = stellar_flux(table, "sdss").astype(float)
    centre = LINE_BY_NAME[line].wavelength_angstrom
    for row in range(40):
        angstrom, near = rest_window("sdss", table["redshift"][row], centre - 80, centre + 80)
        rest = angstrom[near] / (1 + table["redshift"][row])
        smooth = table["continuum_scale"][row] * table["light_fractions"][row] @ smooth_continuum(rest)
        width = np.sum((1 - flux[row, near] / smooth) * rest) * np.log(10) * 1e-4
        assert width == pytest.approx(table[column][row], rel=0.03)
        assert 0.6 < table[column][row] < 6.6


def test_old_galaxies_break_at_4000_angstrom_and_young_ones_hardly():
    table = galaxies(["star-forming", "passive"] * 60, np.random.default_rng(5), redshift_max=0.15)
    flux = stellar_flux(table, "sdss")
    strength = []
    for row in range(120):
        _, red = rest_window("sdss", table["redshift"][row], 4000, 4100)
        _, blue = rest_window("sdss", table["redshift"][row], 3850, 3950)
        strength.append(flux[row, red].mean() / flux[row, blue].mean())
    forming, passive = np.median(strength[::2]), np.median(strength[1::2])
    assert 1.0 < forming < 1.45 < passive < 2.1


def test_true_ratios_lie_in_their_class_and_within_atomic_physics():
    rng = np.random.default_rng(6)
    table = galaxies(rng.choice(CLASSES[:4], 2000), rng)
    x = np.log10(table["flux_nii_6584"] / table["flux_halpha"])
    y = np.log10(table["flux_oiii_5007"] / table["flux_hbeta"])
    assert np.array_equal(bpt_region(np.asarray(x), np.asarray(y)), table["bpt_class"])
    decrement = table["flux_halpha"] / table["flux_hbeta"]
    assert decrement.min() > 2.859
    assert 5 < decrement.max() < 6.6
    sulphur = np.asarray(table["flux_sii_6718"] / table["flux_sii_6733"])
    assert sulphur.min() > SII_RATIO_RANGE[0] - 1e-9
    assert sulphur.max() < SII_RATIO_RANGE[1] + 1e-9
    assert np.allclose(table["flux_oiii_5007"] / table["flux_oiii_4959"], 2.98)
    assert np.allclose(table["flux_nii_6584"] / table["flux_nii_6548"], 3.05)


def test_regions_are_safe_at_the_poles_of_the_curves():
    # A very negative ordinate lies below every hyperbola; right of the pole it is still on the AGN side.
    x = np.array([-0.5, -0.5, -0.5, 0.05, 0.06, 0.47, 0.48, 0.6, -0.2])
    y = np.array([0.18, 0.2, 0.57, -9.0, -0.5, -9.0, -9.0, 1.2, -1.2])
    expected = ["star-forming", "composite", "seyfert", "composite", "composite", "liner", "liner", "seyfert"]
    assert bpt_region(x, y).tolist() == [*expected, "star-forming"]


def test_noise_is_what_ivar_says_and_bad_pixels_are_marked():
    table = galaxies(["passive"] * 64, np.random.default_rng(7))
    table["continuum_scale"] = 1e-9
    for name in [column for column in table.colnames if column.startswith("flux_")]:
        table[name] = 0.0
    block = spectrum_block(table, "sdss", np.random.default_rng(8))
    usable = ~block.bad & (block.ivar > 0)
    pull = block.flux[usable] * np.sqrt(block.ivar[usable])
    assert pull.std() == pytest.approx(1, abs=0.01)
    assert pull.mean() == pytest.approx(0, abs=0.01)
    assert 0.004 < block.bad.mean() < 0.03
    assert np.abs(block.flux[block.bad]).max() > 300
    assert (block.ivar[~block.bad] == 0).any()
    assert sky_noise("sdss").max() > 4 * np.median(sky_noise("sdss"))


def test_records_hold_their_invariants_and_the_truth_matches():
    spectra, truth = simulated_spectra(40, np.random.default_rng(9))
    assert len(spectra) == len(truth) == 40
    for name in REPORTED_LINES:
        assert (truth[f"flux_{name}"] > 0).all()
    for spectrum, row in zip(spectra, truth, strict=True):
        assert spectrum.redshift == row["redshift"]
        assert np.isfinite(spectrum.flux).all()
        assert (spectrum.ivar >= 0).all()
        assert spectrum.wavelength_angstrom.dtype == spectrum.flux.dtype == spectrum.ivar.dtype == np.float32
        assert np.allclose(np.diff(np.log10(spectrum.wavelength_angstrom.astype(float))), 1e-4, atol=3e-7)
        assert spectrum.wavelength_angstrom[-1] > 6740 * (1 + spectrum.redshift)
    assert truth["redshift"].min() >= np.float32(0.01)
    assert truth["redshift"].max() <= np.float32(0.3)


def test_same_seed_same_spectra_and_another_seed_others():
    first, second, third = (simulated_spectra(6, np.random.default_rng(seed))[0] for seed in (10, 10, 11))
    assert all(np.array_equal(a.flux, b.flux) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0].flux[:100], third[0].flux[:100])


def test_classes_can_be_chosen_and_unknown_ones_are_named():
    _, truth = simulated_spectra(30, np.random.default_rng(12), classes=("seyfert", "liner"), redshift_max=0.05)
    assert set(truth["bpt_class"].tolist()) == {"seyfert", "liner"}
    assert truth["redshift"].max() <= 0.0501
    with pytest.raises(ValueError, match="quasar"):
        simulated_spectra(3, np.random.default_rng(0), classes=("quasar",))
    with pytest.raises(ValueError, match="redshift_max"):
        simulated_spectra(3, np.random.default_rng(0), redshift_max=0.0)
    with pytest.raises(ValueError, match="classes is empty"):
        simulated_spectra(3, np.random.default_rng(0), classes=())


@pytest.mark.parametrize("fraction", [0.0, 0.13, 0.2, 1.0])
def test_agn_fraction_is_met_to_the_nearest_object(fraction):
    names = drawn_classes(200, fraction, np.random.default_rng(13))
    assert names.size == 200
    assert np.isin(names, ("seyfert", "composite")).sum() == round(200 * fraction)


def test_weakest_line_spans_noise_to_certainty():
    rng = np.random.default_rng(14)
    table = galaxies(drawn_classes(1000, 0.2, rng), rng)
    snr = weakest_snr(table, "sdss")[np.isin(table["bpt_class"], CLASSES[:4])]
    assert 0.1 < (snr < 3).mean() < 0.4
    assert 0.08 < (snr > 30).mean() < 0.4


def test_broad_lines_belong_to_quasars_only():
    table = galaxies(["broad-line", "seyfert"] * 10, np.random.default_rng(15))
    spectral_class, subclass = pipeline_class(table)
    assert set(spectral_class[::2]) == {"QSO"}
    assert set(subclass[::2]) == {"BROADLINE"}
    assert set(spectral_class[1::2]) == {"GALAXY"}
    flux = emission_flux(table, "sdss", np.repeat(fibre_lsf("sdss")[:1], 20, axis=0)).astype(float)
    for row in range(20):
        angstrom, near = rest_window("sdss", table["redshift"][row], 6610, 6650)
        wing = np.sum(flux[row, near] * angstrom[near]) * np.log(10) * 1e-4 / table["flux_halpha"][row]
        assert (wing > 0.01) == (row % 2 == 0)


def test_five_hundred_spectra_a_second():
    simulated_spectra(8, np.random.default_rng(16))
    start = time.process_time()
    simulated_spectra(512, np.random.default_rng(17))
    assert time.process_time() - start < 1.0

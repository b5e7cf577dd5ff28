"""What the quirks of DESI rows and files must turn into."""

from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from mmagn.spectroscopy.config import SpectroscopyConfig
from mmagn.spectroscopy.emission import line_table
from mmagn.surveys.desi import GRID_ANGSTROM, PIXELS, spectrum_from_row, true_means_good, with_warnings
from mmagn.surveys.desi_files import DesiCoadd, kernel_sigma
from mmagn.surveys.files.spectra import read_spectrum
from mmagn.surveys.grid import log_grid

REAL = {"4-80613-thru20210324": 39633345008634465, "special-dark-27247": 39089837499744649}


def desi_row(**overrides: Any) -> dict[str, Any]:
    row = {
        "object_id": np.int64(39633345008634465),
        "ra": np.float64(150.1),
        "dec": np.float64(2.2),
        "Z": np.float64(0.1),
        "ZERR": np.float64(1e-5),
        "ZWARN": np.int64(0),
        "SPECTYPE": np.bytes_(b"GALAXY"),
        "spectrum_flux": np.full(PIXELS, 3.0, "f4"),
        "spectrum_ivar": np.full(PIXELS, 4.0, "f4"),
        "spectrum_lambda": GRID_ANGSTROM.astype("f4"),
        "spectrum_mask": np.zeros(PIXELS, bool),
        "spectrum_lsf_sigma": np.full(PIXELS, 0.87, "f4"),
    }
    return {**row, **overrides}


def test_a_row_becomes_a_spectrum_on_the_grid_of_all_surveys():
    spectrum = spectrum_from_row(desi_row())
    assert (spectrum.object_id, spectrum.survey, spectrum.spectral_class) == ("39633345008634465", "desi", "GALAXY")
    assert (spectrum.redshift, spectrum.redshift_err, spectrum.zwarning) == (0.1, 1e-5, 0)
    assert spectrum.valid.all()
    np.testing.assert_allclose(spectrum.flux, 3.0, rtol=1e-5)
    width = log_grid(GRID_ANGSTROM).width_angstrom
    np.testing.assert_allclose(spectrum.ivar, 4.0 * width / 0.8, rtol=0.02)  # wider pixels have less noise
    squares = ((0.87 * 0.8) ** 2 - 0.8**2 / 12) / width**2 + 1 / 12
    np.testing.assert_allclose(spectrum.lsf_sigma, np.sqrt(squares), rtol=1e-4)


def test_mask_true_means_bad_and_bad_pixels_reach_no_flux():
    mask, flux = np.zeros(PIXELS, bool), np.full(PIXELS, 3.0, "f4")
    mask[4000:4003], flux[4000:4003] = True, 1e6
    spectrum = spectrum_from_row(desi_row(spectrum_mask=mask, spectrum_flux=flux))
    bad = np.abs(spectrum.wavelength_angstrom - GRID_ANGSTROM[4001]) < 1.0
    assert not spectrum.valid[bad].any() and spectrum.valid.mean() > 0.99
    np.testing.assert_allclose(spectrum.flux[spectrum.valid], 3.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("spectrum_lambda", np.log10(GRID_ANGSTROM), "which look like log10 of Angstrom; DESI has 7781 pixels"),
        ("spectrum_lambda", GRID_ANGSTROM / 10, "from 360 to 982.4, which look like nanometres"),
        ("spectrum_lambda", 10 ** (3.56 + 1e-4 * np.arange(PIXELS)), "steps of 0.0001 dex from 3630.78 A"),
        ("spectrum_lambda", GRID_ANGSTROM + 0.4, "steps of 0.8 A from 3600.4 A; DESI has"),
        ("spectrum_lambda", np.full(PIXELS, np.nan), "not all finite"),
        ("spectrum_mask", np.full(PIXELS, 4), "spectrum_mask holds 4"),
        ("spectrum_mask", np.ones(PIXELS, bool), "no valid pixel"),
        ("spectrum_ivar", np.zeros(PIXELS), "no valid pixel"),
        ("spectrum_lsf_sigma", np.full(PIXELS, -1.0), "no valid pixel"),
        ("spectrum_flux", np.zeros(5), "spectrum_flux has 5 pixels"),
    ],
)
def test_a_row_that_is_no_desi_spectrum_is_refused_by_name(name, value, reason):
    with pytest.raises(ValueError, match=reason):
        spectrum_from_row(desi_row(**{name: value}))


def test_a_spectrum_of_another_length_is_refused_with_the_grid_that_it_has():
    pixels = np.arange(4000)
    columns = {name: np.ones(4000) for name in ("spectrum_flux", "spectrum_ivar", "spectrum_lsf_sigma")}
    with pytest.raises(ValueError, match=r"4000 pixels with steps of 0.0001 dex from 3630.78 A"):
        spectrum_from_row(desi_row(**columns, spectrum_mask=pixels < 0, spectrum_lambda=10 ** (3.56 + 1e-4 * pixels)))


def test_a_warning_is_a_bit_mask_with_0_for_good():
    assert spectrum_from_row(desi_row(ZWARN=np.int64(5))).zwarning == 5
    columns = {"ZWARN": np.array([0, 4]), "Z": np.zeros(2)}
    assert with_warnings(columns, "file") is columns
    for good in (True, False):
        warnings = with_warnings({"ZWARN": np.array([good] * 9 + [not good])}, "file")["ZWARN"]
        np.testing.assert_array_equal(warnings, [0] * 9 + [1])
    assert np.isnan(spectrum_from_row(desi_row(ZERR=-1.0)).redshift_err)


@pytest.mark.parametrize("good", [True, False])
def test_the_value_that_most_rows_have_means_good(good):
    warnings = np.full(100, good)
    warnings[:7] = not good
    assert true_means_good(warnings, "file") is good
    assert true_means_good(np.full(2, good), "file") is good


@pytest.mark.parametrize("warnings", [[True], [True, False], [True] * 55 + [False] * 45, []])
def test_warnings_without_a_majority_are_refused(warnings):
    with pytest.raises(ValueError, match="does not tell whether True or False is good"):
        true_means_good(np.array(warnings, bool), "file")


@pytest.mark.parametrize("sigma", [0.7, 0.9, 1.5])
def test_the_width_of_a_gaussian_resolution_comes_back(sigma):
    kernel = np.exp(-0.5 * ((np.arange(11) - 5) / sigma) ** 2)
    np.testing.assert_allclose(kernel_sigma(np.tile(kernel[:, None], 300)), sigma, rtol=1e-6)
    assert np.isnan(kernel_sigma(np.zeros((11, 300)))).all()


@pytest.fixture(scope="module")
def real_spectra(real_tree):
    folder = real_tree / "desi_fits"
    files = [(folder / f"coadd-{name}.fits", folder / f"redrock-{name}.fits") for name in REAL]
    coadds = [DesiCoadd.read(*pair) for pair in files]
    return [coadd.spectrum(target) for coadd in coadds for target in coadd.targets]


def test_the_real_coadds_have_the_lines_of_their_galaxies(real_spectra):
    star_forming, single_line = real_spectra
    assert [int(spectrum.object_id) for spectrum in real_spectra] == list(REAL.values())
    table = line_table(real_spectra, SpectroscopyConfig(device="cpu", continuum="local"))[0]
    assert star_forming.valid.all()
    flux = {line: float(table[f"flux_{line}"]) for line in ("hbeta", "oiii_5007", "halpha", "nii_6584")}
    # Gaussians fitted on the native pixels of 0.8 A, without absorption under the Balmer lines.
    assert flux["oiii_5007"] == pytest.approx(142.6, rel=0.01)
    assert flux["nii_6584"] == pytest.approx(26.1, rel=0.04)
    assert flux["halpha"] == pytest.approx(196.9, rel=0.03)
    assert flux["hbeta"] == pytest.approx(51.2, rel=0.04)
    assert 2.86 < flux["halpha"] / flux["hbeta"] < 4.5  # recombination and some dust
    assert abs(table["velocity_kms_forbidden"]) < 10  # wavelengths are vacuum: air would be 80 km/s off
    assert single_line.redshift == pytest.approx(0.00727, abs=1e-5)


def test_arms_are_combined_where_they_overlap(real_tree, real_spectra):
    with fits.open(real_tree / "desi_fits" / f"coadd-{next(iter(REAL))}.fits") as opened:
        waves, ivars = ([opened[f"{arm}_{kind}"].data for arm in "BR"] for kind in ("WAVELENGTH", "IVAR"))
    spectrum = real_spectra[0]
    width = log_grid(GRID_ANGSTROM).width_angstrom / 0.8
    ivar = (spectrum.ivar / width)[np.abs(spectrum.wavelength_angstrom - 5780) < 15].mean()
    both = sum(ivar[0, np.abs(wave - 5780) < 15].mean() for wave, ivar in zip(waves, ivars, strict=True))
    assert ivar == pytest.approx(both, rel=0.1)


def test_a_file_that_is_no_coadd_and_a_target_without_a_redshift_are_named(real_tree, tmp_path):
    coadd, redrock = (real_tree / "desi_fits" / f"{kind}-{next(iter(REAL))}.fits" for kind in ("coadd", "redrock"))
    with pytest.raises(ValueError, match="no extension B_FLUX, R_FLUX or Z_FLUX"):
        DesiCoadd.read(redrock, redrock)
    with pytest.raises(ValueError, match="has no extension REDSHIFTS; its extensions: FIBERMAP"):
        DesiCoadd.read(coadd, coadd)
    other = redrock.with_name("redrock-special-dark-27247.fits")
    with pytest.raises(ValueError, match=f"{coadd.name}, {other.name} has no redshift of TARGETID 39633345008634465"):
        DesiCoadd.read(coadd, other).spectrum()
    assert np.isnan(DesiCoadd.read(coadd, None).spectrum().redshift)
    with fits.open(coadd) as opened:
        opened["R_WAVELENGTH"].data += 0.3
        opened.writeto(tmp_path / "shifted.fits")
    with pytest.raises(ValueError, match=r"R_WAVELENGTH is not on the grid of 0.8 A"):
        DesiCoadd.read(tmp_path / "shifted.fits", redrock)


@pytest.mark.parametrize("column", ["TARGETID", "TARGET_RA"])
def test_a_coadd_without_a_column_that_identifies_targets_is_refused_by_its_name(real_tree, tmp_path, column):
    path = tmp_path / "coadd-bare.fits"
    with fits.open(real_tree / "desi_fits" / f"coadd-{next(iter(REAL))}.fits") as opened:
        columns = [each for each in opened["FIBERMAP"].columns if each.name != column]
        opened["FIBERMAP"] = fits.BinTableHDU.from_columns(columns, name="FIBERMAP")
        opened.writeto(path)
    for place in (str(path), f"{path}#39633345008634465"):
        with pytest.raises(ValueError, match=rf"coadd-bare\.fits: FIBERMAP has no column {column}$"):
            read_spectrum(place)

"""Whatever specutils reads becomes a spectrum in vacuum and SDSS units, or is refused in one sentence."""

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import InverseVariance, StdDevUncertainty, VarianceUncertainty
from astropy.table import QTable

from mmagn.spectroscopy.config import SpectroscopyConfig
from mmagn.spectroscopy.emission import line_table
from mmagn.surveys.files import other_spectra
from mmagn.surveys.files.spectra import read_spectrum
from mmagn.surveys.files.wavelengths import header_medium, vacuum_angstrom
from mmagn.surveys.reader import warn_once
from mmagn.tensors.config import TensorsConfig
from mmagn.tensors.spectrum import spectrum_tensors

specutils = pytest.importorskip("specutils")

REDSHIFT, LINE_FLUX, CONTINUUM, ERROR = 0.1, 500.0, 20.0, 0.5
OIII, SIGMA_ANGSTROM = 5008.24 * (1 + REDSHIFT), 4.0
UNIT = other_spectra.FLUX_UNIT
HEADER = {"VACUUM": True, "RA": 150.1, "DEC": 2.2, "REDSHIFT": REDSHIFT, "OBJECT": "M 1", "SPEC_RES": 3000.0}


def a_galaxy(step_angstrom: float = 1.3) -> tuple[u.Quantity, u.Quantity]:
    """Wavelengths, on the SDSS grid where the step is 0, and fluxes of a flat continuum with [O III] 5007."""
    wave = np.arange(5000.0, 6000.0, step_angstrom) if step_angstrom else 10 ** (3.7 + 1e-4 * np.arange(750))
    line = np.exp(-0.5 * ((wave - OIII) / SIGMA_ANGSTROM) ** 2) * LINE_FLUX / (SIGMA_ANGSTROM * np.sqrt(2 * np.pi))
    return wave * u.AA, (CONTINUUM + line) * UNIT


def read(monkeypatch, tmp_path, axis, flux, *, header=HEADER, wavelengths="header", uncertainty="std", **parts):
    """The record of a spectrum that a loader of specutils returns."""
    kinds = {
        "std": lambda error: StdDevUncertainty(error),
        "var": lambda error: VarianceUncertainty(error**2),
        "ivar": lambda error: InverseVariance(1 / error**2),
        "": lambda _: None,
    }
    try:
        error = (np.full(len(axis), ERROR) * UNIT).to(flux.unit, u.spectral_density(axis))
    except u.UnitConversionError:
        error = np.full(len(axis), ERROR) * flux.unit
    loaded = specutils.Spectrum(
        spectral_axis=axis, flux=flux, uncertainty=kinds[uncertainty](error), meta={"header": dict(header)}, **parts
    )
    monkeypatch.setattr(specutils.Spectrum, "read", lambda _: loaded)
    path = tmp_path / "own.dat"
    path.touch()
    return read_spectrum(str(path), wavelengths)


def fitted(spectrum):
    return line_table([spectrum], SpectroscopyConfig(device="cpu"))["flux_oiii_5007"][0]


def summed(spectrum):
    """Flux above the continuum."""
    return np.sum((spectrum.flux - CONTINUUM) * np.gradient(spectrum.wavelength_angstrom.astype(float)))


@pytest.mark.parametrize("uncertainty", ["std", "var", "ivar"])
@pytest.mark.parametrize("unit", ["erg s-1 cm-2 AA-1", "W m-2 um-1", "mJy", "erg s-1 cm-2 Hz-1"])
def test_units_of_flux_and_kinds_of_uncertainty_are_honoured(monkeypatch, tmp_path, unit, uncertainty):
    axis, flux = a_galaxy()
    plain = read(monkeypatch, tmp_path, axis, flux)
    flux = flux.to(u.Unit(unit), u.spectral_density(axis))
    spectrum = read(monkeypatch, tmp_path, axis, flux, uncertainty=uncertainty)
    np.testing.assert_allclose(spectrum.flux, plain.flux, rtol=1e-5)
    np.testing.assert_allclose(spectrum.ivar, plain.ivar, rtol=1e-5)
    assert np.median(spectrum.flux) == pytest.approx(CONTINUUM, rel=0.01)
    assert (spectrum.object_id, spectrum.ra_deg, spectrum.redshift) == ("M 1", 150.1, REDSHIFT)


@pytest.mark.parametrize("unit", ["nm", "um", "GHz", "eV"])
def test_wavelengths_in_any_unit_and_frequencies_end_on_the_same_grid(monkeypatch, tmp_path, unit):
    axis, flux = a_galaxy()
    plain = read(monkeypatch, tmp_path, axis, flux)
    spectrum = read(monkeypatch, tmp_path, axis.to(u.Unit(unit), u.spectral()), flux)
    np.testing.assert_allclose(spectrum.wavelength_angstrom, plain.wavelength_angstrom)
    np.testing.assert_allclose(spectrum.flux, plain.flux, rtol=1e-4)


@pytest.mark.parametrize("step_angstrom", [0.4, 1.3, 2.0])
def test_the_flux_of_a_line_does_not_depend_on_the_grid(monkeypatch, tmp_path, step_angstrom):
    spectrum, native = (read(monkeypatch, tmp_path, *a_galaxy(step)) for step in (step_angstrom, 0))
    assert summed(spectrum) == pytest.approx(LINE_FLUX, rel=0.002)
    assert fitted(spectrum) == pytest.approx(fitted(native), rel=0.02)
    np.testing.assert_allclose(np.diff(np.log10(spectrum.wavelength_angstrom.astype(float))), 1e-4, atol=1e-7)


def test_a_spectrum_on_the_sdss_grid_keeps_its_pixels(monkeypatch, tmp_path):
    axis, flux = a_galaxy(0)
    spectrum = read(monkeypatch, tmp_path, axis, flux, mask=np.arange(750) == 7)
    np.testing.assert_allclose(spectrum.wavelength_angstrom, axis.value, rtol=1e-6)
    np.testing.assert_allclose(spectrum.flux[8:], flux.value[8:], rtol=1e-6)
    assert np.flatnonzero(~spectrum.valid).tolist() == [7]
    assert spectrum.lsf_sigma[0] == pytest.approx(1 / (3000 * 2.3548 * 2.302585e-4), rel=0.001)


def test_air_becomes_vacuum_as_specutils_converts_it(monkeypatch, tmp_path):
    from specutils.utils.wcs_utils import air_to_vac

    axis, flux = a_galaxy()
    theirs = air_to_vac(axis, scheme="iteration", method="Ciddor1996").value
    np.testing.assert_allclose(vacuum_angstrom(axis.value), theirs, rtol=2e-8)
    stated = read(monkeypatch, tmp_path, axis, flux, header=HEADER | {"VACUUM": False})
    said = read(monkeypatch, tmp_path, axis, flux, header={}, wavelengths="air")
    np.testing.assert_array_equal(stated.wavelength_angstrom, said.wavelength_angstrom)
    peak = stated.wavelength_angstrom[np.argmax(stated.flux)]
    assert peak == pytest.approx(OIII + 1.53, abs=0.8)


@pytest.mark.parametrize(
    ("header", "medium"),
    [
        ({"VACUUM": True}, "vacuum"),
        ({"VACUUM": 0}, "air"),
        ({"AIRORVAC": "air"}, "air"),
        ({"AIRORVAC": "vac "}, "vacuum"),
        ({"CTYPE1": "AWAV"}, "air"),
        ({"CTYPE1": "WAVE-LOG"}, "vacuum"),
        ({"CTYPE1": "LINEAR"}, None),
        ({}, None),
    ],
)
def test_headers_state_air_or_vacuum_in_several_ways(header, medium):
    assert header_medium(header) == medium


def test_what_specutils_reads_but_cannot_be_measured_is_refused(monkeypatch, tmp_path):
    axis, flux = a_galaxy()
    refused = (
        ({"header": {}}, axis, flux, r"own\.dat does not state whether its wavelengths are those of air or of vacuum"),
        ({"wavelengths": "air"}, axis, flux, r"own\.dat states wavelengths of vacuum, but data\.wavelengths is air"),
        ({"uncertainty": ""}, axis, flux, r"own\.dat has no uncertainties"),
        ({}, axis, flux.value * u.ct, r"own\.dat has fluxes in ct; allowed: flux densities"),
        ({}, axis, flux.value * u.one, r"own\.dat has fluxes in no unit"),
        ({"mask": np.ones(len(axis), bool)}, axis, flux, r"own\.dat has no valid pixel"),
    )
    for parts, wave, values, sentence in refused:
        with pytest.raises(ValueError, match=sentence):
            read(monkeypatch, tmp_path, wave, values, **parts)


@pytest.mark.parametrize("step_angstrom", [0.0, 1.3])
def test_uncertainties_near_zero_are_not_valid_and_never_infinite(monkeypatch, tmp_path, step_angstrom):
    axis, flux = a_galaxy(step_angstrom)
    errors = np.full(len(axis), ERROR)
    errors[100:103] = 1e-25
    loaded = specutils.Spectrum(
        spectral_axis=axis, flux=flux, uncertainty=StdDevUncertainty(errors * UNIT), meta={"header": HEADER}
    )
    monkeypatch.setattr(specutils.Spectrum, "read", lambda _: loaded)
    (tmp_path / "own.dat").touch()
    spectrum = read_spectrum(str(tmp_path / "own.dat"))
    assert 3 <= np.count_nonzero(~spectrum.valid[90:130]) < 20
    assert np.isfinite(spectrum_tensors([spectrum], TensorsConfig())).all()


def test_an_unknown_resolution_is_said_once(monkeypatch, tmp_path, caplog):
    warn_once.cache_clear()
    header = {name: value for name, value in HEADER.items() if name != "SPEC_RES"}
    for _ in range(2):
        spectrum = read(monkeypatch, tmp_path, *a_galaxy(), header=header)
    assert caplog.text.count("without a resolving power") == 1
    assert summed(spectrum) == pytest.approx(LINE_FLUX, rel=0.02)


def test_files_that_specutils_writes_are_read(tmp_path):
    axis, flux = a_galaxy()
    table = QTable({"wavelength": axis.to(u.nm), "flux": flux, "uncertainty": np.full(len(axis), ERROR) * UNIT})
    table.meta |= {"VACUUM": True, "REDSHIFT": REDSHIFT}
    for name in ("own.ecsv", "own.fits"):
        table.write(tmp_path / name, format="ascii.ecsv" if name.endswith("ecsv") else "fits")
        spectrum = read_spectrum(str(tmp_path / name))
        assert spectrum.redshift == REDSHIFT, name
        assert summed(spectrum) == pytest.approx(LINE_FLUX, rel=0.02)


def test_a_file_that_is_no_spectrum_and_a_missing_specutils_are_named(tmp_path, monkeypatch):
    (tmp_path / "notes.txt").write_text("no spectrum\n")
    with pytest.raises(ValueError, match=r"notes\.txt is no spectrum that SDSS, DESI or specutils knows: "):
        read_spectrum(str(tmp_path / "notes.txt"))
    fits.HDUList([fits.PrimaryHDU()]).writeto(tmp_path / "empty.fits")
    with pytest.raises(ValueError, match=r"empty\.fits is no spectrum"):
        read_spectrum(str(tmp_path / "empty.fits"))
    monkeypatch.setitem(__import__("sys").modules, "specutils", None)
    with pytest.raises(ImportError, match=r"pip install 'mmagn\[specutils\]'"):
        read_spectrum(str(tmp_path / "notes.txt"))


def test_pixels_a_little_wider_than_1e_4_dex_are_resampled_and_the_line_is_fitted_in_its_place(monkeypatch, tmp_path):
    native = read(monkeypatch, tmp_path, *a_galaxy(0))
    axis = 10 ** (3.7 + 1.008e-4 * np.arange(740)) * u.AA
    flux = np.interp(axis, *a_galaxy(0.01))
    spectrum = read(monkeypatch, tmp_path, axis, flux)
    assert fitted(spectrum) == pytest.approx(fitted(native), rel=0.02)
    np.testing.assert_allclose(np.diff(np.log10(spectrum.wavelength_angstrom.astype(float))), 1e-4, atol=1e-7)

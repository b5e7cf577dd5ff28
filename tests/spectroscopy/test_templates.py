"""Templates of any of the usual forms give one basis, and with the right stars the lines come out unbiased."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from mmagn.spectroscopy.config import SpectroscopyConfig
from mmagn.spectroscopy.continuum import continuum_basis
from mmagn.spectroscopy.emission import line_table
from mmagn.spectroscopy.templates import air_angstrom, template_columns, template_spectra
from mmagn.surveys.simulate.spectra import simulated_spectra
from mmagn.surveys.simulate.stars import GRID_LOG10, stellar_basis

ANGSTROM = np.arange(3600.0, 7100.0, 0.9)


@pytest.fixture(scope="module")
def populations():
    """The simulator's four populations, each with weak and with strong metal lines, on a linear vacuum grid."""
    plain, metals = np.split(stellar_basis()[0].astype(float), 2)
    spectra = np.concatenate([plain - strength * metals for strength in (0.4, 0.9, 1.4)])
    return np.stack([np.interp(ANGSTROM, 10**GRID_LOG10, spectrum) for spectrum in spectra])


@pytest.fixture(scope="module")
def packed(populations, tmp_path_factory):
    path = tmp_path_factory.mktemp("templates") / "spectra.npz"
    np.savez(path, lam=ANGSTROM, templates=populations.T.reshape(len(ANGSTROM), 3, 4))
    return path


def written(folder, populations, form):
    for number, flux in enumerate(populations):
        if form == "image":
            hdu = fits.PrimaryHDU(flux)
            hdu.header["CRVAL1"], hdu.header["CDELT1"], hdu.header["CRPIX1"] = ANGSTROM[2], 0.9, 3.0
            hdu.writeto(folder / f"{number:02d}.fits")
        elif form == "table":
            Table({"wave": ANGSTROM, "flux": flux}).write(folder / f"{number:02d}.fits")
        else:
            np.savetxt(folder / f"{number:02d}.txt", np.stack([ANGSTROM, flux], 1))
    if form != "text":
        (folder / "README.txt").write_text("not a spectrum")
    return str(folder)


@pytest.mark.parametrize("form", ["image", "table", "text"])
def test_images_tables_and_text_hold_the_same_templates_as_one_packed_file(form, populations, packed, tmp_path):
    expected = template_spectra(str(packed))
    read = template_spectra(written(tmp_path, populations, form))
    assert len(read) == len(expected) == 12
    for (_, angstrom, flux), (_, same_angstrom, same_flux) in zip(read, expected, strict=True):
        np.testing.assert_allclose(angstrom, same_angstrom, rtol=1e-9)
        np.testing.assert_allclose(flux, same_flux, rtol=1e-9)


def test_templates_in_air_and_in_vacuum_are_the_same_stars(populations, packed, tmp_path):
    in_air = tmp_path / "air.npz"
    np.savez(in_air, lam=air_angstrom(ANGSTROM), templates=populations.T)
    vacuum = template_columns(str(packed), "vacuum", 3)
    np.testing.assert_allclose(template_columns(str(in_air), "air", 3)[0], vacuum[0], atol=1e-4)
    assert np.abs(template_columns(str(in_air), "vacuum", 3)[0] - vacuum[0]).max() > 3e-3


def test_hbeta_in_air_lies_1_4_angstrom_below_vacuum():
    assert air_angstrom(np.array([4862.683]))[0] == pytest.approx(4861.325, abs=0.003)


def test_a_handful_of_spectra_is_measured_without_bias_where_templates_are_given(packed):
    config = SpectroscopyConfig(device="cpu", templates=str(packed), templates_medium="vacuum")
    spectra, truth = simulated_spectra(400, np.random.default_rng(41), classes=["star-forming", "seyfert", "liner"])
    basis = continuum_basis(spectra[:30], config)
    table = line_table(spectra, config, basis)
    assert set(table["continuum_kind"]) == {"templates"}
    for line in ("hbeta", "oiii_5007", "halpha", "nii_6584", "sii_6718"):
        pull = (table[f"flux_{line}"] - truth[f"flux_{line}"]) / table[f"flux_{line}_err"]
        pull = np.asarray(pull)[np.isfinite(pull)]
        assert abs(np.median(pull)) < 0.3, line
        assert 0.8 < 1.4826 * np.median(np.abs(pull - np.median(pull))) < 1.2, line


def test_many_spectra_teach_their_own_basis_unless_templates_are_asked_for(packed, spectrum):
    few = [spectrum()] * 5
    assert continuum_basis(few, SpectroscopyConfig(device="cpu")) is None
    assert continuum_basis(few, SpectroscopyConfig(continuum="local", templates=str(packed))) is None
    always = SpectroscopyConfig(continuum="templates", templates=str(packed), templates_medium="vacuum", basis_terms=2)
    basis = continuum_basis(few, always)
    assert basis is not None and basis.kind == "templates"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"lam": ANGSTROM[500:], "templates": np.ones((len(ANGSTROM) - 500, 2))}, "covers 4050 to 7099 A; needed"),
        ({"lam": ANGSTROM[::-1], "templates": np.ones((len(ANGSTROM), 2))}, "wavelengths do not rise"),
        ({"lam": ANGSTROM, "templates": np.full((len(ANGSTROM), 2), np.nan)}, "not finite"),
        ({"wave": ANGSTROM}, "holds wave; needed: lam, templates"),
    ],
)
def test_unusable_templates_are_refused_in_one_sentence(content, sentence, tmp_path):
    np.savez(tmp_path / "bad.npz", **content)
    with pytest.raises(ValueError, match=sentence):
        template_columns(str(tmp_path / "bad.npz"), "vacuum", 3)


def test_a_place_without_templates_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no template"):
        template_spectra(str(tmp_path))
    with pytest.raises(ValueError, match="allowed: a folder of spectra or a file"):
        template_spectra(str(tmp_path / "absent"))
    (tmp_path / "notes.txt").write_text("no numbers here")
    with pytest.raises(ValueError, match=r"template notes\.txt cannot be read"):
        template_spectra(str(tmp_path))
    with pytest.raises(ValueError, match="where continuum is templates"):
        SpectroscopyConfig(continuum="templates")

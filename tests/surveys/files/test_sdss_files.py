"""Spectra as SDSS publishes them equal those of the published sample, and their mask is obeyed bit by bit."""

import gzip
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from mmagn.records import Spectrum
from mmagn.spectroscopy.config import SpectroscopyConfig
from mmagn.spectroscopy.emission import line_table
from mmagn.surveys.config import DataConfig
from mmagn.surveys.files.spectra import read_spectrum
from mmagn.surveys.reader import iter_spectra
from mmagn.surveys.readers import survey_reader

NAMES = ("spec-0295-51585-0596", "spec-0403-51871-0462", "spec-0853-52374-0240", "spec-1014-52707-0584")
ARRAYS = ("wavelength_angstrom", "flux", "ivar", "lsf_sigma")
BADTRACE, BRIGHTSKY = 1, 23


@pytest.fixture
def spec_fits(real_tree: Path) -> Path:
    return real_tree / "spec_fits"


def changed(source: Path, out: Path, change) -> Path:
    """A copy of a FITS file after ``change(hdus)``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with fits.open(source) as hdus:
            change(hdus)
            hdus.writeto(out)
    return out


def published_row(path: Path) -> dict:
    """The row that the builders of the published sample make of a file: any bit of ``and_mask`` is a bad pixel."""
    with fits.open(path) as hdus:
        coadd, about = hdus["COADD"].data, hdus["SPECOBJ"].data[0]
        return {
            "object_id": about["SPECOBJID"].strip(),
            "ra": about["PLUG_RA"],
            "dec": about["PLUG_DEC"],
            **{name: about[name] for name in ("Z", "Z_ERR", "ZWARNING", "CLASS", "SUBCLASS")},
            "spectrum_flux": coadd["flux"],
            "spectrum_ivar": coadd["ivar"],
            "spectrum_lambda": 10 ** coadd["loglam"].astype(float),
            "spectrum_mask": (coadd["and_mask"] != 0) | (coadd["ivar"] <= 1e-6),
            "spectrum_lsf_sigma": coadd["wdisp"],
        }


@pytest.mark.parametrize("name", NAMES)
def test_a_file_gives_the_record_of_the_published_sample(spec_fits, v1_tree, tmp_path, name):
    row = published_row(spec_fits / f"{name}.fits")
    row["Z"] = min(row["Z"], 0.5)
    root = v1_tree(tmp_path, sdss=[row], hsc=[{"object_id": 1, "ra": row["ra"], "dec": row["dec"]}])
    (published,) = iter_spectra(survey_reader(DataConfig(source="hdf5", root=str(root))), Counter())
    spectrum = read_spectrum(str(spec_fits / f"{name}.fits"))
    for field in Spectrum.__slots__:
        ours, theirs = getattr(spectrum, field), getattr(published, field)
        assert ours.tobytes() == theirs.tobytes() if field in ARRAYS else ours == theirs, field


def test_lines_of_the_files_are_those_of_the_pipeline(spec_fits):
    spectra = [read_spectrum(str(spec_fits / f"{name}.fits")) for name in NAMES]
    lines = line_table(spectra, SpectroscopyConfig(device="cpu"))
    compared = 0
    for row, name in enumerate(NAMES):
        fitted = Table.read(spec_fits / f"{name}.fits", hdu="SPZLINE", unit_parse_strict="silent")
        theirs = {str(each["LINENAME"]).strip(): each for each in fitted}
        for line, known in (("oiii_5007", "[O_III] 5007"), ("halpha", "H_alpha"), ("nii_6584", "[N_II] 6583")):
            flux, error = theirs[known]["LINEAREA"], theirs[known]["LINEAREA_ERR"]
            # In the quasar the pipeline's single Gaussians share broad lines and iron out in another way.
            if error > 0 and flux > 10 * error and spectra[row].spectral_class == "GALAXY":
                compared += 1
                assert lines[f"flux_{line}"][row] == pytest.approx(flux, rel=0.2), (name, line)
    assert compared >= 6


def test_flags_of_pixels_are_obeyed_and_flags_of_the_fibre_are_not(spec_fits, tmp_path):
    def flag(hdus):
        mask = np.zeros(len(hdus["COADD"].data), dtype=np.int32)
        mask[1000:1500] |= 1 << BRIGHTSKY  # longer than any run that is taken for a flag of the fibre without the bits
        mask[2000:] |= 1 << BADTRACE
        hdus["COADD"].data["and_mask"] = mask

    spectrum = read_spectrum(str(changed(spec_fits / f"{NAMES[0]}.fits", tmp_path / "spec.fits", flag)))
    assert not spectrum.valid[1000:1500].any()
    assert spectrum.valid[:1000].all()
    assert spectrum.valid[1500:].all()


def test_a_lite_file_and_one_of_boss_are_read(spec_fits, tmp_path):
    def lite(hdus):
        hdus["SPECOBJ"].name = "SPALL"
        del hdus["SPZLINE"]

    def boss(hdus):
        del hdus["SPECOBJ"], hdus["SPZLINE"]
        hdus[0].header["INSTRUME"] = "BOSS"

    whole = read_spectrum(str(spec_fits / f"{NAMES[0]}.fits"))
    spectrum = read_spectrum(str(changed(spec_fits / f"{NAMES[0]}.fits", tmp_path / "lite.fits", lite)))
    assert (spectrum.object_id, spectrum.redshift) == (whole.object_id, whole.redshift)
    bare = read_spectrum(str(changed(spec_fits / f"{NAMES[0]}.fits", tmp_path / "bare.fits", boss)))
    assert (bare.object_id, bare.survey, bare.ra_deg) == ("bare", "boss", whole.ra_deg)
    assert np.isnan(bare.redshift)


def test_a_fibre_of_a_plate_is_the_spectrum_of_its_own_file(spec_fits, tmp_path):
    write_plate(spec_fits / f"{NAMES[0]}.fits", tmp_path)
    spectrum = read_spectrum(f"{tmp_path / 'spPlate-0295-51585.fits'}#596")
    own = read_spectrum(str(spec_fits / f"{NAMES[0]}.fits"))
    for name in ("flux", "ivar", "lsf_sigma"):
        np.testing.assert_array_equal(getattr(spectrum, name), getattr(own, name))
    np.testing.assert_allclose(spectrum.wavelength_angstrom, own.wavelength_angstrom, rtol=1e-6)
    assert (spectrum.redshift, spectrum.spectral_class) == (own.redshift, "GALAXY")
    (tmp_path / "spZbest-0295-51585.fits").unlink()
    assert np.isnan(read_spectrum(f"{tmp_path / 'spPlate-0295-51585.fits'}#596").redshift)
    for member in ("7", "abc"):
        with pytest.raises(ValueError, match=rf"spPlate-0295-51585\.fits has no fibre {member}"):
            read_spectrum(f"{tmp_path / 'spPlate-0295-51585.fits'}#{member}")
    with pytest.raises(ValueError, match=r"has no fibre named; write spPlate-0295-51585\.fits#FIBRE"):
        read_spectrum(str(tmp_path / "spPlate-0295-51585.fits"))


def write_plate(spec: Path, folder: Path) -> None:
    """A plate of two fibres, the second one with the spectrum of a spec file, and its redshifts."""
    with fits.open(spec) as hdus:
        coadd, about = hdus["COADD"].data, hdus["SPECOBJ"].data[0]
        primary = fits.PrimaryHDU(np.stack([coadd["flux"] * 0, coadd["flux"]]))
        primary.header.update(COEFF0=float(coadd["loglam"][0]), COEFF1=1e-4, PLATEID=295, MJD=51585)
        planes = [
            fits.ImageHDU(np.stack([coadd[name], coadd[name]])) for name in ("ivar", "and_mask", "or_mask", "wdisp")
        ]
        fibres = {"FIBERID": [1, 596], "RA": [0.0, about["PLUG_RA"]], "DEC": [0.0, about["PLUG_DEC"]]}
        plugged = fits.BinTableHDU(Table(fibres))
        fits.HDUList([primary, *planes, plugged]).writeto(folder / "spPlate-0295-51585.fits")
        best = {"FIBERID": [1, 596], "Z": [0.1, about["Z"]], "Z_ERR": [1e-5, 1e-5], "ZWARNING": [0, 0]}
        best |= {"CLASS": ["STAR", about["CLASS"]], "SUBCLASS": ["", about["SUBCLASS"]]}
        best["Z"] = np.array(best["Z"], dtype=np.float32)
        fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU(Table(best))]).writeto(folder / "spZbest-0295-51585.fits")


def test_what_is_wrong_with_a_file_is_one_sentence(spec_fits, tmp_path):
    spec = spec_fits / f"{NAMES[0]}.fits"

    def without(hdus):
        hdus["COADD"] = fits.BinTableHDU(Table({"flux": [1.0], "loglam": [3.6]}), name="COADD")

    with pytest.raises(ValueError, match=r"HDU COADD of cut\.fits has no column ivar"):
        read_spectrum(str(changed(spec, tmp_path / "cut.fits", without)))
    (tmp_path / "short.fits").write_bytes(spec.read_bytes()[:60_000])
    with pytest.raises(ValueError, match=r"short\.fits cannot be read as FITS: "):
        read_spectrum(str(tmp_path / "short.fits"))
    with pytest.raises(FileNotFoundError, match=r"none\.fits is missing"):
        read_spectrum(str(tmp_path / "none.fits"))
    with gzip.open(tmp_path / "air.fits.gz", "wb") as file:
        file.write(spec.read_bytes())
    assert read_spectrum(str(tmp_path / "air.fits.gz")).object_id == "332304326343026688"
    with pytest.raises(ValueError, match=r"air\.fits\.gz states wavelengths of vacuum, but data\.wavelengths is air"):
        read_spectrum(str(tmp_path / "air.fits.gz"), "air")

"""What the quirks of SDSS rows must turn into."""

import logging
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mmagn.surveys.sdss import spectrum_from_row

PIXELS = 100


def sdss_row(**overrides: Any) -> dict[str, Any]:
    row = {
        "object_id": np.bytes_(b"    299489677444933632"),
        "ra": np.float64(150.1),
        "dec": np.float64(2.2),
        "Z": np.float32(0.1),
        "Z_ERR": np.float32(1e-5),
        "ZWARNING": np.int32(0),
        "CLASS": np.bytes_(b"GALAXY"),
        "SUBCLASS": np.bytes_(b"STARBURST            "),
        "spectrum_flux": np.full(PIXELS, 3.0, dtype="f4"),
        "spectrum_ivar": np.full(PIXELS, 4.0, dtype="f4"),
        "spectrum_lambda": (10 ** (3.6 + 1e-4 * np.arange(PIXELS))).astype("f4"),
        "spectrum_mask": np.zeros(PIXELS, dtype=bool),
        "spectrum_lsf_sigma": np.full(PIXELS, 1.1, dtype="f4"),
    }
    return {**row, **overrides}


def padded_row(padding: int) -> dict[str, Any]:
    """A row as it lies in a file whose longest spectrum has ``padding`` pixels more."""
    row = sdss_row()
    for name, fill in {
        "spectrum_flux": 3.0,
        "spectrum_lsf_sigma": 1.1,
        "spectrum_ivar": 0.0,
        "spectrum_lambda": -1.0,
        "spectrum_mask": True,
    }.items():
        row[name] = np.concatenate([row[name], np.full(padding, fill, dtype=row[name].dtype)])
    return row


def test_mask_true_means_bad():
    mask = np.zeros(PIXELS, dtype=bool)
    mask[7] = True
    np.testing.assert_array_equal(spectrum_from_row(sdss_row(spectrum_mask=mask), survey="sdss").valid, ~mask)


def test_padding_goes_and_nothing_else():
    plain, padded = spectrum_from_row(sdss_row(), survey="sdss"), spectrum_from_row(padded_row(37), survey="sdss")
    for name in ("wavelength_angstrom", "flux", "ivar", "lsf_sigma"):
        np.testing.assert_array_equal(getattr(padded, name), getattr(plain, name))
    assert padded.valid.all()


def test_bad_pixels_inside_are_kept_as_not_valid():
    ivar = np.full(PIXELS, 4.0, dtype="f4")
    ivar[[0, 50, 99]] = 0
    spectrum = spectrum_from_row(sdss_row(spectrum_ivar=ivar), survey="sdss")
    assert len(spectrum.flux) == PIXELS
    assert spectrum.valid.sum() == PIXELS - 3


def long_row(mask: NDArray[np.bool_], ivar: NDArray[np.float32]) -> dict[str, Any]:
    angstrom = (10 ** (3.6 + 1e-4 * np.arange(len(mask)))).astype("f4")
    names = {"spectrum_mask": mask, "spectrum_ivar": ivar, "spectrum_lambda": angstrom}
    ones = {name: np.ones(len(mask), dtype="f4") for name in ("spectrum_flux", "spectrum_lsf_sigma")}
    return sdss_row(**names, **ones)


@pytest.mark.parametrize("run", [slice(100, 700), slice(0, 2000)])
def test_a_flag_of_the_whole_fibre_is_not_taken_for_bad_pixels(run, caplog):
    mask, ivar = np.zeros(2000, dtype=bool), np.full(2000, 4.0, dtype="f4")
    mask[run] = True
    ivar[run.start + 40 : run.start + 60] = 0
    mask[1990] = True
    with caplog.at_level(logging.INFO):
        spectrum = spectrum_from_row(long_row(mask, ivar), survey="sdss")
    bad = ivar == 0
    bad[1990] |= run.stop < 1990
    np.testing.assert_array_equal(spectrum.valid, ~bad)
    assert f"{run.stop - run.start - 20} pixels under a fibre-wide flag are used" in caplog.text


def test_a_long_run_of_bad_pixels_without_variance_and_short_runs_stay_bad():
    mask, ivar = np.zeros(2000, dtype=bool), np.full(2000, 4.0, dtype="f4")
    mask[100:500], ivar[100:400] = True, 0
    mask[1000:1090] = True
    np.testing.assert_array_equal(spectrum_from_row(long_row(mask, ivar), survey="sdss").valid, ~mask)


@pytest.mark.parametrize("ivar", [3.4e38, np.nan, np.inf, -2.0])
def test_inverse_variance_of_nothing_is_not_valid(ivar):
    values = np.full(PIXELS, 4.0, dtype="f4")
    values[3] = ivar
    spectrum = spectrum_from_row(sdss_row(spectrum_ivar=values), survey="sdss")
    assert spectrum.ivar[3] == 0
    assert spectrum.valid.sum() == PIXELS - 1


@pytest.mark.parametrize("column", ["spectrum_flux", "spectrum_lsf_sigma"])
def test_nan_pixel_is_finite_and_not_valid(column):
    values = np.full(PIXELS, 1.0, dtype="f4")
    values[5] = np.nan
    spectrum = spectrum_from_row(sdss_row(**{column: values}), survey="sdss")
    assert not spectrum.valid[5]
    assert np.isfinite(spectrum.flux).all()
    assert np.isfinite(spectrum.lsf_sigma).all()


def test_instrumental_width_stays_in_pixels():
    np.testing.assert_array_equal(spectrum_from_row(sdss_row(), survey="sdss").lsf_sigma, np.float32(1.1))


@pytest.mark.parametrize(
    "spelling",
    [
        b"    299489677444933632",
        np.bytes_(b"    299489677444933632"),
        "b'    299489677444933632'",
        'b"    299489677444933632"',
        " 299489677444933632 ",
        299489677444933632,
        np.array([299489677444933632], dtype=">i8")[0],
    ],
)
def test_every_spelling_of_an_id_is_the_same_text(spelling):
    assert spectrum_from_row(sdss_row(object_id=spelling), survey="sdss").object_id == "299489677444933632"


def test_id_beyond_64_signed_bits_is_kept():
    row = sdss_row(object_id=np.bytes_(b"  12507745903166380032"))
    assert spectrum_from_row(row, survey="boss").object_id == "12507745903166380032"


@pytest.mark.parametrize("code", [-1.0, -4.0, np.nan])
def test_failure_code_is_no_error(code):
    assert np.isnan(spectrum_from_row(sdss_row(Z_ERR=np.float32(code)), survey="sdss").redshift_err)


@pytest.mark.parametrize(("value", "expected"), [(np.int32(4), 4), (np.bool_(True), 1), (np.bool_(False), 0), (16, 16)])
def test_warning_may_be_bits_or_a_flag(value, expected):
    zwarning = spectrum_from_row(sdss_row(ZWARNING=value), survey="sdss").zwarning
    assert zwarning == expected
    assert type(zwarning) is int


def test_class_loses_its_blanks():
    spectrum = spectrum_from_row(sdss_row(), survey="sdss")
    assert (spectrum.spectral_class, spectrum.spectral_subclass) == ("GALAXY", "STARBURST")


def test_optional_columns_may_be_absent():
    row = {name: value for name, value in sdss_row().items() if name not in ("Z_ERR", "ZWARNING", "CLASS", "SUBCLASS")}
    spectrum = spectrum_from_row(row, survey="eboss")
    assert (spectrum.zwarning, spectrum.spectral_class, spectrum.spectral_subclass) == (0, "", "")
    assert np.isnan(spectrum.redshift_err)
    assert spectrum.survey == "eboss"


@pytest.mark.parametrize("bad", [np.float32(np.nan), b"--", None, "n/a"])
def test_a_bad_optional_value_is_missing_and_the_spectrum_stays(bad):
    spectrum = spectrum_from_row(sdss_row(ZWARNING=bad, Z_ERR=bad, CLASS=np.float32(3)), survey="sdss")
    assert (spectrum.zwarning, spectrum.spectral_class) == (0, "")
    assert np.isnan(spectrum.redshift_err)


def test_a_mask_of_zeros_and_ones_is_read_as_bool():
    mask = np.arange(PIXELS) % 2
    np.testing.assert_array_equal(spectrum_from_row(sdss_row(spectrum_mask=mask), survey="sdss").valid, mask == 0)


def test_big_endian_columns_become_native():
    names = ("spectrum_flux", "spectrum_ivar", "spectrum_lambda", "spectrum_lsf_sigma")
    row = sdss_row(Z=np.array([0.1], dtype=">f4")[0], **{name: sdss_row()[name].astype(">f4") for name in names})
    spectrum = spectrum_from_row(row, survey="sdss")
    for name in ("wavelength_angstrom", "flux", "ivar", "lsf_sigma"):
        assert getattr(spectrum, name).dtype == np.float32
        assert getattr(spectrum, name).dtype.isnative
    assert spectrum.redshift == pytest.approx(0.1)
    assert type(spectrum.redshift) is float


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("spectrum_mask", np.ones(PIXELS, dtype=bool), "no valid pixel"),
        ("spectrum_ivar", np.zeros(PIXELS, dtype="f4"), "no valid pixel"),
        ("spectrum_lambda", np.full(PIXELS, -1, dtype="f4"), "no wavelength above zero"),
        (
            "spectrum_lambda",
            np.full(PIXELS, 5000, dtype="f4"),
            "not all finite, positive and rising; expected steps of",
        ),
        (
            "spectrum_lambda",
            5000 + 0.8 * np.arange(PIXELS),
            r"steps of 0.8 A from 5000 A; expected steps of 0.0001 dex",
        ),
        ("spectrum_lambda", 3.6 + 1e-4 * np.arange(PIXELS), r"from 3.6 to 3.6099, which look like log10 of Angstrom"),
        ("spectrum_lambda", 10 ** (2.6 + 1e-4 * np.arange(PIXELS)), r"to 407.286, which look like nanometres"),
        ("spectrum_lambda", 10 ** (3.6 + 2e-4 * np.arange(PIXELS)), r"steps of 0.0002 dex from 3981.07 A"),
        (
            "spectrum_lambda",
            3600 + 0.8 * np.arange(PIXELS, dtype="f4"),
            "spectrum_lambda has steps of 0.8 A from 3600 A",
        ),
        ("spectrum_mask", np.zeros(PIXELS - 1, dtype=bool), "spectrum_mask has 99 pixels but spectrum_lambda 100"),
        ("spectrum_mask", np.full(PIXELS, 32), r"spectrum_mask holds 32; allowed: bool, or 0 and 1"),
    ],
)
def test_row_that_is_no_spectrum_is_refused(column, value, reason):
    with pytest.raises(ValueError, match=reason):
        spectrum_from_row(sdss_row(**{column: value}), survey="sdss")

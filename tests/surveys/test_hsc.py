"""What the quirks of HSC rows must turn into."""

from typing import Any

import numpy as np
import pytest

from mmagn.records import BANDS
from mmagn.surveys.hsc import COUNT_NJY, IMAGE_BANDS, cutout_from_row


def hsc_row(**overrides: Any) -> dict[str, Any]:
    shape = (5, 160, 160)
    row = {
        "object_id": np.int64(36411448541126000),
        "ra": np.float64(150.1),
        "dec": np.float64(2.2),
        "image_band": np.array([name.encode() for name in IMAGE_BANDS]),
        "image_array": np.full(shape, 2.0, dtype="f4"),
        "image_ivar": np.full(shape, 100.0, dtype="f4"),
        "image_mask": np.ones(shape, dtype=bool),
        "image_psf_fwhm": np.full(5, 0.7, dtype="f4"),
        "image_scale": np.full(5, 0.168, dtype="f4"),
    }
    return {**row, **{f"{band}_cmodel_mag": np.float32(20) for band in BANDS}, **overrides}


def test_one_count_is_magnitude_27():
    assert -2.5 * np.log10(COUNT_NJY * 1e-9 / 3631) == pytest.approx(27.0, abs=1e-4)


def test_counts_become_njy_and_signal_to_noise_stays():
    cutout = cutout_from_row(hsc_row())
    assert cutout.flux[0, 0, 0] == pytest.approx(2 * 57.54399)
    np.testing.assert_allclose(cutout.flux * np.sqrt(cutout.ivar), 2.0 * 10.0, rtol=1e-6)


def test_mask_true_means_clean():
    mask = np.ones((5, 160, 160), dtype=bool)
    mask[2, 10, 20] = False
    cutout = cutout_from_row(hsc_row(image_mask=mask))
    np.testing.assert_array_equal(cutout.valid, mask)


@pytest.mark.parametrize("ivar", [3.4e38, 1.1e30, 0.0, -1.0, np.nan, np.inf])
def test_inverse_variance_of_nothing_is_not_valid(ivar):
    values = np.full((5, 160, 160), 100.0, dtype="f4")
    values[1, 3, 4] = ivar
    cutout = cutout_from_row(hsc_row(image_ivar=values))
    assert not cutout.valid[1, 3, 4]
    assert cutout.ivar[1, 3, 4] == 0
    assert cutout.valid.sum() == cutout.valid.size - 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_pixel_without_finite_flux_is_zero_and_not_valid(value):
    counts = np.full((5, 160, 160), 2.0, dtype="f4")
    counts[4, 0, 159] = value
    cutout = cutout_from_row(hsc_row(image_array=counts))
    assert np.isfinite(cutout.flux).all()
    assert not cutout.valid[4, 0, 159]
    assert cutout.valid.sum() == cutout.valid.size - 1


def test_flux_of_a_masked_pixel_is_kept():
    mask = np.ones((5, 160, 160), dtype=bool)
    mask[..., 0] = False
    cutout = cutout_from_row(hsc_row(image_mask=mask))
    assert not cutout.valid[..., 0].any()
    assert (cutout.flux[..., 0] > 0).all()


def test_unmeasured_seeing_and_magnitudes_are_nan():
    row = hsc_row(
        image_psf_fwhm=np.array([0.7, 0.0, np.nan, 0.6, 0.5], dtype="f4"),
        g_cmodel_mag=np.float32(np.inf),
        y_cmodel_mag=np.float32(np.nan),
    )
    del row["r_cmodel_mag"]
    cutout = cutout_from_row(row)
    np.testing.assert_array_equal(np.isnan(cutout.psf_fwhm_arcsec), [False, True, True, False, False])
    np.testing.assert_array_equal(np.isnan(cutout.magnitude), [True, True, False, False, True])


def test_permuted_bands_are_refused_by_name():
    names = np.array([b"hsc-r", b"hsc-g", b"hsc-i", b"hsc-z", b"hsc-y"])
    with pytest.raises(ValueError, match=r"hsc-r, hsc-g, hsc-i, hsc-z, hsc-y; expected hsc-g, hsc-r, hsc-i"):
        cutout_from_row(hsc_row(image_band=names))


def test_band_names_may_be_text_with_blanks():
    assert cutout_from_row(hsc_row(image_band=[f"{name}  " for name in IMAGE_BANDS])).valid.all()


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("image_mask", np.zeros((5, 160, 160), dtype=bool), "no valid pixel"),
        ("image_array", np.full((5, 160, 160), np.nan, dtype="f4"), "no valid pixel"),
        (
            "image_ivar",
            np.ones((5, 80, 80), dtype="f4"),
            r"image_ivar has shape \(5, 80, 80\); expected \(5, 160, 160\)",
        ),
        ("image_scale", np.full(5, 0.2, dtype="f4"), "image_scale is not 0.168"),
        ("image_mask", np.full((5, 160, 160), 32), "image_mask holds 32; allowed: bool, or 0 and 1"),
    ],
)
def test_row_that_is_no_image_is_refused(column, value, reason):
    with pytest.raises(ValueError, match=reason):
        cutout_from_row(hsc_row(**{column: value}))


@pytest.mark.parametrize("bad", [np.float32(np.nan), b"--", None, "n/a"])
def test_a_bad_optional_value_is_missing_and_the_image_stays(bad):
    cutout = cutout_from_row(hsc_row(g_cmodel_mag=bad, image_scale=np.array([bad] * 5, dtype=object)))
    np.testing.assert_array_equal(np.isnan(cutout.magnitude), [True, False, False, False, False])


def test_big_endian_columns_become_native_and_ids_text():
    row = hsc_row(
        object_id=np.array([36411448541126000], dtype=">i8")[0],
        ra=np.array([150.1], dtype=">f8")[0],
        image_array=np.full((5, 160, 160), 2.0, dtype=">f4"),
        image_ivar=np.full((5, 160, 160), 100.0, dtype=">f4"),
        image_psf_fwhm=np.full(5, 0.7, dtype=">f4"),
    )
    cutout = cutout_from_row(row)
    assert cutout.object_id == "36411448541126000"
    for values in (cutout.flux, cutout.ivar, cutout.psf_fwhm_arcsec, cutout.magnitude):
        assert values.dtype == np.float32
        assert values.dtype.isnative
    assert cutout.flux[0, 0, 0] == pytest.approx(2 * COUNT_NJY)


def test_raw_row_is_left_as_it_was():
    row = hsc_row()
    before = {name: row[name].copy() for name in ("image_array", "image_ivar", "image_mask")}
    cutout_from_row(row)
    for name, values in before.items():
        np.testing.assert_array_equal(row[name], values)

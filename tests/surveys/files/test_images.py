"""Calibrated images become cutouts of 160 x 160 pixels around a position, in nJy, with what is not seen not valid."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from fits_images import DEC_DEG, PLANES, RA_DEG, SCALE_DEG, write_bands, write_cutout

from mmagn.records import BANDS
from mmagn.surveys.files.images import cutout_of, read_planes
from mmagn.surveys.hsc import COUNT_NJY
from mmagn.surveys.reader import warn_once

NOISE = "images without variances"


def cutout(path, ra_deg=RA_DEG, dec_deg=DEC_DEG):
    return cutout_of(read_planes(str(path)), ra_deg, dec_deg, "1")


def brightest(image):
    return tuple(int(place) for place in np.unravel_index(np.argmax(image), image.shape))


@pytest.mark.parametrize("size", [25, 60, 170, 400])
def test_an_image_of_any_size_is_centred_padded_and_marked_invalid_outside(tmp_path, size):
    result = cutout(write_cutout(tmp_path / "i.fits", size=size))
    seen = result.valid.sum((1, 2)).tolist()
    assert seen == [0, 0, min(size, 160) ** 2, 0, 0]
    row, column = brightest(result.flux[2])
    assert {row, column} <= {78, 79}
    assert result.flux[2, row, column] == pytest.approx(500 * COUNT_NJY, rel=0.01)
    assert result.ivar.max() == pytest.approx(1 / (0.04 * COUNT_NJY**2), rel=1e-6)
    assert not result.flux[~result.valid].any()


@pytest.mark.parametrize("place", [(3.0, 50.2), (29.5, 29.5), (58.9, 0.4)])
def test_the_source_lies_where_it_lies_in_the_published_cutouts(tmp_path, place):
    path = write_cutout(tmp_path / "i.fits", place=place)
    with fits.open(path) as hdus:
        x, y = WCS(hdus[1].header).world_to_pixel_values(RA_DEG, DEC_DEG)
    assert (x, y) == pytest.approx(place)
    result = cutout(path)
    # The image starts at the first valid pixel, so the place of the source within the cutout follows from it.
    top, left = (int(np.flatnonzero(result.valid[2].any(axis))[0]) for axis in (1, 0))
    assert 78 <= left + x < 79
    assert 78 <= top + y < 79


def test_planes_of_the_mask_and_wrong_values_are_not_valid(tmp_path):
    mask = np.zeros((60, 60), dtype=np.int32)
    for column, plane in enumerate(PLANES):
        mask[10, column] = 1 << PLANES[plane]
    pixels, variance = np.ones((60, 60)), np.full((60, 60), 0.04)
    pixels[11, 0], variance[11, 1], variance[11, 2] = np.nan, 0, np.inf
    (plane,) = read_planes(str(write_cutout(tmp_path / "i.fits", mask=mask, pixels=pixels, variance=variance)))
    assert (plane.ivar[10, : len(PLANES)] > 0).tolist() == [name in ("EDGE", "DETECTED") for name in PLANES]
    assert (plane.ivar[11, :4] > 0).tolist() == [False, False, False, True]
    assert np.isfinite(plane.flux).all()


def test_without_variances_the_background_gives_the_noise_and_that_is_said_once(tmp_path, caplog):
    warn_once.cache_clear()
    folder = write_bands(tmp_path, variance=None, mask=None)
    result = cutout_of([plane for path in folder.iterdir() for plane in read_planes(str(path))], RA_DEG, DEC_DEG, "1")
    noise_counts = 1 / np.sqrt(result.ivar.max(axis=(1, 2))) / COUNT_NJY
    np.testing.assert_allclose(noise_counts, 0.2, rtol=0.05)
    assert caplog.text.count(NOISE) == 1


ZERO_POINTS = {
    "another FLUXMAG0": ({"FLUXMAG0": 3630.78054770e9}, {}, 1.0),
    "nJy": ({"FLUXMAG0": None}, {"BUNIT": "nJy"}, 1.0),
    "Jy": ({"FLUXMAG0": None}, {"BUNIT": "Jy"}, 1e9),
    "AB magnitude": ({"FLUXMAG0": None}, {"MAGZERO": 27.0}, COUNT_NJY),
    "FLUXMAG0 of the image": ({"FLUXMAG0": None}, {"FLUXMAG0": 63095734448.0194}, COUNT_NJY),
}


@pytest.mark.parametrize("where", ZERO_POINTS)
def test_zero_points_of_any_spelling_give_njy(tmp_path, where):
    primary, header, njy = ZERO_POINTS[where]
    path = write_cutout(tmp_path / "i.fits", pixels=np.ones((60, 60)), primary=primary, header=header)
    (plane,) = read_planes(str(path))
    np.testing.assert_allclose(plane.flux, njy, rtol=1e-5)
    np.testing.assert_allclose(plane.ivar, 1 / (0.04 * njy**2), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "band", "expected"),
    [("a.fits", "HSC-I", "i"), ("a.fits", "r2", "r"), ("2-cutout-HSC-I2-9813.fits", "", "i"), ("a.fits", "z_03", "z")],
)
def test_the_band_is_read_from_the_header_or_the_name(tmp_path, name, band, expected):
    (plane,) = read_planes(str(write_cutout(tmp_path / name, band)))
    assert plane.band == expected


def test_a_cube_of_five_planes_is_grizy(tmp_path):
    pixels = np.arange(5.0)[:, None, None] * np.ones((5, 60, 60))
    path = write_cutout(tmp_path / "cube.fits", pixels=pixels, variance=np.full((5, 60, 60), 0.04), place=(30, 30))
    planes = read_planes(str(path))
    assert tuple(plane.band for plane in planes) == BANDS
    assert [plane.flux[0, 0] / COUNT_NJY for plane in planes] == pytest.approx([0, 1, 2, 3, 4])
    assert cutout(path).valid.any((1, 2)).all()


REFUSED = {
    "no WCS": ({"header": {"CTYPE1": None, "CTYPE2": None}}, "has no WCS in right ascension and declination"),
    "galactic": ({"header": {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"}}, "has no WCS in right ascension"),
    "coarse": ({"scale_deg": 0.2 / 3600}, r"has pixels of 0\.2 x 0\.2 arcsec; allowed: 0\.168"),
    "no zero point": ({"primary": {"FLUXMAG0": None}}, "has no zero point; one of FLUXMAG0, MAGZERO"),
    "wrong unit": ({"primary": {"FLUXMAG0": None}, "header": {"BUNIT": "adu"}}, "has no zero point"),
    "no band": ({"band": "H"}, "the band of refused.fits is unknown: its FILTER is H; allowed: g, r, i, z, y"),
    "planes": ({"pixels": np.zeros((3, 60, 60)), "place": (30, 30)}, "has 3 planes; allowed: one band, or a cube"),
    "shape": ({"variance": np.zeros((5, 5))}, r"the variance of refused.fits has shape \(5, 5\), its image \(60, 60\)"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_an_image_that_cannot_be_placed_or_calibrated_is_refused_in_a_sentence(tmp_path, why):
    changes, sentence = REFUSED[why]
    path = write_cutout(tmp_path / "refused.fits", **changes)
    with pytest.raises(ValueError, match=sentence):
        read_planes(str(path))


def test_masks_without_names_positions_outside_and_bands_twice_are_refused(tmp_path):
    path = write_cutout(tmp_path / "i.fits")
    with fits.open(path, mode="update") as hdus:
        for plane in PLANES:
            del hdus[2].header[f"MP_{plane}"]
    with pytest.raises(ValueError, match=r"the mask of i\.fits does not name its bits"):
        read_planes(str(path))
    other = write_cutout(tmp_path / "other.fits")
    with pytest.raises(ValueError, match=r"the position 150\.200000 2\.200000 lies outside of the image other\.fits"):
        cutout(other, ra_deg=150.2)
    with pytest.raises(ValueError, match=r"the position -30\.\d+ -80\.0+ lies outside"):
        cutout(other, ra_deg=-30.0, dec_deg=-80.0)
    with pytest.raises(ValueError, match=r"band i comes twice, from other\.fits and other\.fits"):
        cutout_of([*read_planes(str(other)), *read_planes(str(other))], RA_DEG, DEC_DEG, "1")
    with pytest.raises(ValueError, match=r"other\.fits is of band i, not g"):
        read_planes(str(other), "g")


def test_real_cutouts_of_the_service_are_read(real_tree):
    for path in sorted((real_tree / "hsc_cutouts").glob("*.fits")):
        (plane,) = read_planes(str(path))
        result = cutout_of([plane], *plane.centre, "star")
        with fits.open(path) as hdus:
            pixels, row = hdus[1].data, brightest(hdus[1].data)
        assert plane.band == "i"
        assert result.valid.sum() == 25 * 25
        assert {*brightest(result.flux[2])} <= {77, 78, 79}  # a star in the middle of its cutout
        assert result.flux.max() == pytest.approx(pixels[row] * COUNT_NJY, rel=1e-6)
        assert pytest.approx(0.168) == SCALE_DEG * 3600

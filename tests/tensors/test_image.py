import numpy as np
import pytest
import torch

from mmagn.records import SOURCE_PIXEL
from mmagn.tensors.augment import dihedral
from mmagn.tensors.config import TensorsConfig
from mmagn.tensors.image import image_tensor

CONFIG = TensorsConfig(image_size=32, image_noise_njy=(1.0, 1.0, 1.0, 1.0, 1.0), asinh_softening=3.0)


def galaxy(peak: float = 500.0) -> np.ndarray:
    y, x = np.mgrid[:160, :160] - SOURCE_PIXEL
    profile = peak * np.exp(-np.hypot(x, y) / 6)
    return (profile * np.array([1.0, 2.0, 3.0, 3.5, 4.0])[:, None, None]).astype(np.float32)


def clean() -> np.ndarray:
    return np.ones((5, 160, 160), dtype=np.float32)


def test_stretch_is_linear_for_the_sky_and_logarithmic_for_cores() -> None:
    faint = image_tensor(np.full((5, 160, 160), 0.03, np.float32), clean(), CONFIG)
    np.testing.assert_allclose(faint, 0.01, rtol=1e-3)
    bright = image_tensor(np.full((5, 160, 160), 3e4, np.float32), clean(), CONFIG)
    brighter = image_tensor(np.full((5, 160, 160), 3e5, np.float32), clean(), CONFIG)
    np.testing.assert_allclose(brighter - bright, np.log(10), rtol=1e-5)


def test_crop_has_the_source_in_its_middle() -> None:
    flux = np.zeros((5, 160, 160), np.float32)
    flux[:, 63, 63] = flux[:, 94, 94] = 1.0
    tensor = image_tensor(flux, clean(), CONFIG)
    assert tensor.shape == (5, 32, 32)
    assert tensor[0, 0, 0] > 0 and tensor[0, 31, 31] > 0
    assert np.count_nonzero(tensor[0]) == 2


@pytest.mark.parametrize("size", [16, 96, 158])
def test_turning_a_crop_leaves_the_source_in_its_middle(size: int) -> None:
    y, x = np.mgrid[:160, :160] - SOURCE_PIXEL
    flux = np.broadcast_to(np.exp(-np.hypot(x, y) / 2), (5, 160, 160)).astype(np.float32)
    crop = torch.from_numpy(image_tensor(flux, clean(), TensorsConfig(image_size=size)))[None]
    turned = dihedral(crop.expand(8, -1, -1, -1), torch.arange(8)).numpy()
    for axis in (2, 3):
        mean = (turned.sum(axis) * np.arange(size)).sum(-1) / turned.sum((2, 3))
        np.testing.assert_allclose(mean, (size - 1) / 2, rtol=1e-4)


def test_depth_of_the_field_changes_neither_brightness_nor_colour() -> None:
    deep = image_tensor(galaxy(), 9 * clean(), CONFIG)
    np.testing.assert_array_equal(deep, image_tensor(galaxy(), clean(), CONFIG))


def test_values_of_invalid_pixels_are_never_used() -> None:
    ivar = clean()
    ivar[:, 70:75, 70:90] = 0
    ivar[2, 60:120] = 0
    flux = galaxy()
    expected = image_tensor(flux, ivar, CONFIG)
    for poison in (1e30, -1e30, np.nan, np.inf):
        poisoned = np.where(ivar > 0, flux, np.float32(poison)).astype(np.float32)
        np.testing.assert_array_equal(image_tensor(poisoned, ivar, CONFIG), expected)


def test_a_saturated_core_stays_bright_and_masked_sky_stays_sky() -> None:
    ivar = clean()
    ivar[:, 77:81, 77:81] = 0
    ivar[:, 65:68, 65:68] = 0
    flux = np.where(ivar > 0, galaxy(), 0).astype(np.float32)
    whole, filled = image_tensor(galaxy(), clean(), CONFIG), image_tensor(flux, ivar, CONFIG)
    assert np.abs(filled - whole).max() < 0.5
    assert filled[0, 15, 15] > 4
    unmasked = (ivar > 0)[:, 63:95, 63:95]
    np.testing.assert_array_equal(filled[unmasked], whole[unmasked])


@pytest.mark.parametrize(("lost", "taken"), [(0, 1), (2, 3), (4, 3)])
def test_a_band_without_valid_pixels_takes_the_nearest_band(lost: int, taken: int) -> None:
    ivar = clean()
    ivar[lost] = 0
    tensor = image_tensor(galaxy(), ivar, CONFIG)
    np.testing.assert_array_equal(tensor[lost], tensor[taken])


def test_nothing_valid_is_flat_sky() -> None:
    flux = np.full((5, 160, 160), np.nan, np.float32)
    assert not image_tensor(flux, np.zeros_like(flux), CONFIG).any()


def test_the_range_is_sane_from_empty_sky_to_a_bright_star() -> None:
    flux = galaxy(peak=1e6)
    flux[:, 64:70] = -30.0
    tensor = image_tensor(flux, clean(), CONFIG)
    assert tensor.dtype == np.float32
    assert tensor.min() > -4 and tensor.max() < 16


def test_a_crop_larger_than_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"tensors.image_size is 32, larger than the image of 20 x 20"):
        image_tensor(np.zeros((5, 20, 20), np.float32), np.ones((5, 20, 20), np.float32), CONFIG)


def test_many_cutouts_at_once_are_each_as_alone() -> None:
    ivar = np.stack([clean(), clean(), np.zeros_like(clean())])
    ivar[1, 2, 70:90, 75:80] = 0
    flux = np.stack([galaxy(), np.where(ivar[1] > 0, galaxy(), np.nan), galaxy()])
    alone = [image_tensor(*each, CONFIG) for each in zip(flux, ivar, strict=True)]
    np.testing.assert_array_equal(image_tensor(flux, ivar, CONFIG), alone)

"""Image tensor of five bands: crop about the source, asinh stretch in fixed units, invalid pixels filled."""

from types import EllipsisType

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mmagn.records import square_about_source
from mmagn.tensors.config import TensorsConfig


def image_tensor(flux: NDArray[np.floating], ivar: NDArray[np.floating], config: TensorsConfig) -> NDArray[np.float32]:
    """Crop of a cutout about its source, on an asinh scale, finite everywhere.

    One value is ``asinh(flux / (asinh_softening * image_noise_njy[band]))``: linear for the sky, logarithmic for
    bright cores, about -1 to 10 in practice. The unit is one constant per band and not the noise of the image at
    hand: a unit per image would turn the depth of the field into brightness and colour, which both tell classes
    apart, and would have to be fitted or stored.

    An invalid pixel takes the value of the nearest valid pixel of its band: a saturated core stays bright and a
    masked piece of sky stays sky. A band without any valid pixel in the crop takes the stretched values of the
    nearest band that has some (the redder of two as near), which is a galaxy without that colour. Where no band
    has a valid pixel nothing is known and the crop is flat sky, 0.

    Parameters
    ----------
    flux, ivar
        (..., band, height, width), nJy and 1/nJy^2, of one cutout or many; ivar is above 0 exactly where valid.
    config
        Size, units and softening; ``ValueError`` where the cutout is smaller.

    Returns
    -------
    (..., band, image_size, image_size) float32.
    """
    crop = central(flux.shape, config)
    valid = np.asarray(ivar[crop] > 0)
    unit_njy = config.asinh_softening * np.asarray(config.image_noise_njy, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # in invalid pixels, which are filled below
        stretched = (flux[crop] / unit_njy[:, None, None]).astype(np.float32, copy=False)
        np.arcsinh(stretched, out=stretched)
    for place in np.ndindex(stretched.shape[:-3]):
        _fill(stretched[place], valid[place])
    return stretched


def central(shape: tuple[int, ...], config: TensorsConfig) -> tuple[EllipsisType | slice, ...]:
    """Return the index of the crop about the source of images of a (..., height, width) shape."""
    size = config.image_size
    if min(shape[-2:]) < size:
        raise ValueError(f"tensors.image_size is {size}, larger than the image of {shape[-2]} x {shape[-1]} pixels")
    return ..., *(square_about_source(size, length) for length in shape[-2:])


def _fill(image: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
    """Fill the invalid pixels of a (band, height, width) image, from the band first, then from its neighbour."""
    pixels = np.array([np.count_nonzero(band) for band in valid])  # by band: along axes it is ten times as slow
    for band in np.flatnonzero((pixels > 0) & (pixels < valid[0].size)):
        window = _around(~valid[band])
        invalid = ~valid[band][window]
        row, column = ndimage.distance_transform_edt(invalid, return_distances=False, return_indices=True)
        image[band][window] = image[band][window][row, column]
    seen = np.flatnonzero(pixels > 0)
    for band in np.flatnonzero(pixels == 0):
        image[band] = image[seen[::-1][np.argmin(np.abs(seen[::-1] - band))]] if len(seen) else 0


def _around(invalid: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return the smallest window with a rim about all invalid pixels: it holds the nearest valid pixel of each."""
    rows, columns = np.flatnonzero(invalid.any(1)), np.flatnonzero(invalid.any(0))
    return slice(max(rows[0] - 1, 0), rows[-1] + 2), slice(max(columns[0] - 1, 0), columns[-1] + 2)

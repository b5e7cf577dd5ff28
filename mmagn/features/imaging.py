"""The two features of the image: concentration and contrast of the i-band light.

Two regions are squares about the mean position of the source, between pixels 78 and 79 of 160 (``SOURCE_PIXEL``):

- *central*: 16 x 16 pixels (2.7 arcsec, about an SDSS fibre);
- *outskirts*: 48 x 48 pixels (8.1 arcsec) without the central ones;
- *border*: the outermost 16 pixels on every side, where the background is measured.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmagn.records import BANDS, CUTOUT_PIXELS, Cutout, square_about_source

CENTRAL_PIXELS = 16
OUTSKIRTS_PIXELS = 48
BORDER_PIXELS = 16
BACKGROUND_CLIP_SIGMA = 3.0
BACKGROUND_CLIP_ROUNDS = 5
MIN_VALID_FRACTION = 0.9
"""The centre counts as masked where less of it is valid; a larger hole could hide the nucleus itself."""
MIN_BORDER_VALID_FRACTION = 0.05


def imaging_features(cutouts: Sequence[Cutout]) -> NDArray[np.float64]:
    """Return concentration and contrast of the i-band light of each cutout, NaN where undefined.

    The background is the sigma-clipped median of the valid border pixels. Invalid pixels are left out of every sum and
    mean and nothing is put in their place: a masked neighbour loses its light from the total, and up to a tenth of the
    centre may miss from the central light.

    Parameters
    ----------
    cutouts
        Images of some objects; many at once take less time each.

    Returns
    -------
    (cutout, 2) float64:

    concentration
        Background-subtracted light of the central pixels over that of the whole cutout. May pass 1 where noise makes
        the light outside the centre negative.
    contrast
        (mean central - mean outskirts) / mean central surface brightness, background-subtracted: 1 for a point source,
        0 for a flat galaxy.

    Notes
    -----
    Both are NaN where the centre is masked (less than 90 % of its pixels valid) or the border has too few valid pixels
    (less than 5 %); concentration also where the total is 0 or less, contrast also where the mean central surface
    brightness is 0 or less or no pixel of the outskirts is valid.
    """
    if not cutouts:
        return np.empty((0, 2))
    band = BANDS.index("i")
    flux = np.stack([cutout.flux[band] for cutout in cutouts])
    valid = np.stack([cutout.ivar[band] > 0 for cutout in cutouts])
    squares = [_central(size) for size in (CENTRAL_PIXELS, OUTSKIRTS_PIXELS, CUTOUT_PIXELS)]
    pixels = [np.array([np.count_nonzero(image) for image in valid[square]]) for square in squares]
    for masked in np.flatnonzero(pixels[-1] < CUTOUT_PIXELS**2):
        flux[masked, ~valid[masked]] = 0
    light = [flux[square].sum((1, 2), dtype=np.float64) for square in squares]
    background = _backgrounds(_border(flux), _border(valid))
    background[pixels[0] < MIN_VALID_FRACTION * CENTRAL_PIXELS**2] = np.nan
    central, near, total = (sums - background * count for sums, count in zip(light, pixels, strict=True))
    with np.errstate(divide="ignore", invalid="ignore"):  # divisions by zero become NaN
        concentration = np.where(total > 0, central / total, np.nan)
        mean_central, mean_outskirts = central / pixels[0], (near - central) / (pixels[1] - pixels[0])
        defined = (mean_central > 0) & (pixels[1] > pixels[0])
        contrast = np.where(defined, (mean_central - mean_outskirts) / mean_central, np.nan)
    return np.stack((concentration, contrast), axis=1)


def _backgrounds(border: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the (cutout,) level of the valid ones of (cutout, pixel) border pixels, NaN where they are too few."""
    rising = np.sort(np.where(valid, border, np.float32(np.inf)), axis=1)
    few, background = MIN_BORDER_VALID_FRACTION * border.shape[1], np.full(len(border), np.nan)
    for row, valid_pixels in enumerate(valid):
        if (count := np.count_nonzero(valid_pixels)) >= few:
            background[row] = clipped_median(rising[row, :count])
    return background


def _central(size: int) -> tuple[slice, slice, slice]:
    """Return the index of the ``size`` x ``size`` pixels about the source of (cutout, height, width) images."""
    part = square_about_source(size)
    return slice(None), part, part


def _border(images: NDArray[Any]) -> NDArray[Any]:
    """Return the (cutout, pixel) border of images, in no order that means anything."""
    inner = images[:, BORDER_PIXELS:-BORDER_PIXELS]
    strips = (
        images[:, :BORDER_PIXELS],
        images[:, -BORDER_PIXELS:],
        inner[:, :, :BORDER_PIXELS],
        inner[:, :, -BORDER_PIXELS:],
    )
    return np.concatenate([strip.reshape(len(images), -1) for strip in strips], axis=1)


def clipped_median(rising: NDArray[np.floating]) -> float:
    """Return the median of sorted values without outliers, that of ``astropy.stats.sigma_clipped_stats``.

    It takes a fraction of the time: what is left of sorted values after each round is a slice.
    """
    kept = rising.astype(np.float64)
    origin = _middle(kept)
    kept -= origin  # squares about a value in their midst lose no digits
    for _ in range(BACKGROUND_CLIP_ROUNDS):
        median, variance = _middle(kept), float(kept @ kept) / len(kept) - float(kept.mean()) ** 2
        reach = BACKGROUND_CLIP_SIGMA * math.sqrt(max(variance, 0))
        first = int(kept.searchsorted(median - reach, side="left"))
        stop = int(kept.searchsorted(median + reach, side="right"))
        if stop - first == len(kept):
            break
        kept = kept[first:stop]
    return origin + _middle(kept)


def _middle(rising: NDArray[np.float64]) -> float:
    half = len(rising) // 2
    return float(rising[half]) if len(rising) % 2 else float(rising[half - 1] + rising[half]) / 2

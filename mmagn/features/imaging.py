"""The two features of the image: concentration and contrast of the i-band light.

All regions are squares about the middle of the cutout, between pixels 79 and 80 of 160:

- *central*: the 16 x 16 pixels (2.7 arcsec, about an SDSS fibre) in the middle;
- *outskirts*: the 48 x 48 pixels (8.1 arcsec) in the middle without the central ones;
- *border*: the outermost 16 pixels on every side, where the background is measured.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmagn.records import BANDS, CUTOUT_PIXELS, Cutout

CENTRAL_PIXELS = 16
OUTSKIRTS_PIXELS = 48
BORDER_PIXELS = 16
BACKGROUND_CLIP_SIGMA = 3.0
BACKGROUND_CLIP_ROUNDS = 5
MIN_VALID_FRACTION = 0.9
"""The centre counts as masked where less of it is valid; a larger hole could hide the nucleus itself."""
MIN_BORDER_VALID_FRACTION = 0.05


def imaging_features(cutout: Cutout) -> tuple[float, float]:
    """Return concentration and contrast of the i-band light, NaN where undefined.

    The background is the sigma-clipped median of the valid border pixels. Invalid pixels are left out of every sum and
    mean and nothing is put in their place: a masked neighbour loses its light from the total, and up to a tenth of the
    centre may miss from the central light.

    Parameters
    ----------
    cutout
        The image of one object.

    Returns
    -------
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
    band = BANDS.index("i")
    valid = np.asarray(cutout.ivar[band] > 0)
    flux = cutout.flux[band]
    squares = (CENTRAL_PIXELS, OUTSKIRTS_PIXELS, CUTOUT_PIXELS)
    light, pixels = zip(*(_light(flux, valid, size) for size in squares), strict=True)
    seen = _border(valid)
    if pixels[0] < MIN_VALID_FRACTION * CENTRAL_PIXELS**2 or seen.mean() < MIN_BORDER_VALID_FRACTION:
        return np.nan, np.nan
    background = clipped_median(_border(flux)[seen])
    above = [total - background * count for total, count in zip(light, pixels, strict=True)]
    concentration = above[0] / above[2] if above[2] > 0 else np.nan
    mean_central = above[0] / pixels[0]
    if mean_central <= 0 or pixels[1] == pixels[0]:
        return concentration, np.nan
    mean_outskirts = (above[1] - above[0]) / (pixels[1] - pixels[0])
    return concentration, (mean_central - mean_outskirts) / mean_central


def _light(flux: NDArray[np.float32], valid: NDArray[np.bool_], size: int) -> tuple[float, int]:
    """Return the sum over the valid pixels of the central ``size`` x ``size`` ones, and their number."""
    edge = (CUTOUT_PIXELS - size) // 2
    part = (slice(edge, edge + size), slice(edge, edge + size))
    pixels = int(np.count_nonzero(valid[part]))
    seen = flux[part] if pixels == size * size else np.where(valid[part], flux[part], 0)
    return float(seen.sum(dtype=np.float64)), pixels


def _border(image: NDArray[Any]) -> NDArray[Any]:
    """Return the pixels of the border, in no order that means anything."""
    inner = image[BORDER_PIXELS:-BORDER_PIXELS]
    strips = (image[:BORDER_PIXELS], image[-BORDER_PIXELS:], inner[:, :BORDER_PIXELS], inner[:, -BORDER_PIXELS:])
    return np.concatenate([strip.ravel() for strip in strips])


def clipped_median(values: NDArray[np.floating]) -> float:
    """Return the median without outliers, that of ``astropy.stats.sigma_clipped_stats``, several times as fast.

    Sorted once, what is left after each round is a slice.
    """
    kept = np.sort(values).astype(np.float64)
    for _ in range(BACKGROUND_CLIP_ROUNDS):
        median, reach = _middle(kept), BACKGROUND_CLIP_SIGMA * float(kept.std())
        first = int(np.searchsorted(kept, median - reach, side="left"))
        stop = int(np.searchsorted(kept, median + reach, side="right"))
        if stop - first == len(kept):
            break
        kept = kept[first:stop]
    return _middle(kept)


def _middle(rising: NDArray[np.float64]) -> float:
    half = len(rising) // 2
    return float(rising[half]) if len(rising) % 2 else float(rising[half - 1] + rising[half]) / 2

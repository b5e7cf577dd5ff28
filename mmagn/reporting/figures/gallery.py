"""Galaxies as people see them: the HSC image in colour beside the SDSS spectrum with its lines."""

from collections.abc import Sequence

import numpy as np
from astropy.visualization import make_lupton_rgb
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from mmagn.lines import LINE_BY_NAME
from mmagn.records import BANDS, PIXEL_SCALE_ARCSEC, Cutout, Pair, Spectrum
from mmagn.reporting.figures.style import BLACK, BLUE, CLASS_COLORS, GREY, LIGHT_GREY, blank_figure, styled

RGB_BANDS = ("i", "r", "g")
"""Bands shown as red, green and blue (Lupton+2004)."""
REST_RANGE_ANGSTROM = (3700.0, 7000.0)
SMOOTHING_PIXELS = 3
SCALE_BAR_ARCSEC = 5.0
LINE_MARKS = (
    (r"H$\beta$", ("hbeta",)),
    ("[O III]", ("oiii_4959", "oiii_5007")),
    ("[O I]", ("oi_6302",)),
    (r"H$\alpha$ [N II]", ("nii_6548", "halpha", "nii_6584")),
    ("[S II]", ("sii_6718", "sii_6733")),
)
"""Labels of the spectrum panels and the lines that each stands for."""
_INVALID_GREY = 110
_LABEL_HEIGHTS = (1.02, 1.12)
"""Labels stand on two levels in turn, so that neighbours never touch."""


@styled
def gallery_figure(
    pairs: Sequence[Pair],
    classes: Sequence[str],
    *,
    captions: Sequence[str] = (),
    columns: int = 2,
) -> Figure:
    """Return image and spectrum of some galaxies of each class, one class per row.

    Parameters
    ----------
    pairs
        Galaxies; of each class the first ``columns`` are shown.
    classes
        Class of each pair, rows in order of appearance.
    captions
        Text under the name of each pair, such as its probability; empty shows none.
    columns
        Galaxies per row.

    Raises
    ------
    ValueError
        Where the lengths differ.
    """
    if len(classes) != len(pairs) or len(captions) not in (0, len(pairs)):
        raise ValueError(
            f"{len(pairs)} pairs came with {len(classes)} classes and {len(captions)} captions; allowed: one each"
        )
    rows = list(dict.fromkeys(classes))
    figure = blank_figure(6.6 * columns, 2.7 * max(1, len(rows)) + 0.4)
    if not rows:
        figure.text(0.5, 0.5, "no galaxies", ha="center", va="center", color=GREY)
        return figure
    grid = figure.add_gridspec(len(rows), 2 * columns, width_ratios=[1, 2.1] * columns)
    members = {name: [number for number, each in enumerate(classes) if each == name][:columns] for name in rows}
    lowest = {column: number for shown in members.values() for column, number in enumerate(shown)}.values()
    for row, name in enumerate(rows):
        for column, number in enumerate(members[name]):
            image = figure.add_subplot(grid[row, 2 * column])
            spectrum = figure.add_subplot(grid[row, 2 * column + 1])
            draw_cutout(image, pairs[number].cutout)
            draw_spectrum(spectrum, pairs[number].spectrum, color=CLASS_COLORS.get(name, BLUE))
            caption = f"   {captions[number]}" if captions else ""
            redshift = pairs[number].spectrum.redshift
            spectrum.set_title(f"{name}   z = {redshift:.3f}{caption}", loc="left", pad=29, fontsize=10.5)
            if number in lowest:
                spectrum.set_xlabel(r"Rest wavelength, vacuum [$\mathrm{\AA}$]")
    return figure


def rgb_image(cutout: Cutout) -> NDArray[np.uint8]:
    """Return the cutout in colour (height, width, 3), grey where one of the three bands is not valid.

    Brightness is asinh-scaled (Lupton+2004) with the noise of the image as unit, so that the sky is dark and faint
    outskirts show.
    """
    chosen = [BANDS.index(band) for band in RGB_BANDS]
    valid = cutout.valid[chosen].all(axis=0)
    planes = [np.where(valid, cutout.flux[band], 0).astype(np.float64) for band in chosen]
    if not valid.any():
        return np.full((*valid.shape, 3), _INVALID_GREY, dtype=np.uint8)
    mean = np.mean(planes, axis=0)[valid]
    sky = float(np.median(mean))
    noise = 1.4826 * float(np.median(np.abs(mean - sky))) or 1.0
    picture = make_lupton_rgb(*planes, minimum=min(sky, 0.0) - noise, stretch=12 * noise, Q=9)
    picture[~valid] = _INVALID_GREY
    return np.asarray(picture, dtype=np.uint8)


def draw_cutout(axes: Axes, cutout: Cutout) -> None:
    """Draw the cutout in colour with a scale bar."""
    picture = rgb_image(cutout)
    height, width = picture.shape[:2]
    axes.imshow(picture, origin="lower", interpolation="nearest")
    start, length = 0.06 * width, SCALE_BAR_ARCSEC / PIXEL_SCALE_ARCSEC
    axes.plot([start, start + length], [0.07 * height] * 2, color="white", linewidth=2, solid_capstyle="butt")
    axes.text(start, 0.1 * height, f'{SCALE_BAR_ARCSEC:g}"', color="white", fontsize=9, va="bottom")
    axes.set(xlim=(-0.5, width - 0.5), ylim=(-0.5, height - 0.5), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def draw_spectrum(axes: Axes, spectrum: Spectrum, *, color: str = BLUE) -> None:
    """Draw a spectrum in its rest frame, smoothed over the unsmoothed one, with its diagnostic lines marked."""
    rest_angstrom = spectrum.wavelength_angstrom.astype(np.float64) / (1 + spectrum.redshift)
    shown = (rest_angstrom >= REST_RANGE_ANGSTROM[0]) & (rest_angstrom <= REST_RANGE_ANGSTROM[1])
    usable = shown & spectrum.valid
    axes.set_ylabel(r"$f_\lambda$ [$10^{-17}$ cgs/$\mathrm{\AA}$]")
    axes.set_xlim(REST_RANGE_ANGSTROM)
    if not usable.any():
        axes.text(0.5, 0.5, "no valid pixels here", transform=axes.transAxes, ha="center", va="center", color=GREY)
        return
    flux = np.where(spectrum.valid, spectrum.flux, np.nan).astype(np.float64)[shown]
    smooth = _smoothed(spectrum.flux[shown], spectrum.ivar[shown])
    axes.plot(rest_angstrom[shown], flux, color=LIGHT_GREY, linewidth=0.6)
    axes.plot(rest_angstrom[shown], smooth, color=color, linewidth=1.0)
    finite = smooth[np.isfinite(smooth)]
    low, high = float(np.quantile(finite, 0.005)), float(finite.max())
    margin = 0.08 * (high - low) or 1.0
    axes.set_ylim(min(low, 0.9 * low) - margin, high + margin)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    mark_lines(axes)


def _smoothed(flux: ArrayLike, ivar: ArrayLike) -> NDArray[np.float64]:
    """Return the ivar-weighted running mean (pixel,), NaN where the window holds nothing valid."""
    weight, box = np.asarray(ivar, dtype=np.float64), np.ones(SMOOTHING_PIXELS)
    total = np.convolve(weight, box, mode="same")
    weighted = np.convolve(weight * np.asarray(flux, dtype=np.float64), box, mode="same")
    return np.divide(weighted, total, out=np.full_like(total, np.nan), where=total > 0)


def mark_lines(axes: Axes) -> None:
    """Mark the diagnostic lines of a rest-frame axis and name them above it."""
    above = axes.get_xaxis_transform()
    for number, (label, names) in enumerate(LINE_MARKS):
        waves = [LINE_BY_NAME[name].wavelength_angstrom for name in names]
        for wave in waves:
            axes.axvline(wave, color=BLACK, linewidth=0.6, linestyle=":", alpha=0.6, zorder=0)
        height = _LABEL_HEIGHTS[number % 2]
        axes.text(float(np.mean(waves)), height, label, transform=above, ha="center", va="bottom", fontsize=8.5)

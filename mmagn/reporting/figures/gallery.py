"""HSC images in colour and spectra with their lines: the gallery, AGN against other galaxies, spectra of cards."""

from collections.abc import Sequence

import numpy as np
from astropy.visualization import make_lupton_rgb
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from mmagn.lines import LINE_BY_NAME
from mmagn.records import BANDS, PIXEL_SCALE_ARCSEC, Cutout, Floats, Pair, Spectrum
from mmagn.reporting.figures.style import (
    BLACK,
    BLUE,
    CLASS_COLORS,
    CLASS_NAMES,
    FLUX_DENSITY,
    GREY,
    LIGHT_GREY,
    REST_WAVELENGTH,
    VERMILION,
    blank_figure,
    message,
    styled,
)

RGB_BANDS = ("i", "r", "g")
"""Bands shown as red, green and blue (Lupton+2004)."""
REST_RANGE_ANGSTROM = (3700.0, 7000.0)
SMOOTHING_PIXELS = 3
CARD_PIXELS = 4
"""Spacing of the points of a spectrum on a card, in pixels."""
SCALE_BAR_ARCSEC = 5.0
IMAGES_PER_ROW = 6
LINE_MARKS = (
    ("Hβ", ("hbeta",)),
    ("[O III]", ("oiii_4959", "oiii_5007")),
    ("[O I]", ("oi_6302",)),
    ("Hα [N II]", ("nii_6548", "halpha", "nii_6584")),
    ("[S II]", ("sii_6718", "sii_6733")),
)
"""Labels of the spectrum panels and the lines that each stands for."""
_INVALID_GREY = 110
_LABEL_HEIGHTS = (1.01, 1.12)
"""Labels stand on two levels in turn, so that neighbours never touch."""


@styled
def gallery_figure(
    pairs: Sequence[Pair], classes: Sequence[str], *, captions: Sequence[str] = (), columns: int = 2
) -> Figure:
    """Return image and spectrum of some galaxies of each class, one class per row in order of appearance.

    A row has the first ``columns`` galaxies of its class. The captions (pair,), such as probability and outcome, are
    part of the titles; without any the titles have none.
    """
    rows = list(dict.fromkeys(classes))
    figure = blank_figure(6.2 * columns, 2.8 * max(1, len(rows)))
    if not rows:
        figure.text(0.5, 0.5, "no galaxies", ha="center", va="center", color=GREY)
        return figure
    panels = np.asarray(figure.subfigures(len(rows), columns, squeeze=False))
    for row, name in enumerate(rows):
        members = [number for number, each in enumerate(classes) if each == name][:columns]
        for panel, number in zip(panels[row], members, strict=False):
            pair, spectrum = pairs[number], pairs[number].spectrum
            caption = f" · {captions[number]}" if captions else ""
            heading = (
                f"{CLASS_NAMES.get(name, name)} · z = {spectrum.redshift:.3f}{caption}\n"
                f"{spectrum.object_id} · RA {spectrum.ra_deg % 360:.5f}°, Dec {spectrum.dec_deg:+.5f}°"
            )
            panel.suptitle(heading, x=0.02, ha="left", fontsize=9.5, parse_math=False)
            image, axes = panel.subplots(1, 2, width_ratios=[1, 2.1])
            draw_cutout(image, pair.cutout)
            draw_spectrum(axes, spectrum, color=CLASS_COLORS.get(name, BLUE))
            axes.set_xlabel(REST_WAVELENGTH, fontsize=9)
            axes.set_ylabel("[10⁻¹⁷ erg/s/cm²/Å]", fontsize=9)
    return figure


@styled
def image_rows_figure(agn: Sequence[Cutout], others: Sequence[Cutout]) -> Figure:
    """Return HSC images of galaxies with the label AGN above images of galaxies without it."""
    rows = {"AGN": (list(agn)[:IMAGES_PER_ROW], VERMILION), "not AGN": (list(others)[:IMAGES_PER_ROW], BLUE)}
    count = max(1, *(len(cutouts) for cutouts, _ in rows.values()))
    figure = blank_figure(1.5 * count + 0.5, 3.4)
    panels = figure.subplots(2, count, squeeze=False)
    for axes_of_row, (name, (cutouts, color)) in zip(panels, rows.items(), strict=True):
        for axes in axes_of_row:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        for axes, cutout in zip(axes_of_row, cutouts, strict=False):
            draw_cutout(axes, cutout)
        if not cutouts:
            message(axes_of_row[0], "none in this sample")
        axes_of_row[0].set_ylabel(name, color=color, fontsize=12)
    return figure


@styled
def card_figure() -> Figure:
    """Return a small figure with named lines for :func:`draw_card_spectrum`; one serves for many spectra in turn."""
    figure = blank_figure(4.0, 1.75)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0.1, 0.14, 0.88, 0.65))
    axes.set(xlim=REST_RANGE_ANGSTROM, xticks=[4000, 5000, 6000])
    axes.yaxis.set_major_locator(MaxNLocator(nbins=3))
    mark_lines(axes)
    return figure


def draw_card_spectrum(figure: Figure, spectrum: Spectrum) -> None:
    """Draw a spectrum in its rest frame in place of the one before."""
    (axes,) = figure.axes
    for artist in [each for each in (*axes.lines, *axes.texts) if each.get_gid() == "spectrum"]:
        artist.remove()
    rest_angstrom, _, inside = rest_window(spectrum, REST_RANGE_ANGSTROM)
    smooth = _smoothed(spectrum.flux[inside], spectrum.ivar[inside])
    if not np.isfinite(smooth).any():
        axes.text(0.5, 0.5, "no valid pixels here", transform=axes.transAxes, ha="center", gid="spectrum")
        return
    points = slice(CARD_PIXELS // 2, None, CARD_PIXELS)
    axes.plot(rest_angstrom[points], smooth[points], color=BLUE, linewidth=1.0, gid="spectrum")
    axes.set_ylim(*_flux_range(smooth))


def rgb_image(cutout: Cutout) -> NDArray[np.uint8]:
    """Return the cutout in colour (height, width, 3), grey where one of the three bands is not valid.

    Brightness is asinh-scaled (Lupton+2004) with the noise of the image as unit, so that the sky is dark and faint
    outskirts show.
    """
    planes_of = [BANDS.index(band) for band in RGB_BANDS]
    valid = cutout.valid[planes_of].all(axis=0)
    planes = [np.where(valid, cutout.flux[band], 0).astype(np.float64) for band in planes_of]
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
    axes.plot([start, start + length], [0.07 * height] * 2, color="#fefefe", linewidth=2, solid_capstyle="butt")
    axes.text(start, 0.1 * height, f'{SCALE_BAR_ARCSEC:g}"', color="#fefefe", fontsize=9, va="bottom")
    axes.set(xlim=(-0.5, width - 0.5), ylim=(-0.5, height - 0.5), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def draw_spectrum(axes: Axes, spectrum: Spectrum, *, color: str = BLUE) -> None:
    """Draw a spectrum in its rest frame, smoothed over the unsmoothed one, with its diagnostic lines marked."""
    rest_angstrom, flux, inside = rest_window(spectrum, REST_RANGE_ANGSTROM)
    smooth = _smoothed(spectrum.flux[inside], spectrum.ivar[inside])
    axes.set_ylabel(FLUX_DENSITY)
    axes.set_xlim(REST_RANGE_ANGSTROM)
    if not np.isfinite(smooth).any():
        message(axes, "no valid pixels here")
        return
    axes.plot(rest_angstrom, flux, color=LIGHT_GREY, linewidth=0.6)
    axes.plot(rest_angstrom, smooth, color=color, linewidth=1.0)
    axes.set_ylim(*_flux_range(smooth))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    mark_lines(axes)


def rest_window(spectrum: Spectrum, window_angstrom: tuple[float, float]) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Return rest wavelength and flux (NaN where invalid) of the pixels in a rest-frame window, and which they are."""
    rest_angstrom = spectrum.wavelength_angstrom.astype(np.float64) / (1 + spectrum.redshift)
    inside = (rest_angstrom >= window_angstrom[0]) & (rest_angstrom <= window_angstrom[1])
    flux = np.where(spectrum.valid, spectrum.flux, np.nan).astype(np.float64)
    return rest_angstrom[inside], flux[inside], inside


def _flux_range(smooth: Floats) -> tuple[float, float]:
    finite = smooth[np.isfinite(smooth)]
    low, high = float(np.quantile(finite, 0.005)), float(finite.max())
    margin = 0.08 * (high - low) or 1.0
    return min(low, 0.9 * low) - margin, high + margin


def _smoothed(flux: ArrayLike, ivar: ArrayLike) -> Floats:
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

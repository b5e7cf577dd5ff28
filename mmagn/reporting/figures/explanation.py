"""Why a network says what it says of one galaxy, as one picture: image, spectrum with line names, features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter

from mmagn.evaluation.attribution import Gradients
from mmagn.evaluation.permutation import Importance
from mmagn.lines import LINE_BY_NAME
from mmagn.records import PIXEL_SCALE_ARCSEC, Cutout, Floats
from mmagn.reporting.figures.gallery import draw_cutout, mark_lines
from mmagn.reporting.figures.style import BLACK, BLUE, GREY, LIGHT_GREY, VERMILION, blank_figure, styled

TOWARDS, AGAINST = VERMILION, BLUE
SMOOTHING_PIXELS = 1.5
"""Dispersion of the Gaussian that single pixels are smoothed with: strides of a network leave a checkerboard."""
_MAP = "RdBu_r"
"""Red towards AGN, blue against."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """What is drawn of one galaxy.

    Attributes
    ----------
    title
        Who it is and what the network says.
    cutout
        Its image, None where it has none.
    gradients
        Integrated gradients.
    image_occlusion
        (row, column) fall of the logit by patch, None without an image branch.
    wavelength_angstrom
        (pixel,) rest-frame grid of the spectrum.
    spectrum
        (2, pixel) what the network is shown, None without a spectrum branch.
    spectrum_occlusion
        (pixel,) fall of the logit of the windows around each pixel.
    line_falls
        Fall of the logit where one line is taken out, by name.
    features
        Names of the features.
    importance
        Permutation importance of the features on a split; empty where there is none.
    importance_split
        That split.
    """

    title: str
    cutout: Cutout | None
    gradients: Gradients
    image_occlusion: Floats | None
    wavelength_angstrom: Floats
    spectrum: Floats | None
    spectrum_occlusion: Floats | None
    line_falls: Mapping[str, float]
    features: Sequence[str]
    importance: Sequence[Importance]
    importance_split: str

    def plot(self) -> Figure:
        """Return the maps as a figure."""
        return explanation_figure(self)


@styled
def explanation_figure(told: Explanation) -> Figure:
    """Return what speaks for and against an AGN in one galaxy: red towards AGN, blue against it."""
    figure = blank_figure(13.0, 12.0)
    figure.suptitle(f"{told.title}   (red speaks for an AGN, blue against it)\n")
    rows = np.atleast_1d(np.asarray(figure.subfigures(3, 1, height_ratios=[1.1, 1.25, 1.0])))
    of_image = (_draw_picture, _draw_image_gradients, _draw_image_occlusion)
    of_features = (_draw_lines, _draw_feature_gradients, _draw_importance)
    for row, panels in ((rows[0], of_image), (rows[2], of_features)):
        for axes, draw in zip(row.subplots(1, len(panels)), panels, strict=True):
            draw(axes, told)
    above, below = rows[1].subplots(2, 1, sharex=True)
    _draw_spectrum(above, below, told)
    return figure


def _nothing(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _draw_picture(axes: Axes, told: Explanation) -> None:
    axes.set_title("HSC i, r, g; in the square: what is seen", loc="left", fontsize=10.5)
    if told.cutout is None:
        _nothing(axes, "no image")
        return
    draw_cutout(axes, told.cutout)
    if (shares := told.gradients.parts.get("image")) is not None:
        size, whole = shares.shape[-1], told.cutout.flux.shape[-1]
        corner = (whole - size) / 2 - 0.5
        side = corner + size
        axes.plot([corner, side, side, corner, corner], [corner, corner, side, side, corner], color="white", lw=0.8)


def _draw_image_gradients(axes: Axes, told: Explanation) -> None:
    axes.set_title(f"Image: integrated gradients, smoothed by {SMOOTHING_PIXELS:g} px", loc="left", fontsize=10.5)
    shares = told.gradients.parts.get("image")
    smooth = None if shares is None else gaussian_filter(shares.sum(axis=0), SMOOTHING_PIXELS)
    _draw_map(axes, smooth, shares, "logit per pixel")


def _draw_image_occlusion(axes: Axes, told: Explanation) -> None:
    axes.set_title("Image: occlusion by empty sky", loc="left", fontsize=10.5)
    _draw_map(axes, told.image_occlusion, told.gradients.parts.get("image"), "fall of the logit")


def _draw_map(axes: Axes, values: Floats | None, shares: Floats | None, label: str) -> None:
    if values is None or shares is None:
        _nothing(axes, "no image")
        return
    half = shares.shape[-1] * PIXEL_SCALE_ARCSEC / 2
    limit = float(np.quantile(np.abs(values), 0.998)) or 1e-12
    extent = (-half, half, -half, half)
    drawn = axes.imshow(
        values, origin="lower", cmap=_MAP, vmin=-limit, vmax=limit, extent=extent, interpolation="nearest"
    )
    axes.set(xlabel="arcsec")
    bar = axes.figure.colorbar(drawn, ax=axes, shrink=0.85)
    bar.set_label(label, fontsize=9.5)
    bar.ax.tick_params(labelsize=8.5)


def _draw_spectrum(above: Axes, below: Axes, told: Explanation) -> None:
    shares = told.gradients.parts.get("spectrum")
    if told.spectrum is None or shares is None:
        _nothing(above, "no spectrum")
        _nothing(below, "")
        return
    grid, seen = told.wavelength_angstrom, told.spectrum[1] > 0
    excess = np.where(seen, told.spectrum[0], np.nan)
    above.plot(grid, excess, color=GREY, linewidth=0.8)
    above.set_ylabel("asinh(excess\nover continuum)")
    above.set_xlim(grid[0], grid[-1])
    above.tick_params(labelbottom=False)
    mark_lines(above)
    limit = float(np.max(np.abs(shares))) or 1e-12
    width = float(np.median(np.diff(grid)))
    below.bar(grid, shares, width=1.6 * width, color=np.where(shares > 0, TOWARDS, AGAINST).tolist(), linewidth=0)
    below.set(ylim=(-1.1 * limit, 1.1 * limit), xlabel=r"Rest wavelength, vacuum [$\mathrm{\AA}$]")
    below.set_ylabel("integrated gradients\n(logit per pixel)", fontsize=9.5)
    below.axhline(0, color=BLACK, linewidth=0.5)
    for name in told.line_falls:
        wave = LINE_BY_NAME[name].wavelength_angstrom
        below.axvline(wave, color=BLACK, linewidth=0.5, linestyle=":", alpha=0.5, zorder=0)
    if told.spectrum_occlusion is not None:
        twin = below.twinx()
        twin.plot(grid, told.spectrum_occlusion, color=BLACK, linewidth=1.0, label="occlusion")
        largest = float(np.max(np.abs(told.spectrum_occlusion))) or 1e-12
        twin.set_ylim(-1.1 * largest, 1.1 * largest)
        twin.set_ylabel("line: occlusion\n(fall of the logit)", fontsize=9.5)


def _draw_lines(axes: Axes, told: Explanation) -> None:
    axes.set_title("Spectrum: one line taken out", loc="left", fontsize=10.5)
    if not told.line_falls:
        _nothing(axes, "no spectrum")
        return
    _bars(axes, [LINE_BY_NAME[name].label for name in told.line_falls], list(told.line_falls.values()))
    axes.set_xlabel("fall of the logit")


def _draw_feature_gradients(axes: Axes, told: Explanation) -> None:
    axes.set_title("Features of this galaxy", loc="left", fontsize=10.5)
    shares = told.gradients.parts.get("features")
    if shares is None:
        _nothing(axes, "no features branch")
        return
    _bars(axes, list(told.features), shares.tolist())
    axes.set_xlabel("integrated gradients (logit)")


def _draw_importance(axes: Axes, told: Explanation) -> None:
    axes.set_title(f"Features over the {told.importance_split} split", loc="left", fontsize=10.5)
    if not told.importance:
        _nothing(axes, "no importance")
        return
    places = np.arange(len(told.importance))[::-1]
    for place, each in zip(places.tolist(), told.importance, strict=True):
        axes.plot([each.low, each.high], [place, place], color=GREY, linewidth=2.0, solid_capstyle="butt")
        axes.plot(each.value, place, "o", color=BLACK, markersize=5)
    axes.axvline(0, color=LIGHT_GREY, linewidth=0.8, zorder=0)
    axes.set_yticks(places, [each.name for each in told.importance], fontsize=8.5)
    axes.set_xlabel("loss of average precision when permuted")


def _bars(axes: Axes, names: list[str], values: list[float]) -> None:
    places = np.arange(len(names))[::-1]
    axes.locator_params(axis="x", nbins=5)
    axes.barh(places, values, color=[TOWARDS if value > 0 else AGAINST for value in values], height=0.7)
    axes.axvline(0, color=BLACK, linewidth=0.5)
    axes.set_yticks(places, names, fontsize=8.5)

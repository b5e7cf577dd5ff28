"""Why a network gives one galaxy its logit: contributions of the inputs, image, spectrum with line names, features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter

from mmagn.evaluation.attribution import Gradients
from mmagn.evaluation.permutation import Importance
from mmagn.lines import LINE_BY_NAME
from mmagn.records import PIXEL_SCALE_ARCSEC, Cutout, Floats, square_about_source
from mmagn.reporting.figures.gallery import draw_cutout, mark_lines
from mmagn.reporting.figures.style import (
    BLACK,
    BLUE,
    GREY,
    LIGHT_GREY,
    REST_WAVELENGTH,
    VERMILION,
    blank_figure,
    message,
    plain_label,
    styled,
)

TOWARDS, AGAINST = VERMILION, BLUE
SMOOTHING_PIXELS = 1.5
"""Dispersion of the Gaussian that single pixels are smoothed with: strides of a network leave a checkerboard."""
_MAP = "RdBu_r"
"""Red towards AGN, blue against."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """The explanation of one galaxy.

    Attributes
    ----------
    title, cutout
        Its name and probability; its image, None where it has none.
    gradients, image_occlusion
        Integrated gradients; (row, column) fall of the logit by patch, None without an image branch.
    wavelength_angstrom, spectrum
        (pixel,) rest-frame grid, and (2, pixel) input of the spectrum branch, None without one.
    spectrum_occlusion, line_falls
        (pixel,) fall of the logit of the windows around each pixel; that where one line is blanked, by name.
    features
        Names of the features.
    importance, importance_split
        Permutation importance of the features on a split, empty where there is none, and that split.
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

    @property
    def smooth_image_shares(self) -> Floats | None:
        """(height, width) share of the logit of each pixel of the image, smoothed, summed over bands."""
        shares = self.gradients.parts.get("image")
        return None if shares is None else np.asarray(gaussian_filter(shares.sum(axis=0), SMOOTHING_PIXELS))

    @property
    def share_limit(self) -> float:
        """End of the scale of shares per pixel, common to image and spectrum."""
        return _largest(self.smooth_image_shares, self.gradients.parts.get("spectrum"))

    @property
    def fall_limit(self) -> float:
        """End of the scale of falls of the logit, common to image, spectrum and lines."""
        return _largest(self.image_occlusion, self.spectrum_occlusion, list(self.line_falls.values()))

    def plot(self) -> Figure:
        """Return the maps as a figure."""
        return explanation_figure(self)


def _largest(*parts: ArrayLike | None) -> float:
    """Largest absolute value of some arrays."""
    arrays = [np.abs(np.asarray(part, dtype=np.float64)).ravel() for part in parts if part is not None]
    return float(np.max(np.concatenate([*arrays, [1e-12]])))


@styled
def explanation_figure(explanation: Explanation) -> Figure:
    """Return what speaks for and against an AGN in one galaxy: red towards AGN, blue against it."""
    figure = blank_figure(14.0, 12.0)
    heading = f"{explanation.title}   (red speaks for an AGN, blue against it; maps of one unit share their scale)\n"
    figure.suptitle(heading, parse_math=False)
    rows = np.atleast_1d(np.asarray(figure.subfigures(3, 1, height_ratios=[1.0, 1.25, 1.0])))
    above_panels = (_draw_contributions, _draw_picture, _draw_image_gradients, _draw_image_occlusion)
    below_panels = (_draw_lines, _draw_feature_gradients, _draw_importance)
    for row, panels in ((rows[0], above_panels), (rows[2], below_panels)):
        for axes, draw in zip(row.subplots(1, len(panels)), panels, strict=True):
            draw(axes, explanation)
    above, below = rows[1].subplots(2, 1, sharex=True)
    _draw_spectrum(above, below, explanation)
    return figure


def _nothing(axes: Axes, text: str) -> None:
    message(axes, text)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _draw_contributions(axes: Axes, explanation: Explanation) -> None:
    gradients = explanation.gradients
    axes.set_title("Contributions to the logit", loc="left")
    totals = {name: float(part.sum()) for name, part in gradients.parts.items()}
    _bars(axes, list(totals), list(totals.values()))
    for place, value in zip(range(len(totals))[::-1], totals.values(), strict=True):
        text = {"xytext": (4 if value >= 0 else -4, 0), "textcoords": "offset points", "va": "center", "fontsize": 9}
        axes.annotate(f"{value:+.2f}", (value, place), ha="left" if value >= 0 else "right", **text)  # type: ignore[arg-type]
    axes.margins(x=0.25)
    axes.set_xlabel(f"integrated gradients; baseline {gradients.baseline_logit:+.2f}, logit {gradients.logit:+.2f}")


def _draw_picture(axes: Axes, explanation: Explanation) -> None:
    axes.set_title("HSC i, r, g; square: input of the network", loc="left")
    if explanation.cutout is None:
        _nothing(axes, "no image")
        return
    draw_cutout(axes, explanation.cutout)
    if (shares := explanation.gradients.parts.get("image")) is not None:
        size, whole = shares.shape[-1], explanation.cutout.flux.shape[-1]
        corner = square_about_source(size, whole).start - 0.5
        side = corner + size
        axes.plot([corner, side, side, corner, corner], [corner, corner, side, side, corner], color="white", lw=0.8)


def _draw_image_gradients(axes: Axes, explanation: Explanation) -> None:
    axes.set_title(f"Image: shares, smoothed by {SMOOTHING_PIXELS:g} px", loc="left")
    _draw_map(axes, explanation, explanation.smooth_image_shares, explanation.share_limit, "logit per pixel")


def _draw_image_occlusion(axes: Axes, explanation: Explanation) -> None:
    axes.set_title("Image: occlusion by empty sky", loc="left")
    _draw_map(axes, explanation, explanation.image_occlusion, explanation.fall_limit, "fall of the logit")


def _draw_map(axes: Axes, explanation: Explanation, values: Floats | None, limit: float, label: str) -> None:
    shares = explanation.gradients.parts.get("image")
    if values is None or shares is None:
        _nothing(axes, "no image")
        return
    half = shares.shape[-1] * PIXEL_SCALE_ARCSEC / 2
    look = {"cmap": _MAP, "vmin": -limit, "vmax": limit, "extent": (-half, half, -half, half)}
    drawn = axes.imshow(values, origin="lower", interpolation="nearest", **look)  # type: ignore[arg-type]
    axes.set(xlabel="arcsec")
    bar = axes.figure.colorbar(drawn, ax=axes, shrink=0.85)
    bar.set_label(label, fontsize=9.5)
    bar.ax.tick_params(labelsize=8.5)


def _draw_spectrum(above: Axes, below: Axes, explanation: Explanation) -> None:
    shares = explanation.gradients.parts.get("spectrum")
    if explanation.spectrum is None or shares is None:
        _nothing(above, "no spectrum")
        _nothing(below, "")
        return
    grid, valid = explanation.wavelength_angstrom, explanation.spectrum[1] > 0
    excess = np.where(valid, explanation.spectrum[0], np.nan)
    above.plot(grid, excess, color=GREY, linewidth=0.8)
    above.set_ylabel("asinh(excess\nover continuum)")
    above.set_xlim(grid[0], grid[-1])
    above.tick_params(labelbottom=False)
    mark_lines(above)
    limit = explanation.share_limit
    width = float(np.median(np.diff(grid)))
    below.bar(grid, shares, width=1.6 * width, color=np.where(shares > 0, TOWARDS, AGAINST).tolist(), linewidth=0)
    below.set(ylim=(-1.1 * limit, 1.1 * limit), xlabel=REST_WAVELENGTH)
    below.set_ylabel("integrated gradients\n(logit per pixel)", fontsize=9.5)
    below.axhline(0, color=BLACK, linewidth=0.5)
    for name in explanation.line_falls:
        wave = LINE_BY_NAME[name].wavelength_angstrom
        below.axvline(wave, color=BLACK, linewidth=0.5, linestyle=":", alpha=0.5, zorder=0)
    if explanation.spectrum_occlusion is not None:
        twin = below.twinx()
        twin.plot(grid, explanation.spectrum_occlusion, color=BLACK, linewidth=1.0, label="occlusion")
        twin.set_ylim(-1.1 * explanation.fall_limit, 1.1 * explanation.fall_limit)
        twin.set_ylabel("line: occlusion\n(fall of the logit)", fontsize=9.5)


def _draw_lines(axes: Axes, explanation: Explanation) -> None:
    axes.set_title("Spectrum: one line blanked", loc="left")
    if not explanation.line_falls:
        _nothing(axes, "no spectrum")
        return
    _bars(
        axes,
        [plain_label(LINE_BY_NAME[name].label) for name in explanation.line_falls],
        list(explanation.line_falls.values()),
    )
    axes.set_xlabel("fall of the logit")


def _draw_feature_gradients(axes: Axes, explanation: Explanation) -> None:
    axes.set_title("Features of this galaxy", loc="left")
    shares = explanation.gradients.parts.get("features")
    if shares is None:
        _nothing(axes, "no features branch")
        return
    _bars(axes, list(explanation.features), shares.tolist())
    axes.set_xlabel("integrated gradients (logit)")


def _draw_importance(axes: Axes, explanation: Explanation) -> None:
    axes.set_title(f"Features over the {explanation.importance_split} split", loc="left")
    if not explanation.importance:
        _nothing(axes, "no importance")
        return
    places = np.arange(len(explanation.importance))[::-1]
    for place, each in zip(places.tolist(), explanation.importance, strict=True):
        axes.plot([each.low, each.high], [place, place], color=GREY, linewidth=2.0, solid_capstyle="butt")
        axes.plot(each.value, place, "o", color=BLACK, markersize=5)
    axes.axvline(0, color=LIGHT_GREY, linewidth=0.8, zorder=0)
    axes.set_yticks(places, [each.name for each in explanation.importance], fontsize=8.5)
    axes.set_xlabel("loss of average precision when permuted")


def _bars(axes: Axes, names: list[str], values: list[float]) -> None:
    places = np.arange(len(names))[::-1]
    axes.locator_params(axis="x", nbins=5)
    axes.barh(places, values, color=[TOWARDS if value > 0 else AGAINST for value in values], height=0.7)
    axes.axvline(0, color=BLACK, linewidth=0.5)
    axes.set_yticks(places, names, fontsize=8.5)

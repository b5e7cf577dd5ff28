"""One spectrum with its fit: data, model, continuum, residuals and the names of the lines."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from mmagn.lines import LINES
from mmagn.records import Spectrum
from mmagn.reporting.figures.style import BLACK, BLUE, GREY, LIGHT_GREY, VERMILION, blank_figure, styled

OVERVIEW_ANGSTROM = (3700.0, 7000.0)
CLOSE_UPS_ANGSTROM = ((4780.0, 5080.0), (6260.0, 6400.0), (6500.0, 6780.0))
"""Rest windows shown enlarged: H-beta with [O III], [O I], H-alpha with [N II] and [S II]."""
RESIDUAL_LIMIT = 5.5
"""Half-height of the residual panels in units of the pixel error."""
_LABEL_HEIGHTS = (1.01, 1.08, 1.15)


@styled
def spectrum_figure(
    spectrum: Spectrum, continuum: ArrayLike | None = None, model: ArrayLike | None = None, *, title: str = ""
) -> Figure:
    """Return a spectrum with its fit: the whole of it above, the line windows with residuals below.

    Parameters
    ----------
    spectrum
        The data; invalid pixels are left out and shaded.
    continuum
        (pixel,) fitted stellar continuum on the spectrum's own pixels, 1e-17 erg/s/cm2/A in the observed frame; NaN
        where there is none.
    model
        (pixel,) continuum plus emission lines, likewise; where given, residuals (data - model) / error are drawn.
    title
        Text above the figure; empty names the object, its redshift and its class in the survey.

    Raises
    ------
    ValueError
        If continuum or model has another length than the spectrum.
    """
    curves: dict[str, NDArray[np.float64]] = {}
    for name, values in (("model", model), ("continuum", continuum)):
        if values is not None:
            curves[name] = np.asarray(values, dtype=np.float64)
            if curves[name].shape != spectrum.flux.shape:
                raise ValueError(f"{name} has {curves[name].size} pixels; allowed: the spectrum's {spectrum.flux.size}")
    figure = blank_figure(11.0, 7.6)
    widths = [high - low for low, high in CLOSE_UPS_ANGSTROM]
    grid = figure.add_gridspec(3, len(widths), height_ratios=[1.1, 1.0, 0.45], width_ratios=widths)
    overview = figure.add_subplot(grid[0, :])
    _draw_window(overview, spectrum, curves, OVERVIEW_ANGSTROM)
    name = f"{spectrum.object_id}   z = {spectrum.redshift:.4f}   {spectrum.spectral_class}".rstrip()
    figure.suptitle(title or name)
    for column, window in enumerate(CLOSE_UPS_ANGSTROM):
        close_up = figure.add_subplot(grid[1, column])
        _draw_window(close_up, spectrum, curves, window)
        _name_lines(close_up, window)
        residual = figure.add_subplot(grid[2, column], sharex=close_up)
        _draw_residual(residual, spectrum, curves.get("model"), window)
        close_up.tick_params(labelbottom=False)
        if column == 0:
            residual.set_ylabel("residual / error")
    density = r"$f_\lambda$ [$10^{-17}$ erg/s/cm$^2$/$\mathrm{\AA}$]"
    figure.supxlabel(r"Rest wavelength, vacuum [$\mathrm{\AA}$]", fontsize=11)
    for axes in (overview, figure.axes[1]):
        axes.set_ylabel(density)
    overview.legend(loc="upper left", ncols=3)
    return figure


def _rest_angstrom(spectrum: Spectrum) -> NDArray[np.float64]:
    return spectrum.wavelength_angstrom.astype(np.float64) / (1 + spectrum.redshift)


def _draw_window(
    axes: Axes, spectrum: Spectrum, curves: dict[str, NDArray[np.float64]], window: tuple[float, float]
) -> None:
    rest_angstrom = _rest_angstrom(spectrum)
    shown = (rest_angstrom >= window[0]) & (rest_angstrom <= window[1])
    axes.set_xlim(window)
    if not (shown & spectrum.valid).any():
        axes.text(0.5, 0.5, "no valid pixels here", transform=axes.transAxes, ha="center", va="center", color=GREY)
        return
    flux = np.where(spectrum.valid, spectrum.flux, np.nan).astype(np.float64)[shown]
    axes.step(rest_angstrom[shown], flux, where="mid", color=GREY, linewidth=0.7, label="data")
    for name, color, width in (("model", VERMILION, 1.2), ("continuum", BLUE, 1.2)):
        if name in curves:
            axes.plot(rest_angstrom[shown], curves[name][shown], color=color, linewidth=width, label=name)
    drawn = np.concatenate([flux, *(curve[shown] for curve in curves.values())])
    low, high = np.nanquantile(drawn, 0.002), np.nanmax(drawn)
    margin = 0.06 * (high - low) or 1.0
    axes.set_ylim(low - margin, high + margin)
    _shade_invalid(axes, rest_angstrom[shown], spectrum.valid[shown])


def _draw_residual(
    axes: Axes, spectrum: Spectrum, model: NDArray[np.float64] | None, window: tuple[float, float]
) -> None:
    rest_angstrom = _rest_angstrom(spectrum)
    shown = (rest_angstrom >= window[0]) & (rest_angstrom <= window[1])
    axes.set(xlim=window, ylim=(-RESIDUAL_LIMIT, RESIDUAL_LIMIT), yticks=[-3, 0, 3])
    axes.axhspan(-1, 1, color=LIGHT_GREY, alpha=0.4, linewidth=0)
    axes.axhline(0, color=BLACK, linewidth=0.6)
    if model is not None:
        residual = (spectrum.flux - model) * np.sqrt(spectrum.ivar)
        residual = np.where(spectrum.valid, residual, np.nan)[shown]
        axes.step(rest_angstrom[shown], residual, where="mid", color=GREY, linewidth=0.7)


def _shade_invalid(axes: Axes, rest_angstrom: NDArray[np.float64], valid: NDArray[np.bool_]) -> None:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], ~valid, [False]]).astype(np.int8)))
    for start, stop in edges.reshape(-1, 2):
        low, high = rest_angstrom[start], rest_angstrom[min(stop, len(rest_angstrom) - 1)]
        axes.axvspan(low, high, color=LIGHT_GREY, alpha=0.5, linewidth=0)


def _name_lines(axes: Axes, window: tuple[float, float]) -> None:
    above = axes.get_xaxis_transform()
    inside = sorted(
        (line for line in LINES if window[0] < line.wavelength_angstrom < window[1]),
        key=lambda line: line.wavelength_angstrom,
    )
    for number, line in enumerate(inside):
        axes.axvline(line.wavelength_angstrom, color=LIGHT_GREY, linewidth=0.7, linestyle=":", zorder=0)
        height = _LABEL_HEIGHTS[number % len(_LABEL_HEIGHTS)]
        axes.text(line.wavelength_angstrom, height, line.label, transform=above, ha="center", fontsize=8.5, color=BLACK)

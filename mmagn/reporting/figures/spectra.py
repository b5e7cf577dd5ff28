"""One spectrum with its fit: data, model, continuum, broad lines, residuals, and what was measured."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from mmagn.lines import LINES, REPORTED_LINES
from mmagn.records import Floats, Spectrum
from mmagn.reporting.figures.gallery import REST_RANGE_ANGSTROM, rest_window
from mmagn.reporting.figures.style import (
    BLACK,
    BLUE,
    CLASS_NAMES,
    FLUX_DENSITY,
    GREEN,
    GREY,
    LIGHT_GREY,
    REST_WAVELENGTH,
    VERMILION,
    blank_figure,
    message,
    plain_label,
    styled,
)

CLOSE_UPS_ANGSTROM = ((4780.0, 5080.0), (6260.0, 6400.0), (6500.0, 6780.0))
"""Rest windows shown enlarged: H-beta with [O III], [O I], H-alpha with [N II] and [S II]."""
RESIDUAL_LIMIT = 5.5
"""Half-height of the residual panels in units of the pixel error; residuals beyond are marked at the edge."""
CURVES = {"model": (VERMILION, "-"), "continuum": (BLUE, "-"), "continuum + broad lines": (GREEN, "--")}
"""Colour and dash of each curve, in the order in which they are drawn."""
_LABEL_HEIGHTS = (1.01, 1.09, 1.17)


@styled
def spectrum_figure(
    spectrum: Spectrum, curves: Mapping[str, Floats] | None = None, measured: Mapping[str, Any] | None = None
) -> Figure:
    """Return a spectrum with its fit: the whole of it above, the line windows with residuals below.

    Parameters
    ----------
    spectrum
        The data; invalid pixels are left out and shaded.
    curves
        (pixel,) by a name of ``CURVES``, on the spectrum's own pixels, 1e-17 erg/s/cm2/A in the observed frame; NaN
        where undefined. Residuals are (data - model) / error.
    measured
        Row of the table of measurements: fluxes, S/N, class and flags are written below the panels.
    """
    curves = {} if curves is None else curves
    figure = blank_figure(11.0, 8.0 if measured is None else 9.0)
    widths = [high - low for low, high in CLOSE_UPS_ANGSTROM]
    heights = [1.1, 1.0, 0.45] if measured is None else [1.1, 1.0, 0.45, 0.5]
    grid = figure.add_gridspec(len(heights), len(widths), height_ratios=heights, width_ratios=widths)
    overview = figure.add_subplot(grid[0, :])
    _draw_window(overview, spectrum, curves, REST_RANGE_ANGSTROM)
    overview.set(xlabel=REST_WAVELENGTH, ylabel=FLUX_DENSITY)
    heading = f"{spectrum.object_id} · z = {spectrum.redshift:.4f} · {spectrum.spectral_class}".rstrip(" ·")
    figure.suptitle(heading, parse_math=False)
    for column, window in enumerate(CLOSE_UPS_ANGSTROM):
        close_up = figure.add_subplot(grid[1, column])
        _draw_window(close_up, spectrum, curves, window)
        _name_lines(close_up, window)
        residual = figure.add_subplot(grid[2, column], sharex=close_up)
        _draw_residual(residual, spectrum, curves.get("model"), window)
        close_up.tick_params(labelbottom=False)
        if column == 0:
            close_up.set_ylabel("[10⁻¹⁷ erg/s/cm²/Å]")
            residual.set_ylabel("residual / error")
        if column == 1:
            residual.set_xlabel(REST_WAVELENGTH)
    if measured is not None:
        _write_measurements(figure.add_subplot(grid[3, :]), measured)
    handles = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=4)
    return figure


def _draw_window(axes: Axes, spectrum: Spectrum, curves: Mapping[str, Floats], window: tuple[float, float]) -> None:
    rest_angstrom, flux, inside = rest_window(spectrum, window)
    axes.set_xlim(window)
    if not np.isfinite(flux).any():
        message(axes, "no valid pixels here")
        return
    axes.step(rest_angstrom, flux, where="mid", color=GREY, linewidth=0.7, label="data")
    drawn = [flux]
    for name, (color, line) in CURVES.items():
        if name in curves:
            drawn.append(curves[name][inside])
            axes.plot(rest_angstrom, drawn[-1], color=color, linestyle=line, linewidth=1.2, label=name)
    low, high = np.nanquantile(np.concatenate(drawn), 0.002), np.nanmax(np.concatenate(drawn))
    margin = 0.06 * (high - low) or 1.0
    axes.set_ylim(low - margin, high + margin)
    _shade_invalid(axes, rest_angstrom, spectrum.valid[inside])


def _draw_residual(axes: Axes, spectrum: Spectrum, model: Floats | None, window: tuple[float, float]) -> None:
    rest_angstrom, _, inside = rest_window(spectrum, window)
    axes.set(xlim=window, ylim=(-RESIDUAL_LIMIT, RESIDUAL_LIMIT), yticks=[-3, 0, 3])
    axes.axhspan(-1, 1, color=BLUE, alpha=0.18, linewidth=0, label="±1 error")
    axes.axhline(0, color=BLACK, linewidth=0.6)
    if model is None:
        return
    residual = np.where(spectrum.valid, (spectrum.flux - model) * np.sqrt(spectrum.ivar), np.nan)[inside]
    axes.step(rest_angstrom, residual, where="mid", color=GREY, linewidth=0.7)
    for beyond, edge, marker in ((residual > RESIDUAL_LIMIT, 1, "^"), (residual < -RESIDUAL_LIMIT, -1, "v")):
        if beyond.any():
            places = np.full(int(beyond.sum()), edge * (RESIDUAL_LIMIT - 0.6))
            look = {"color": VERMILION, "marker": marker, "markersize": 3.5, "linestyle": "none"}
            label = f"residual {'above' if edge > 0 else 'below'} {edge * RESIDUAL_LIMIT:+g}"
            axes.plot(rest_angstrom[beyond], places, label=label, **look)  # type: ignore[arg-type]


def _shade_invalid(axes: Axes, rest_angstrom: Floats, valid: NDArray[np.bool_]) -> None:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], ~valid, [False]]).astype(np.int8)))
    label = "masked pixels"
    for start, stop in edges.reshape(-1, 2):
        low, high = rest_angstrom[start], rest_angstrom[min(stop, len(rest_angstrom) - 1)]
        axes.axvspan(low, high, color=LIGHT_GREY, alpha=0.5, linewidth=0, label=label)
        label = ""


def _name_lines(axes: Axes, window: tuple[float, float]) -> None:
    above = axes.get_xaxis_transform()
    inside = sorted(
        (line for line in LINES if window[0] < line.wavelength_angstrom < window[1]),
        key=lambda line: line.wavelength_angstrom,
    )
    for number, line in enumerate(inside):
        axes.axvline(line.wavelength_angstrom, color=LIGHT_GREY, linewidth=0.7, linestyle=":", zorder=0)
        height = _LABEL_HEIGHTS[number % len(_LABEL_HEIGHTS)]
        label = vacuum_label(line.label, line.wavelength_angstrom)
        axes.text(line.wavelength_angstrom, height, label, transform=above, ha="center", fontsize=8.5, color=BLACK)


def vacuum_label(label: str, wavelength_angstrom: float) -> str:
    """Return the name of a line with its vacuum wavelength, as the axis has it: [O III] 5008 is 5007 in air."""
    species = plain_label(label).rstrip("0123456789 ")
    return f"{species} {wavelength_angstrom:.0f}"


def _write_measurements(axes: Axes, measured: Mapping[str, Any]) -> None:
    """Write flux, error, S/N and flags of every line, the class and the flags of the fit."""
    axes.set_axis_off()
    named = {line.name: vacuum_label(line.label, line.wavelength_angstrom) for line in LINES}
    rows: dict[str, list[str]] = {"line": [named[line] for line in REPORTED_LINES], "flux": [], "S/N": [], "flags": []}
    for line in REPORTED_LINES:
        flux, error = float(measured[f"flux_{line}"]), float(measured[f"flux_{line}_err"])
        rows["flux"].append(f"{flux:.1f} ± {error:.1f}" if np.isfinite(flux) else "undefined")
        snr = float(measured[f"snr_{line}"])
        rows["S/N"].append(f"{snr:.1f}" if np.isfinite(snr) else "")
        rows["flags"].append(str(measured[f"flags_{line}"]))
    if not any(rows["flags"]):
        del rows["flags"]
    units = {"flux": "flux [10⁻¹⁷ erg/s/cm²]"}
    text = [[units.get(name, name), *cells] for name, cells in rows.items()]
    table = axes.table(cellText=text, bbox=Bbox.from_bounds(0, 0.25, 1, 0.75))
    table.auto_set_font_size(False)
    table.set_fontsize(8.5)
    for cell in table.get_celld().values():
        cell.set(linewidth=0, facecolor="none")
    bpt = str(measured["bpt_class"])
    words = [f"BPT class: {CLASS_NAMES.get(bpt, bpt)}"]
    if reason := str(measured["reason"]):
        words.append(f"reason: {reason}")
    words.append(f"fit flags: {measured['fit_flags'] or 'none'}")
    words.append("broad Balmer component" if measured["broad_line"] else "no broad Balmer component")
    axes.text(
        0.5, 0.0, " · ".join(words), transform=axes.transAxes, ha="center", va="bottom", fontsize=9, parse_math=False
    )

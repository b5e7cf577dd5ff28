"""What all figures share: one style, colours that colour-blind readers can tell apart, saving as PNG.

Figures are made without pyplot, so nothing here keeps global state or needs a display.
"""

from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Arguments = ParamSpec("Arguments")

BLUE, ORANGE, VERMILION, GREEN, PINK, SKY = "#0072B2", "#E69F00", "#D55E00", "#009E73", "#CC79A7", "#56B4E9"
"""Colours of Okabe & Ito (2008), distinct under all common forms of colour blindness."""
BLACK, GREY, LIGHT_GREY = "#1a1a1a", "#767676", "#c8c8c8"

CLASS_COLORS = {
    "star-forming": BLUE,
    "composite": ORANGE,
    "seyfert": VERMILION,
    "liner": GREEN,
    "unclassified": GREY,
}
"""Colour of each BPT class, the same in every figure."""

CLASS_MARKERS = {"star-forming": "o", "composite": "s", "seyfert": "^", "liner": "D", "unclassified": "."}
"""Marker of each BPT class, so that a figure can be read without colour."""

_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 11.0,
    "axes.titlesize": 12.0,
    "axes.labelsize": 11.0,
    "axes.edgecolor": BLACK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.use_mathtext": True,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "xtick.labelsize": 10.0,
    "ytick.labelsize": 10.0,
    "lines.linewidth": 1.8,
}
_DPI = 150


def styled(make: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """Return ``make`` so that its figure is drawn in the style of this package, whatever the caller's settings are."""

    @wraps(make)
    def in_style(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Figure:
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(_STYLE)
            return make(*args, **kwargs)

    return in_style


def blank_figure(width_inch: float, height_inch: float) -> Figure:
    """Return an empty figure with an Agg canvas and a layout that keeps labels apart."""
    figure = Figure(figsize=(width_inch, height_inch), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figures(figures: Mapping[str, Figure], folder: Path) -> list[Path]:
    """Write each figure to ``folder/NAME.png`` and return the paths in order.

    A file appears whole or not at all. The pictures carry no date, so equal figures are equal files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in figures.items():
        path = folder / f"{name}.png"
        unfinished = path.with_name(f".{path.name}.part")
        figure.savefig(unfinished, format="png", metadata={"Software": None})
        unfinished.replace(path)
        paths.append(path)
    return paths

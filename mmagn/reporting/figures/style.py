"""Common style of all figures: fonts, colours that colour-blind readers can tell apart, saving as PNG.

Figures are made without pyplot, so no global state is kept and no display is needed.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import PlaceHolderLayoutEngine

from mmagn.storage.files import whole_file

Arguments = ParamSpec("Arguments")

BLUE, ORANGE, VERMILION, GREEN, PINK, SKY = "#0072B2", "#E69F00", "#D55E00", "#009E73", "#CC79A7", "#56B4E9"
"""Colours of Okabe & Ito (2008), distinct under all common forms of colour blindness."""
BLACK, GREY, LIGHT_GREY, WHITE = "#1a1a1a", "#767676", "#c8c8c8", "#ffffff"

CLASS_NAMES = {"seyfert": "Seyfert", "liner": "LINER"}
"""Names of BPT classes for readers where they differ."""
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
PROBABILITY_COLORS = LinearSegmentedColormap.from_list("probability", [BLUE, "#a9a9a9", VERMILION])
"""P(AGN) from 0 to 1; each end and the middle stand out from white and from black."""
REST_WAVELENGTH = "rest-frame vacuum wavelength [Å]"
FLUX_DENSITY = "flux density [10⁻¹⁷ erg/s/cm²/Å]"

SCORE_NAMES = {
    "mcc": "MCC",
    "roc_auc": "ROC AUC",
    "f1": "F1",
    "recall_at_precision_90": "recall at 90 % precision",
    "brier": "Brier score",
    "brier_reliability": "Brier: reliability",
    "brier_resolution": "Brier: resolution",
    "brier_uncertainty": "Brier: uncertainty",
    "brier_within_bins": "Brier: within bins",
}
"""Names of scores that are not their key without underscores."""

_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10.0,
    "text.color": BLACK,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10.0,
    "axes.labelcolor": BLACK,
    "axes.edgecolor": BLACK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.fontsize": 9.0,
    "legend.frameon": False,
    "xtick.color": BLACK,
    "ytick.color": BLACK,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",
    "svg.hashsalt": "mmagn",
}
_DPI = 150


def styled(make: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """Return ``make`` with its figure drawn in the style of this package, whatever the caller's settings are."""

    @wraps(make)
    def in_style(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Figure:
        with style():
            return make(*args, **kwargs)

    return in_style


@contextmanager
def style() -> Iterator[None]:
    """Give matplotlib the settings of this package within the context."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def blank_figure(width_inch: float, height_inch: float) -> Figure:
    """Return an empty figure with an Agg canvas and a layout that keeps labels apart."""
    figure = Figure(figsize=(width_inch, height_inch), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def settle_layout(figure: Figure) -> None:
    """Lay a figure out once and keep that layout, however often it is saved."""
    if not isinstance(figure.get_layout_engine(), PlaceHolderLayoutEngine):
        for _ in range(2):  # axes of a fixed aspect settle in the second pass
            figure.draw_without_rendering()
        figure.set_layout_engine("none")


def message(axes: Axes, text: str) -> None:
    """Write in the middle of the axes why they are empty."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY)


def grid_behind(axes: Axes, axis: str = "both") -> None:
    """Draw thin grid lines behind the data."""
    axes.grid(axis=axis, color=LIGHT_GREY, linewidth=0.5, alpha=0.6)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


def plain_label(label: str) -> str:
    """Return the label of a line with Greek letters as such, for text that a browser draws."""
    return label.replace(r"$\alpha$", "α").replace(r"$\beta$", "β")


def score_text(metric: str) -> str:
    """Return the name of a score or setting in words."""
    return SCORE_NAMES.get(metric, metric.replace("_", " "))


def save_figures(figures: Mapping[str, Figure], folder: Path) -> list[Path]:
    """Write each figure to ``folder/NAME.png`` and return the paths in order.

    The pictures carry no date, so equal figures are equal files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.png" for name in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        with whole_file(path) as part:
            settle_layout(figure)
            with part.open("wb") as file:
                FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})  # type: ignore[no-untyped-call]
    return paths

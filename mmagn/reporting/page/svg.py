"""Figures of the report as inline SVG: they follow light and dark, stay sharp on paper and cost a few kilobytes.

Colours are class names, given a meaning by ``templates/report.css``; every text goes through Markup and is escaped.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup
from numpy.typing import ArrayLike

from mmagn.records import Floats
from mmagn.reporting.figures.style import BLUE, VERMILION

LEFT, RIGHT, TOP, BOTTOM = 56, 12, 14, 46
"""Margins of a plane around its frame, in units of its view box."""
_MIDDLE = "#a9a9a9"
"""Colour of probability 0.5, visible on white and on black."""


@dataclass(kw_only=True)
class Plane:
    """A frame with two linear axes that things are drawn into.

    Attributes
    ----------
    name
        Tells it apart from the other figures of the page.
    x_range, y_range
        Numbers at the ends of the axes.
    x_label, y_label
        Text beside them.
    alt
        What a reader who cannot see the figure is told.
    width, height
        Size of the view box.
    """

    name: str
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    x_label: str
    y_label: str
    alt: str
    width: int = 480
    height: int = 380
    _drawn: list[Markup] = field(default_factory=list)

    def x(self, value: ArrayLike) -> Floats:
        """Return places from numbers on the abscissa."""
        low, high = self.x_range
        return np.asarray(LEFT + (np.asarray(value, dtype=float) - low) / (high - low) * (self.width - LEFT - RIGHT))

    def y(self, value: ArrayLike) -> Floats:
        """Return places from numbers on the ordinate."""
        low, high = self.y_range
        share = (np.asarray(value, dtype=float) - low) / (high - low)
        return np.asarray(self.height - BOTTOM - share * (self.height - TOP - BOTTOM))

    def line(self, x: ArrayLike, y: ArrayLike, css: str) -> None:
        """Draw a line through points; points that are not finite are left out."""
        if places := path(self.x(x), self.y(y)):
            self._drawn.append(Markup('<path class="line {}" d="{}"/>').format(css, places))

    def band(self, x: ArrayLike, low: ArrayLike, high: ArrayLike, css: str) -> None:
        """Fill the area between two curves."""
        around = path(
            np.concatenate([np.asarray(self.x(x)), np.asarray(self.x(x))[::-1]]),
            np.concatenate([np.asarray(self.y(low)), np.asarray(self.y(high))[::-1]]),
        )
        self._drawn.append(Markup('<path class="band {}" d="{}Z"/>').format(css, around))

    def points(self, x: ArrayLike, y: ArrayLike, css: str, *, radius: float = 3.5) -> None:
        """Draw a disc at every point."""
        for place in zip(np.asarray(self.x(x)).ravel(), np.asarray(self.y(y)).ravel(), strict=True):
            self._drawn.append(
                Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{}"/>').format(css, *place, radius)
            )

    def add(self, shape: Markup) -> None:
        """Draw a shape that is SVG already."""
        self._drawn.append(shape)

    def text(self, x: float, y: float, words: str, css: str = "") -> None:
        """Write at a point."""
        self._drawn.append(
            Markup('<text class="{}" x="{:.1f}" y="{:.1f}">{}</text>').format(css, self.x(x), self.y(y), words)
        )

    def svg(self) -> Markup:
        """Return the figure."""
        right, bottom = self.width - RIGHT, self.height - BOTTOM
        parts = [
            Markup('<svg class="plane" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
                self.width, self.height, self.alt
            ),
            Markup('<clipPath id="{0}"><rect x="{1}" y="{2}" width="{3}" height="{4}"/></clipPath>').format(
                self._clip, LEFT, TOP, right - LEFT, bottom - TOP
            ),
        ]
        for value in ticks(*self.x_range):
            place = self.x(value)
            parts.append(Markup('<path class="grid" d="M{0:.1f} {1}V{2}"/>').format(place, TOP, bottom))
            parts.append(
                Markup('<text class="tick middle" x="{:.1f}" y="{}">{:g}</text>').format(place, bottom + 16, value)
            )
        for value in ticks(*self.y_range):
            place = self.y(value)
            parts.append(Markup('<path class="grid" d="M{1} {0:.1f}H{2}"/>').format(place, LEFT, right))
            parts.append(
                Markup('<text class="tick end" x="{}" y="{:.1f}">{:g}</text>').format(LEFT - 6, place + 4, value)
            )
        parts += [
            Markup('<g clip-path="url(#{})">').format(self._clip),
            *self._drawn,
            Markup("</g>"),
            Markup('<rect class="frame" x="{}" y="{}" width="{}" height="{}"/>').format(
                LEFT, TOP, right - LEFT, bottom - TOP
            ),
            Markup('<text class="middle" x="{}" y="{}">{}</text>').format(
                (LEFT + right) / 2, self.height - 8, self.x_label
            ),
            Markup('<text class="middle" transform="translate(14 {}) rotate(-90)">{}</text>').format(
                (TOP + bottom) / 2, self.y_label
            ),
            Markup("</svg>"),
        ]
        return Markup("").join(parts)

    @property
    def _clip(self) -> str:
        return f"clip-{self.name}"


def ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Return round numbers between two ends."""
    span = abs(high - low) or 1.0
    raw = span / about
    power = 10 ** np.floor(np.log10(raw))
    step = float(power * min((1, 2, 2.5, 5, 10), key=lambda each: abs(each * power - raw)))
    first = np.ceil(min(low, high) / step - 1e-9)
    last = np.floor(max(low, high) / step + 1e-9)
    return [float(round(number * step, 10)) + 0.0 for number in np.arange(first, last + 1)]


def path(x: ArrayLike, y: ArrayLike) -> str:
    """Return SVG path data through the finite ones of some points, to a tenth of a unit, "" for fewer than two."""
    places = np.stack([np.asarray(x, dtype=float), np.asarray(y, dtype=float)], axis=1)
    places = np.round(places[np.isfinite(places).all(axis=1)], 1)
    if len(places) < 2:
        return ""
    moved = np.append(True, (np.diff(places, axis=0) != 0).any(axis=1))
    moved[-1] = True
    places = places[moved]
    return "M" + "L".join(f"{across:.1f} {down:.1f}" for across, down in places)


def stepped(x: ArrayLike, y: ArrayLike) -> tuple[list[float], list[float]]:
    """Return the corners of a step curve that keeps a height until the next abscissa."""
    across, up = np.repeat(np.asarray(x, dtype=float), 2)[1:], np.repeat(np.asarray(y, dtype=float), 2)[:-1]
    return across.tolist(), up.tolist()


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A number that an interval bar is compared with: ``low`` and ``high`` make it a band."""

    value: float
    css: str
    low: float | None = None
    high: float | None = None


def interval_bar(
    value: float | None,
    low: float | None,
    high: float | None,
    *,
    ends: tuple[float, float] = (0.0, 1.0),
    marks: Iterable[Mark] = (),
    css: str = "blue",
    open_dot: bool = False,
) -> Markup:
    """Return a value with its interval on a short axis, for a table cell whose text says the same.

    Parameters
    ----------
    value, low, high
        What is drawn; None is left out.
    ends
        Numbers at the ends of the axis.
    marks
        What it is compared with.
    css
        Colour class of dot and whisker.
    open_dot
        Draw the dot open: not shown to differ.
    """
    width, height, pad = 240, 22, 6

    def place(number: float) -> float:
        inside = min(max((number - ends[0]) / (ends[1] - ends[0]), 0.0), 1.0)
        return pad + inside * (width - 2 * pad)

    parts = [
        Markup('<svg class="bar" viewBox="0 0 {} {}" aria-hidden="true">').format(width, height),
        Markup('<path class="grid" d="M{} 11H{}"/>').format(pad, width - pad),
    ]
    for mark in marks:
        if mark.low is not None and mark.high is not None:
            start, stop = place(mark.low), place(mark.high)
            parts.append(
                Markup('<rect class="band {}" x="{:.1f}" y="1" width="{:.1f}" height="20"/>').format(
                    mark.css, start, max(stop - start, 1.0)
                )
            )
        parts.append(Markup('<path class="mark {}" d="M{:.1f} 1V21"/>').format(mark.css, place(mark.value)))
    if low is not None and high is not None:
        parts.append(Markup('<path class="line {}" d="M{:.1f} 11H{:.1f}"/>').format(css, place(low), place(high)))
    if value is not None:
        parts.append(
            Markup('<circle class="{} {}" cx="{:.1f}" cy="11" r="4.5"/>').format(
                css, "open" if open_dot else "dot", place(value)
            )
        )
    return Markup("").join([*parts, Markup("</svg>")])


def share_bar(parts: Sequence[tuple[str, float, str]], alt: str) -> Markup:
    """Return one bar that is divided in the shares of some (name, count, colour class)."""
    total = sum(count for _, count, _ in parts) or 1.0
    box = Markup('<svg class="share" viewBox="0 0 1000 26" preserveAspectRatio="none" role="img" aria-label="{}">')
    drawn, start = [box.format(alt)], 0.0
    for name, count, css in parts:
        width = 1000 * count / total
        drawn.append(
            Markup(
                '<rect class="fill {}" x="{:.1f}" y="0" width="{:.1f}" height="26"><title>{} {:g}</title></rect>'
            ).format(css, start, max(width - 2, 0), name, count)
        )
        start += width
    return Markup("").join([*drawn, Markup("</svg>")])


def probability_color(probability: float) -> str:
    """Return the colour of a probability: blue at 0, grey at 0.5, vermilion at 1."""
    ends = (BLUE, _MIDDLE) if probability < 0.5 else (_MIDDLE, VERMILION)
    share = probability * 2 if probability < 0.5 else probability * 2 - 1
    rgb = [np.array([int(color[place : place + 2], 16) for place in (1, 3, 5)]) for color in ends]
    mixed = np.rint(rgb[0] + (rgb[1] - rgb[0]) * share).astype(int)
    return "#" + "".join(f"{part:02x}" for part in mixed.tolist())

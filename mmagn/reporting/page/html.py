"""The report as HTML: one file with style, script, figures and images inside that loads nothing from a network."""

import base64
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from matplotlib.figure import Figure

from mmagn.reporting.figures.svg import Target, figure_svg

TEMPLATES = "reporting/page/templates"


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A number at the top of the page: its name, the number, and what to compare it with."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class TableView:
    """A table of text; the first cell of each row names it."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Chart:
    """A figure of the page, which is also written to the folder of figures as PNG.

    Attributes
    ----------
    name
        Name of the PNG, and start of the ids of the SVG.
    figure, caption
        Drawn in the style of the package; what it shows.
    targets
        Returns the places in it to point at and click.
    wide
        True where it takes the whole width of the page, and scrolls on a narrow screen.
    """

    name: str
    figure: Figure
    caption: str
    targets: Callable[[], Sequence[Target]] | None = None
    wide: bool = False

    def svg(self) -> Markup:
        """Return the figure as an SVG element."""
        return figure_svg(self.figure, self.name, self.caption, self.targets, wide=self.wide)


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page, from its heading to its tables.

    Attributes
    ----------
    name, title
        Its anchor, and its heading.
    text, sentences
        Paragraphs, and items of a list.
    charts, tables
        Its content, figures first.
    folded
        Tables that are closed at first; empty ones are left out.
    code
        (caption, text) pairs of files shown as they are, with a button to copy them.
    """

    name: str
    title: str
    text: Sequence[str] = ()
    sentences: Sequence[str] = ()
    charts: Sequence[Chart] = ()
    tables: Sequence[TableView] = ()
    folded: Sequence[TableView] = ()
    code: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, kw_only=True)
class Page:
    """The content of a report.

    Attributes
    ----------
    title, kind, started
        Name of the run, ``training``, ``ablation`` or ``search``, and when it started.
    verdict, warning, tiles
        Sentences that say what the result is worth; that of the banner above all numbers; the most important numbers.
    sections
        In their order.
    cards, cards_text
        Galaxies as :func:`mmagn.reporting.page.cards.cards` returns them, and which galaxies they are.
    classes, outcomes
        Names that cards can be filtered by.
    changed, config_text
        (name, value) of the settings that are not the default, and all settings as YAML.
    provenance, command
        (name, value) pairs, and the command line of the run.
    """

    title: str
    kind: str
    started: str
    verdict: Sequence[str] = ()
    warning: str = ""
    tiles: Sequence[Tile] = ()
    sections: Sequence[Section] = ()
    cards: Sequence[dict[str, Any]] = ()
    cards_text: str = ""
    classes: Sequence[tuple[str, str]] = ()
    outcomes: Sequence[str] = ()
    changed: Sequence[tuple[str, str]] = ()
    config_text: str = ""
    provenance: Sequence[tuple[str, str]] = field(default_factory=tuple)
    command: str = ""

    def charts(self) -> Iterator[Chart]:
        """Return all figures of the page."""
        return (chart for section in self.sections for chart in section.charts)


def rendered(page: Page) -> str:
    """Return the page as HTML: style, script, images and figures inside, everything from data escaped.

    Its Content-Security-Policy allows this one style sheet and this one script, by their digests, and images that are
    in the page: no request can leave it, whatever the name of an object.
    """
    environment = Environment(
        loader=PackageLoader("mmagn", TEMPLATES),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["unbroken"] = unbroken
    style, script = (_template_text(name) for name in ("report.css", "report.js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    template = environment.get_template("report.html.j2")
    return template.render(page=page, style=Markup(style), script=Markup(script), policy=policy)


def unbroken(cell: str) -> str:
    """Return the text of a table cell, its interval kept on one line."""
    value, space, interval = cell.partition(" [")
    if not (space and interval.endswith("]")):
        return cell
    return Markup('{} <span class="whole">[{}</span>').format(value, interval)


def _template_text(name: str) -> str:
    return files("mmagn").joinpath(TEMPLATES, name).read_text(encoding="utf-8").strip()


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")

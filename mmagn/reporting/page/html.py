"""The page itself: what a report holds, and its HTML as one file that asks nothing of any network."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

TEMPLATES = "reporting/page/templates"


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A number at the top of the page: what it is, the number, and what to compare it with."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class TableView:
    """A table of text and small figures.

    Attributes
    ----------
    caption
        What it shows.
    head
        Names of the columns.
    rows
        Cells; the first of each row names it.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | Markup]]


@dataclass(frozen=True, kw_only=True)
class FigureView:
    """A figure with its legend.

    Attributes
    ----------
    svg
        The drawing.
    caption
        What it shows.
    keys
        (colour class, meaning) pairs.
    """

    svg: Markup
    caption: str
    keys: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page.

    Attributes
    ----------
    name, title
        Its anchor, and its heading.
    text
        Paragraphs.
    sentences
        Items of a list.
    figures, tables
        What it shows, figures first.
    folded
        Tables that are closed at first.
    code
        (caption, text) pairs of files that are shown as they are.
    """

    name: str
    title: str
    text: Sequence[str] = ()
    sentences: Sequence[str] = ()
    figures: Sequence[FigureView] = ()
    tables: Sequence[TableView] = ()
    folded: Sequence[TableView] = ()
    code: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, kw_only=True)
class Page:
    """Everything that a report shows.

    Attributes
    ----------
    title, kind, started
        Name of the run, ``training``, ``ablation`` or ``search``, and when it began.
    lead
        One or two sentences that say what it is.
    tiles
        The most important numbers.
    sections
        In their order.
    plane
        BPT plane whose objects lead to the cards, None without objects.
    cards, cards_text
        Galaxies as :func:`mmagn.reporting.page.cards.cards` tells of them, and what they are.
    classes
        Names of the classes that cards can be filtered by.
    changed, config_text
        (name, value) of the settings that are not the default, and all settings as YAML.
    provenance
        (name, value) pairs.
    """

    title: str
    kind: str
    started: str
    lead: str
    tiles: Sequence[Tile] = ()
    sections: Sequence[Section] = ()
    plane: FigureView | None = None
    cards: Sequence[dict[str, Any]] = ()
    cards_text: str = ""
    classes: Sequence[str] = ()
    outcomes: Sequence[str] = ()
    changed: Sequence[tuple[str, str]] = ()
    config_text: str = ""
    provenance: Sequence[tuple[str, str]] = field(default_factory=tuple)


def rendered(page: Page) -> str:
    """Return the page as HTML: style, script, images and drawings inside, everything from data escaped.

    Its Content-Security-Policy allows this one style sheet and this one script, by their digests, and images that are
    in the page: no request can leave it, whatever an object may be called.
    """
    environment = Environment(
        loader=PackageLoader("mmagn", TEMPLATES),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = (_template_text(name) for name in ("report.css", "report.js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    template = environment.get_template("report.html.j2")
    return template.render(page=page, style=Markup(style), script=Markup(script), policy=policy)


def _template_text(name: str) -> str:
    return files("mmagn").joinpath(TEMPLATES, name).read_text(encoding="utf-8").strip()


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")

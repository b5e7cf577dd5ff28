"""A figure as SVG for the report: text stays text, colours follow light and dark, nothing in it is active.

matplotlib draws the figure. Its output is then reduced to drawing elements and presentation attributes: the page
forbids inline style sheets, and a name from data can never become markup. Colours of
:mod:`mmagn.reporting.figures.style` turn into variables that the style sheet of the page defines for light and dark.
"""

import base64
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.etree import ElementTree

from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

from mmagn.reporting.figures import style

_COLORS = {
    style.BLUE: "blue",
    style.ORANGE: "orange",
    style.VERMILION: "vermilion",
    style.GREEN: "green",
    style.PINK: "pink",
    style.SKY: "sky",
    style.BLACK: "ink",
    "#000000": "ink",
    style.GREY: "soft",
    style.LIGHT_GREY: "rule",
    style.WHITE: "paper",
}
"""Variable of the page's style sheet for each colour of the figures."""
_VARIABLES = {color.lower(): f"var(--{name})" for color, name in _COLORS.items()}
_TAGS = {"svg", "g", "path", "use", "defs", "clipPath", "rect", "text", "tspan", "image"}
_GEOMETRY = {"x", "y", "width", "height", "transform", "viewBox"}
_PAINT = {
    "fill",
    "fill-opacity",
    "fill-rule",
    "opacity",
    "stroke",
    "stroke-dasharray",
    "stroke-linecap",
    "stroke-linejoin",
    "stroke-opacity",
    "stroke-width",
    "font-size",
    "font-style",
    "font-weight",
    "text-anchor",
}
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_LONG_PATH = 30
"""Points from which on a polyline is written as steps."""
_WEBP_QUALITY = 80
_PNG = "data:image/png;base64,"


@dataclass(frozen=True, kw_only=True)
class Target:
    """A place in a figure that a reader can point at, which shows ``tip`` and, where it has one, opens a card.

    ``x`` and ``y`` are pixels of the figure, as ``axes.transData.transform`` gives them.
    """

    x: float
    y: float
    tip: str
    card: int | None


def figure_svg(
    figure: Figure, name: str, alt: str, targets: Callable[[], Sequence[Target]] | None = None, *, wide: bool = False
) -> Markup:
    """Return a figure as an SVG element for a page.

    Parameters
    ----------
    figure
        Drawn in the style of this package.
    name, alt
        Unique among the figures of a page, which starts its ids; text for readers who cannot see the figure.
    targets
        Returns the places to point at; called after the figure is laid out.
    wide
        True where a narrow screen should scroll the figure instead of shrinking it.
    """
    file = io.BytesIO()
    style.settle_layout(figure)
    with style.style():
        figure.patch.set_visible(False)
        for axes in figure.axes:
            axes.patch.set_visible(False)
        FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None})  # type: ignore[no-untyped-call]
    root = ElementTree.fromstring(file.getvalue())
    used = set(re.findall(rb'(?:href="#|url\(#)([\w-]+)', file.getvalue()))
    _reduce(root, name, {each.decode() for each in used})
    size = root.attrib["viewBox"].split()[2:]
    root.attrib |= {"class": "chart wide-chart" if wide else "chart", "role": "img", "aria-label": alt}
    root.attrib |= {"width": size[0], "height": size[1]}
    for target in () if targets is None else targets():
        root.append(_hit_area(target, figure, float(size[1])))
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _hit_area(target: Target, figure: Figure, height: float) -> ElementTree.Element:
    """Invisible disc over a point of the figure."""
    points = 72 / figure.dpi
    attributes = {"class": "object", "cx": f"{target.x * points:.2f}", "cy": f"{height - target.y * points:.2f}"}
    attributes |= {"r": "5", "data-tip": target.tip}
    if target.card is not None:
        attributes["data-card"] = str(target.card)
    return ElementTree.Element("circle", attributes)


def _reduce(element: ElementTree.Element, name: str, used: set[str]) -> None:
    """Keep drawing elements and attributes alone, in place, below and at an element."""
    element.tag = _local(element.tag)
    element.attrib = _attributes(element.attrib, name, used)
    if element.tag not in ("text", "tspan"):
        element.text = None
    element.tail = None
    children = [child for child in element if isinstance(child.tag, str) and _local(child.tag) in _TAGS]
    for child in children:
        _reduce(child, name, used)
    element[:] = [kept for child in children for kept in _unwrapped(child)]
    if element.tag == "g" and len(element) > 2 and {child.tag for child in element} in ({"use"}, {"path"}):
        _hoist_paint(element)


def _unwrapped(element: ElementTree.Element) -> list[ElementTree.Element]:
    """Return the element, its children where it is a group without attributes, or nothing where it is invisible."""
    if element.tag == "g" and not element.attrib:
        return list(element)
    empty = element.tag in ("g", "defs") and not len(element)
    unpainted = element.tag == "path" and element.get("fill") == "none" and not {"stroke", "id"} & set(element.attrib)
    return [] if empty or unpainted else [element]


def _hoist_paint(group: ElementTree.Element) -> None:
    """Move fill, stroke and clipping that all children share to their group."""
    first = group[0].attrib
    for key in [key for key in first if key.startswith(("fill", "stroke", "clip-path"))]:
        if all(child.get(key) == first[key] for child in group):
            group.set(key, first[key])
            for child in group[1:]:
                del child.attrib[key]
            del group[0].attrib[key]


def _attributes(attributes: dict[str, str], name: str, used: set[str]) -> dict[str, str]:
    kept: dict[str, str] = {}
    for key, value in attributes.items():
        match _local(key):
            case "style":
                kept |= _presentation(value)
            case "id":
                if value in used:
                    kept["id"] = f"{name}-{value}"
            case "href":
                png = value.startswith(_PNG)
                kept["href"] = webp_address(_picture(value)) if png else f"#{name}-{value[1:]}"
            case "clip-path":
                kept["clip-path"] = value.replace("#", f"#{name}-")
            case "transform" if value.startswith("rotate(-0 "):
                pass
            case "d":
                kept["d"] = _path_data(value)
            case local if local in _GEOMETRY:
                kept[local] = _rounded(value)
    return kept


def _presentation(style_text: str) -> dict[str, str]:
    """Properties of a style attribute as presentation attributes, colours of the palette as variables."""
    pairs = (part.partition(":")[::2] for part in style_text.split(";"))
    kept = {name.strip(): value.strip() for name, value in pairs if name.strip() in _PAINT}
    for name in ("fill", "stroke"):
        if name in kept:
            kept[name] = _VARIABLES.get(kept[name].lower(), kept[name])
    return {name: value.removesuffix("px") if name == "font-size" else value for name, value in kept.items()}


def _picture(address: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(address.removeprefix(_PNG))))


def webp_address(picture: Image.Image) -> str:
    """Return a picture as a data address in WebP, an eighth of the size of PNG."""
    file = io.BytesIO()
    picture.save(file, format="WEBP", quality=_WEBP_QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _path_data(text: str) -> str:
    """Path data with two decimals; a long polyline as steps of tenths of a point, a third of the length."""
    words = text.split()
    if len(words) < 3 * _LONG_PATH or set(words[0::3]) - {"M", "L"} or words[0::3].count("M") > 1:
        return _rounded(text)
    tenths = [(round(10 * float(x)), round(10 * float(y))) for x, y in zip(words[1::3], words[2::3], strict=True)]
    steps = [f"{(x - x0) / 10:g} {(y - y0) / 10:g}" for (x0, y0), (x, y) in pairwise(tenths)]
    return f"M{tenths[0][0] / 10:g} {tenths[0][1] / 10:g}l" + " ".join(steps)


def _rounded(text: str) -> str:
    short = _LONG_NUMBER.sub(lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), text)
    return " ".join(short.split())


def _local(name: str) -> str:
    return name.rpartition("}")[2]

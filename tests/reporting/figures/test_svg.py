"""Figures of the page are the figures of the folder: text stays text, colours follow the page, nothing is active."""

from xml.etree import ElementTree

import numpy as np
from matplotlib.figure import Figure

from mmagn.reporting.figures.style import BLUE, GREY, blank_figure, styled
from mmagn.reporting.figures.svg import Target, figure_svg

HOSTILE = '</text><script>alert(1)</script><image href="https://example.org/x" onload="alert(1)"/>'
ACTIVE = {"script", "style", "foreignObject", "a", "animate", "set", "metadata"}


@styled
def figure_of(text: str, points: int = 40) -> Figure:
    figure = blank_figure(4, 3)
    axes = figure.subplots()
    axes.plot(np.linspace(0, 1, points), np.linspace(0, 1, points) ** 2, color=BLUE, label=text)
    axes.scatter([0.2, 0.4, 0.6], [0.1, 0.1, 0.1], color=GREY)
    axes.set_title(text, parse_math=False)
    axes.imshow(np.zeros((4, 4, 3)), extent=(0, 0.1, 0, 0.1))
    return figure


def elements(svg: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(svg).iter())


def test_text_from_data_stays_text() -> None:
    svg = figure_svg(figure_of(HOSTILE), "one", HOSTILE)
    assert not ACTIVE & {element.tag for element in elements(svg)}
    assert HOSTILE in [element.text for element in elements(svg)]
    assert elements(svg)[0].get("aria-label") == HOSTILE


def test_no_attribute_runs_code_styles_or_leaves_the_page() -> None:
    for element in elements(figure_svg(figure_of("x"), "one", "x")):
        assert "style" not in element.attrib
        assert not any(name.startswith("on") for name in element.attrib)
        assert element.get("href", "#").startswith(("#one-", "#", "data:image/webp;base64,"))


def test_ids_are_those_of_the_figure_and_all_references_resolve() -> None:
    parts = elements(figure_svg(figure_of("x"), "one", "x"))
    ids = [element.attrib["id"] for element in parts if "id" in element.attrib]
    assert ids and len(ids) == len(set(ids)) and all(each.startswith("one-") for each in ids)
    links = {element.attrib["href"][1:] for element in parts if element.get("href", "").startswith("#")}
    clips = {element.attrib["clip-path"][5:-1] for element in parts if "clip-path" in element.attrib}
    assert links and clips and links | clips <= set(ids)


def test_colours_of_the_palette_are_variables_of_the_page() -> None:
    svg = figure_svg(figure_of("x"), "one", "x")
    assert "var(--blue)" in svg and "var(--soft)" in svg and "var(--ink)" in svg
    assert BLUE.lower() not in svg.lower() and "#000000" not in svg


def test_a_long_curve_is_short_and_true_to_a_tenth_of_a_point() -> None:
    x = np.linspace(0, 1, 400)
    figure = blank_figure(4, 3)
    figure.subplots().plot(x, np.sin(9 * x))
    svg = figure_svg(figure, "one", "x")
    data = max((element.get("d", "") for element in elements(svg)), key=len)
    start, steps = data[1:].split("l")
    moves = np.array(steps.split(), dtype=float).reshape(-1, 2)
    places = np.array(start.split(), dtype=float) + np.concatenate([[[0, 0]], np.cumsum(moves, axis=0)])
    (axes,) = figure.axes
    assert len(data) < 12 * len(x)
    top = axes.transData.transform([(np.pi / 18, 1.0)])[0] * 72 / figure.dpi
    nearest = np.abs(places - (top[0], 3 * 72 - top[1])).sum(axis=1).min()
    assert nearest < 1.0


def test_targets_lie_on_the_points_of_the_figure() -> None:
    figure = figure_of("x")
    (axes,) = figure.axes

    def targets() -> list[Target]:
        x, y = axes.transData.transform((0.2, 0.1))
        return [Target(x=x, y=y, tip=HOSTILE, card=7)]

    parts = elements(figure_svg(figure, "one", "x", targets))
    (area,) = [element for element in parts if element.get("class") == "object"]
    assert (area.get("data-tip"), area.get("data-card")) == (HOSTILE, "7")
    drawn = [element for element in parts if element.tag == "use"]
    offsets = [abs(float(each.get("x", 0)) - float(area.get("cx", 0))) for each in drawn]
    offsets = [
        across + abs(float(each.get("y", 0)) - float(area.get("cy", 0)))
        for across, each in zip(offsets, drawn, strict=True)
    ]
    assert min(offsets) < 0.5


def test_equal_figures_are_equal_text() -> None:
    assert figure_svg(figure_of("x"), "one", "x") == figure_svg(figure_of("x"), "one", "x")

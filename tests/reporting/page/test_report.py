"""The report is one file that asks nothing of a network, shows what was measured, and believes no name it is given."""

import dataclasses
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, unquote, urlparse

import numpy as np
import pytest

from mmagn.reporting.page.ablation import ABLATION_METRICS
from mmagn.reporting.page.cards import MAX_CARDS, Verdicts, shown_objects, viewer_links
from mmagn.reporting.page.report import write_report
from mmagn.reporting.page.svg import interval_bar, path, probability_color, ticks

GALAXIES = 40
VOID = {"meta", "link", "img", "input", "br", "hr"}
LOADS = {"src", "srcset", "data", "poster", "background", "action", "formaction"}
"""Attributes whose address a browser asks for, or sends to, by itself."""


class Elements(HTMLParser):
    """All elements of a page with their attributes, and a stack that must be empty in the end."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def page(scored_run: SimpleNamespace) -> str:
    return write_report(scored_run.path, scored_run.store).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def elements(page: str) -> Elements:
    parser = Elements()
    parser.feed(page)
    return parser


def test_every_element_is_closed_and_every_anchor_leads_somewhere(elements: Elements) -> None:
    assert elements.open == []
    names = [str(attributes["id"]) for _, attributes in elements.found if "id" in attributes]
    assert len(names) == len(set(names))
    anchors = [str(link["href"]) for link in elements.of("a") if str(link["href"]).startswith("#")]
    assert anchors
    assert {anchor[1:] for anchor in anchors} <= set(names)


def test_nothing_is_asked_of_a_network(elements: Elements, page: str) -> None:
    for tag, attributes in elements.found:
        for name in LOADS & set(attributes):
            assert str(attributes[name]).startswith("data:"), (tag, name)
    assert [link["href"] for link in elements.of("link")] == ["data:,"]
    assert not {"iframe", "object", "embed", "base", "audio", "video"} & {tag for tag, _ in elements.found}
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.S)
    assert "url(" not in style and "@import" not in style
    policy = next(meta["content"] for meta in elements.of("meta") if "http-equiv" in meta)
    assert policy is not None and policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy


def test_names_from_data_stay_text(elements: Elements, page: str, scored_run: SimpleNamespace) -> None:
    assert str(scored_run.measured["object_id"][0]) not in page and "<b>bold" not in page
    assert "&lt;img src=&#34;https://example.org/x&#34; onerror=alert(1)&gt;" in page
    assert all(str(image["src"]).startswith("data:image/webp;base64,") for image in elements.of("img"))
    assert not any(name.startswith("on") for _, attributes in elements.found for name in attributes)


def test_the_page_tells_scores_with_interval_baseline_and_ceiling(page: str, scored_run: SimpleNamespace) -> None:
    told = json.loads((scored_run.path / "scores.json").read_text(encoding="utf-8"))
    score, ceiling = told["scores"]["average_precision"], told["noise_ceiling"]["average_precision"]
    for part in (score, ceiling):
        assert f"{part['value']:.3f} [{part['low']:.3f}, {part['high']:.3f}]" in page
    assert f"prevalence {told['prevalence']:.3f}" in page
    assert "dropped: no flux" in page
    assert "training.epochs" in page
    assert "unknown" not in re.findall(r"<th scope=\"row\">commit</th><td>(.*?)</td>", page)


def test_every_galaxy_has_a_card_with_both_views_and_links_to_both_surveys(
    elements: Elements, scored_run: SimpleNamespace
) -> None:
    cards = elements.of("article")
    assert len(cards) == GALAXIES
    assert all(image["alt"] for image in elements.of("img"))
    assert sum(attributes.get("class") == "spectrum" for attributes in elements.of("svg")) == GALAXIES
    outside = [str(link["href"]) for link in elements.of("a") if str(link["href"]).startswith("https:")]
    assert len(outside) == 3 * GALAXIES
    assert {urlparse(link).netloc for link in outside} == {"skyserver.sdss.org", "hsc-release.mtk.nao.ac.jp"}
    surprises = [float(str(card["data-surprise"])) for card in cards]
    assert surprises == sorted(surprises, reverse=True)


def test_every_table_has_a_caption_and_headers_and_every_figure_a_text(elements: Elements) -> None:
    assert len(elements.of("table")) == len(elements.of("caption")) > 4
    assert {head["scope"] for head in elements.of("th")} == {"col", "row"}
    for svg in elements.of("svg"):
        assert svg.get("aria-hidden") == "true" or svg.get("aria-label")


def test_a_page_stays_below_five_megabytes_whatever_the_sample(page: str) -> None:
    assert len(page) * MAX_CARDS / GALAXIES < 5e6
    many = np.linspace(0, 400, 200_000)
    assert len(path(many, np.sqrt(many))) < 100_000
    assert path([1.0, 2.0, np.nan, 4.0], [1, 1, 1, 1]) == "M1.0 1.0L2.0 1.0L4.0 1.0"


def test_links_hold_the_position_of_the_galaxy() -> None:
    by_id, sky, hsc = (address for _, address in viewer_links("4504", 150.5, -2.25))
    assert parse_qs(urlparse(by_id).query) == {"sid": ["4504"]}
    assert parse_qs(urlparse(sky).query)["dec"] == ["-2.250000"]
    view = json.loads(unquote(hsc.split("?_=")[1]))["view"]
    assert np.degrees([view["a"], view["d"]]) == pytest.approx([150.5, -2.25])
    assert parse_qs(urlparse(viewer_links("<a>", 150.5, -2.25)[0][1]).query)["ra"] == ["150.500000"]


def test_of_many_galaxies_the_most_wrong_and_the_most_right_are_shown() -> None:
    rng = np.random.default_rng(0)
    truth = (rng.random(1000) < 0.3).astype(float)
    verdicts = Verdicts(measured=None, truth=truth, probability=rng.random(1000), called=truth > 0)  # type: ignore[arg-type]
    shown = shown_objects(verdicts)
    assert len(shown) == len(set(shown.tolist())) == MAX_CARDS
    assert int(np.argmax(verdicts.surprise)) == shown[0]
    assert int(np.argmin(verdicts.surprise)) in shown[-1:]


def test_without_its_pairs_a_page_has_no_pictures_and_says_why(
    scored_run: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise FileNotFoundError("the store is gone")

    monkeypatch.setattr("mmagn.reporting.page.report.pair_store", gone)
    copy = tmp_path / "run"
    shutil.copytree(scored_run.path, copy)
    page = write_report(copy).read_text(encoding="utf-8")
    assert "Images and spectra are not at hand: the store is gone" in page
    assert "<img" not in page
    assert page.count("<article") == GALAXIES


def test_a_folder_without_scores_is_refused(scored_run: SimpleNamespace, tmp_path: Path) -> None:
    shutil.copy(scored_run.path / "config.yaml", tmp_path)
    with pytest.raises(FileNotFoundError, match="nothing to report yet: it lacks search"):
        write_report(tmp_path)


def row_of(variant: str, level: str, value: float | None, part: str = "") -> dict[str, object]:
    flat: dict[str, object] = {"variant": variant, "level": level, "stratum": "redshift" if part else "", "part": part}
    flat |= {"objects": 50, "positives": 10, "prevalence": 0.2}
    for name in (*ABLATION_METRICS, "average_precision"):
        flat |= {name: value, f"{name}_low": value, f"{name}_high": value}
    return flat


def test_an_ablation_tells_its_answers_its_ladder_and_its_parts(scored_run: SimpleNamespace, tmp_path: Path) -> None:
    ceiling = {"average_precision": {"value": 0.97, "low": 0.95, "high": 0.99}}
    models = [row_of("fused", "L0", 0.9), row_of("image", "L3", None)]
    asked = {
        "question": "fused - image",
        "sentence": "adding <b> changes nothing: not significant",
        "significant": False,
    }
    asked |= {"value": 0.1, "low": -0.1, "high": 0.3, "p_corrected": None, "metric": "average_precision"}
    told = {"models": models, "questions": [asked], "strata": [row_of("fused", "L0", 0.8, "near")]}
    told |= {"noise_ceiling": ceiling, "strata_noise_ceiling": [{"stratum": "redshift", "part": "near", **ceiling}]}
    shutil.copy(scored_run.path / "config.yaml", tmp_path)
    (tmp_path / "ablation.json").write_text(json.dumps(told), encoding="utf-8")
    page = write_report(tmp_path).read_text(encoding="utf-8")
    for words in (
        "Adding &lt;b&gt; changes nothing: not significant",
        "0.970 [0.950, 0.990]",
        "+0.100 [-0.100, +0.300]",
    ):
        assert words in page
    assert "By redshift" in page and "<td>near</td>" in page
    assert "the image, the spectrum and the ten features" in page


def test_a_search_tells_its_best_trial_and_how_it_got_there(scored_run: SimpleNamespace, tmp_path: Path) -> None:
    best = {"number": 1, "score": 0.6, "folds": [0.5, 0.7], "values": {"hidden_dim": 32, "widths": [4, 8]}}
    told = {"over": "head", "score": "mean average precision", "prevalence": 0.2, "best": best, "nested": None}
    told |= {"trials": {"complete": 2, "pruned": 1}, "importance": {"hidden_dim": 0.8}}
    shutil.copy(scored_run.path / "config.yaml", tmp_path)
    (tmp_path / "search.json").write_text(json.dumps(told), encoding="utf-8")
    (tmp_path / "best.yaml").write_text("models: {hidden: <script>}\n", encoding="utf-8")
    lines = [
        "number,state,score,hidden_dim,folds",
        "0,complete,0.5,16,0.5 0.5",
        "1,complete,0.6,32,0.5 0.7",
        "2,pruned,,64,",
    ]
    (tmp_path / "trials.csv").write_text("\n".join(lines), encoding="utf-8")
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "Best 2 of 3 trials" in page
    assert "models: {hidden: &lt;script&gt;}" in page
    assert page.count("<script>") == 1
    assert "4-8" in page


def test_ticks_are_round_and_colours_run_from_blue_to_vermilion() -> None:
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert ticks(-1.7, 0.7) == [-1.5, -1, -0.5, 0, 0.5]
    assert [probability_color(value) for value in (0.0, 0.5, 1.0)] == ["#0072b2", "#a9a9a9", "#d55e00"]
    assert "circle" not in interval_bar(None, None, None)


def test_verdicts_name_what_came_of_each_galaxy() -> None:
    both = Verdicts(
        measured=None,  # type: ignore[arg-type]
        truth=np.array([1.0, 0.0, 1.0, 0.0]),
        probability=np.array([0.1, 0.9, 0.9, 0.1]),
        called=np.array([False, True, True, False]),
    )
    assert both.outcome == ["missed", "false alarm", "found", "rightly left"]
    flipped = dataclasses.replace(both, probability=1 - both.probability)
    assert np.all((both.surprise > 1) != (flipped.surprise > 1))

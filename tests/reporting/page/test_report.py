"""The report is one file that loads nothing from a network, shows what was measured, and escapes every name."""

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

from mmagn.evaluation.scorecard import Score, Scores
from mmagn.reporting.page.ablation import ABLATION_METRICS
from mmagn.reporting.page.cards import MAX_CARDS, Predictions, card_objects, plate_mjd_fiber, viewer_links
from mmagn.reporting.page.report import write_report
from mmagn.reporting.page.verdict import inputs_sentence, small_sample_warning, training_verdict

GALAXIES = 40
VOID = {"meta", "link", "img", "input", "br", "hr"}
LOADS = {"src", "srcset", "data", "poster", "background", "action", "formaction"}
"""Attributes whose address a browser asks for, or sends to, by itself."""


class Elements(HTMLParser):
    """All elements of a page with their attributes, and a stack that must be empty in the end."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.all if name == tag]


def words_of(page: str) -> str:
    """Text of a page without style, script and settings."""
    text = re.sub(r"<(script|style|pre)\b.*?</\1>", " ", page, flags=re.S)
    return " ".join(re.sub(r"<[^>]*>", "", text).split())


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
    names = [str(attributes["id"]) for _, attributes in elements.all if "id" in attributes]
    assert len(names) == len(set(names))
    anchors = [str(link["href"]) for link in elements.of("a") if str(link["href"]).startswith("#")]
    assert anchors
    assert {anchor[1:] for anchor in anchors} <= set(names)


def test_nothing_is_loaded_from_a_network(elements: Elements, page: str) -> None:
    for tag, attributes in elements.all:
        for name in LOADS & set(attributes):
            assert str(attributes[name]).startswith("data:"), (tag, name)
    assert [link["href"] for link in elements.of("link")] == ["data:,"]
    assert not {"iframe", "object", "embed", "base", "audio", "video"} & {tag for tag, _ in elements.all}
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.S)
    assert "url(" not in style and "@import" not in style
    policy = next(meta["content"] for meta in elements.of("meta") if "http-equiv" in meta)
    assert policy is not None and policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy


def test_names_from_data_stay_text(elements: Elements, page: str, scored_run: SimpleNamespace) -> None:
    assert str(scored_run.measured["object_id"][0]) not in page and "<b>bold" not in page
    assert "&lt;img src=&#34;https://example.org/x&#34; onerror=alert(1)&gt;" in page
    assert all(str(image["src"]).startswith("data:image/webp;base64,") for image in elements.of("img"))
    assert not any(name.startswith("on") for _, attributes in elements.all for name in attributes)


def test_scores_have_interval_baseline_and_ceiling(page: str, scored_run: SimpleNamespace) -> None:
    recorded = json.loads((scored_run.path / "scores.json").read_text(encoding="utf-8"))
    score, ceiling = recorded["scores"]["average_precision"], recorded["noise_ceiling"]["average_precision"]
    for part in (score, ceiling):
        assert f"{part['value']:.3f} [{part['low']:.3f}, {part['high']:.3f}]" in words_of(page)
    assert f"prevalence {recorded['prevalence']:.3f}" in page
    assert "dropped: no flux" in page
    assert "training.epochs" in page
    assert "unknown" not in re.findall(r"<th scope=\"row\">commit</th><td>(.*?)</td>", page)


def test_each_input_has_its_share_and_each_galaxy_what_single_inputs_state(
    page: str, scored_run: SimpleNamespace
) -> None:
    recorded = json.loads((scored_run.path / "scores.json").read_text(encoding="utf-8"))
    for each in recorded["inputs"]:
        cells = [each["share"], each["average_precision_alone"]]
        assert re.search(rf">{each['name']}</th>.*{cells[0]:.3f}.*{cells[1]:.3f}", page), each
    disagreeing = recorded["modalities_disagree"]
    assert 0 < disagreeing <= 1
    assert f"{disagreeing} of {GALAXIES} galaxies have modalities that disagree" in words_of(page)
    assert page.count("(they disagree)") == disagreeing
    least = scored_run.probability.min()
    assert f"alone: image {least:.2f}, features {least:.2f}<" in page


def test_every_galaxy_has_a_card_with_both_views_and_links_to_viewers(
    elements: Elements, scored_run: SimpleNamespace
) -> None:
    cards = elements.of("article")
    assert len(cards) == GALAXIES
    assert all(image["alt"] for image in elements.of("img"))
    spectra = [svg for svg in elements.of("svg") if str(svg["aria-label"]).startswith("spectrum of galaxy")]
    assert len(spectra) == GALAXIES
    outside = [str(link["href"]) for link in elements.of("a") if str(link["href"]).startswith("https:")]
    assert len(outside) == 4 * GALAXIES  # these ids are not those of spectra
    viewers = {"skyserver.sdss.org", "hsc-release.mtk.nao.ac.jp", "www.legacysurvey.org"}
    assert {urlparse(link).netloc for link in outside} == viewers
    surprises = [float(str(card["data-surprise"])) for card in cards]
    assert surprises == sorted(surprises, reverse=True)


def test_every_table_has_a_caption_and_headers_and_every_figure_a_text(elements: Elements) -> None:
    assert len(elements.of("table")) == len(elements.of("caption")) > 4
    assert {head["scope"] for head in elements.of("th")} == {"col", "row"}
    for svg in elements.of("svg"):
        assert svg.get("aria-hidden") == "true" or svg.get("aria-label")


def test_a_page_stays_below_five_megabytes_whatever_the_sample(page: str) -> None:
    assert len(page) * MAX_CARDS / GALAXIES < 5e6


def test_links_hold_the_position_of_the_galaxy() -> None:
    links = dict(viewer_links("403210735615764480", 150.5, -2.25))
    by_id, sky, hsc, legacy = (links[name] for name in ("SDSS object", "SDSS sky", "HSC map", "Legacy Surveys"))
    assert parse_qs(urlparse(by_id).query) == {"sid": ["403210735615764480"]}
    assert plate_mjd_fiber(403210735615764480) == (358, 51818, 504)
    assert parse_qs(urlparse(links["SDSS spectrum"]).query)["plateid"] == ["358"]
    assert parse_qs(urlparse(legacy).query)["ra"] == ["150.500000"]
    assert parse_qs(urlparse(sky).query)["dec"] == ["-2.250000"]
    view = json.loads(unquote(hsc.split("?_=")[1]))["view"]
    assert np.degrees([view["a"], view["d"]]) == pytest.approx([150.5, -2.25])
    for other in ("<a>", "39627652591521181"):  # of no survey, and of DESI
        assert parse_qs(urlparse(viewer_links(other, 150.5, -2.25)[0][1]).query)["ra"] == ["150.500000"]


def test_of_many_galaxies_the_largest_and_the_smallest_errors_are_shown() -> None:
    rng = np.random.default_rng(0)
    truth = (rng.random(1000) < 0.3).astype(float)
    predictions = Predictions(measured=None, truth=truth, probability=rng.random(1000), positive=truth > 0)  # type: ignore[arg-type]
    objects = card_objects(predictions)
    assert len(objects) == len(set(objects.tolist())) == MAX_CARDS
    assert int(np.argmax(predictions.surprise)) == objects[0]
    assert int(np.argmin(predictions.surprise)) in objects[-1:]


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
    assert "<img" not in page and "spectra (" not in page
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


def test_an_ablation_shows_its_answers_its_ladder_and_its_parts(scored_run: SimpleNamespace, tmp_path: Path) -> None:
    ceiling = {"average_precision": {"value": 0.97, "low": 0.95, "high": 0.99}}
    models = [row_of("fused", "L0", 0.9), row_of("image", "L3", None)]
    difference = {
        "question": "fused - image",
        "sentence": "adding <b> changes nothing: not significant",
        "significant": False,
    }
    difference |= {"value": 0.1, "low": -0.1, "high": 0.3, "p_corrected": None, "metric": "average_precision"}
    recorded = {"models": models, "questions": [difference], "strata": [row_of("fused", "L0", 0.8, "near")]}
    recorded |= {"noise_ceiling": ceiling, "strata_noise_ceiling": [{"stratum": "redshift", "part": "near", **ceiling}]}
    shutil.copy(scored_run.path / "config.yaml", tmp_path)
    (tmp_path / "ablation.json").write_text(json.dumps(recorded), encoding="utf-8")
    page = write_report(tmp_path).read_text(encoding="utf-8")
    for words in (
        "Adding &lt;b&gt; changes nothing: not significant",
        "0.970 [0.950, 0.990]",
        "+0.100 [-0.100, +0.300]",
    ):
        assert words in words_of(page)
    assert "By redshift" in page and "<td>near</td>" in page
    assert "the image, the spectrum and the ten features" in page
    assert "The one difference between models is not significant" in page
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"forest.png", "strata.png"}


def test_a_search_shows_its_best_trial_and_every_other(scored_run: SimpleNamespace, tmp_path: Path) -> None:
    best = {"number": 2, "score": 0.6, "folds": [0.5, 0.7], "values": {"hidden_dim": 32, "widths": [4, 8]}}
    recorded = {"over": "head", "score": "mean average precision", "prevalence": 0.2, "best": best, "nested": None}
    recorded |= {"trials": {"complete": 2, "pruned": 1}, "importance": {"hidden_dim": 0.8}, "simulated": False}
    shutil.copy(scored_run.path / "config.yaml", tmp_path)
    (tmp_path / "search.json").write_text(json.dumps(recorded), encoding="utf-8")
    (tmp_path / "best.yaml").write_text("models: {hidden: <script>}\n", encoding="utf-8")
    lines = [
        "number,state,score,hidden_dim,folds",
        "1,complete,0.5,16,0.5 0.5",
        "2,complete,0.6,32,0.5 0.7",
        "3,pruned,,64,",
    ]
    (tmp_path / "trials.csv").write_text("\n".join(lines), encoding="utf-8")
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "Best 2 of 3 trials" in page
    assert "models: {hidden: &lt;script&gt;}" in page
    assert page.count("<script>") == 1
    assert "4-8" in page
    assert "Trial 2 of 3 is the best: mean average precision 0.600, 3.0 times the 0.200 of guessing" in page
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"history.png", "importance.png", "parallel.png"}


def test_predictions_name_the_outcome_of_each_galaxy() -> None:
    four = Predictions(
        measured=None,  # type: ignore[arg-type]
        truth=np.array([1.0, 0.0, 1.0, 0.0]),
        probability=np.array([0.1, 0.9, 0.9, 0.1]),
        positive=np.array([False, True, True, False]),
    )
    assert four.outcome == ["false negative", "false positive", "true positive", "true negative"]
    flipped = dataclasses.replace(four, probability=1 - four.probability)
    assert np.all((four.surprise > 1) != (flipped.surprise > 1))


def test_every_figure_of_the_page_is_in_the_folder_too(elements: Elements, scored_run: SimpleNamespace) -> None:
    names = {str(figure["id"]).removeprefix("figure-") for figure in elements.of("figure")}
    assert names == {path.stem for path in (scored_run.path / "figures").glob("*.png")}
    expected = {"roc", "precision_recall", "confusion", "reliability", "bpt", "bpt_probability", "whan"}
    assert expected | {"scores", "classes", "coverage", "gallery", "images"} <= names


def test_both_surveys_are_on_the_map_and_right_ascension_stays_below_360(page: str) -> None:
    assert "spectra (41)" in page and "HSC images (40)" in page
    coverage = page[page.index('id="figure-coverage"') :]
    numbers = [float(text) for text in re.findall(r"<text[^>]*>(\d+)</text>", coverage[: coverage.index("</figure>")])]
    assert len(numbers) > 3 and max(numbers) < 360


def test_no_table_is_empty(page: str) -> None:
    assert all("<tr>" in body for body in re.findall(r"<tbody>(.*?)</tbody>", page, re.S))


def scores_of(value: float | None, objects: int = 100, positives: int = 20) -> Scores:
    reason = "" if value is not None else "undefined for one class"
    score = Score(value=value, low=None if value is None else 0.7, high=None if value is None else 0.95, reason=reason)
    return Scores(
        objects=objects,
        positives=positives,
        prevalence=positives / objects,
        threshold=0.5,
        confidence=0.95,
        bootstrap_draws=10,
        scores={"average_precision": score},
        all_negative={},
        confusion_matrix=[[0, 0], [0, 0]],
        classification_report={},
        classification_report_text="",
    )


def test_the_verdict_compares_with_guessing_and_the_ceiling_and_names_simulation_and_input(page: str) -> None:
    ceiling = Score(value=0.9, low=0.8, high=0.97)
    first, second = training_verdict(scores_of(0.85), ceiling, "test", {"image": {"value": 0.0}}, simulated=True)
    assert "4.2 times the 0.200 of guessing" in first
    assert "within the interval of the noise ceiling 0.900 [0.800, 0.970]" in first
    assert "the survey is simulated" in first
    assert second == "The only input is the image."
    first, _ = training_verdict(scores_of(0.6), ceiling, "test", {}, simulated=False)
    assert "below the noise ceiling" in first and "simulated" not in first
    first, _ = training_verdict(scores_of(None), Score(), "test", {}, simulated=False)
    assert "undefined for one class" in first
    assert "permuting the features among the galaxies lowers average precision by 0.400 [0.300, 0.500]" in page


def test_an_input_decides_only_where_its_interval_excludes_zero() -> None:
    weak = {
        "image": {"value": 0.02, "low": -0.01, "high": 0.05},
        "spectrum": {"value": 0.01, "low": -0.02, "high": 0.04},
    }
    assert inputs_sentence(weak).startswith("No single input decides")


def test_a_sample_of_a_few_galaxies_has_a_banner(page: str) -> None:
    assert "holds 2, of which 1 are AGN" in small_sample_warning(2, 1, "test split")
    assert small_sample_warning(40, 20, "test split") == ""
    assert 'id="warning"' not in page


def test_words_of_the_page_are_those_of_the_field(page: str) -> None:
    text = words_of(page)
    for words in ("rightly left", "false alarm", "blind model", "corrected for", "seyfert", "liner"):
        assert words not in text
    for words in ("true negative", "Seyfert", "LINER", "P(AGN) is the calibrated probability", "The Brier score is"):
        assert words in text

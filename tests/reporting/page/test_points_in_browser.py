"""What a reader looks for on a report, as a browser shows it: intervals, figures, legends, links, parts of a sample."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.table import Table
from browser import NEEDS_BROWSER, looks_like, size
from selenium import webdriver
from selenium.webdriver.common.by import By

from mmagn.reporting.page.ablation import ABLATION_METRICS
from mmagn.reporting.page.report import write_report

pytestmark = NEEDS_BROWSER
SCREENS = [(1400, 900, "light"), (390, 844, "dark")]


@pytest.mark.parametrize(("width", "height", "scheme"), SCREENS)
def test_intervals_are_in_view_without_scrolling_a_table(
    page: webdriver.Chrome, width: int, height: int, scheme: str
) -> None:
    size(page, width, height)
    looks_like(page, scheme)
    places = page.execute_script(INTERVALS)
    assert len(places) >= 10
    for text, left, right, box_left, box_right in places:
        assert text.startswith("[") and text.endswith("]")
        assert box_left <= left < right <= box_right + 1, text


INTERVALS = """
const box = document.querySelector("#scores .scroll"), place = box.getBoundingClientRect();
return [...box.querySelectorAll("tbody tr")].map((row) => row.querySelector(".whole")).filter(Boolean).map((span) => {
  const own = span.getBoundingClientRect();
  return [span.textContent, own.left, own.right, place.left, place.right];
});
"""


def test_accuracy_is_among_the_tiles_with_its_interval(page: webdriver.Chrome) -> None:
    tiles = {
        tile.find_element(By.TAG_NAME, "dt").text: tile for tile in page.find_elements(By.CSS_SELECTOR, ".tiles div")
    }
    for name in ("average precision", "accuracy"):
        assert tiles[name].is_displayed()
        assert re.search(r"95%: \d\.\d{3} to \d\.\d{3}", tiles[name].text)
    assert "all negative 0.500" in tiles["accuracy"].text


@pytest.mark.parametrize(("width", "height", "scheme"), SCREENS)
def test_the_figures_of_the_article_are_drawn(page: webdriver.Chrome, width: int, height: int, scheme: str) -> None:
    size(page, width, height)
    looks_like(page, scheme)
    for name in ("roc", "confusion", "whan", "bpt", "gallery", "images", "coverage", "reliability"):
        drawing = page.find_element(By.CSS_SELECTOR, f"#figure-{name} svg")
        assert drawing.is_displayed() and min(drawing.size.values()) > 100, name


def text_of(page: webdriver.Chrome, figure: str) -> list[str]:
    script = "return [...document.querySelectorAll(arguments[0])].map((text) => text.textContent)"
    return list(page.execute_script(script, f"#figure-{figure} svg text"))


def test_the_legend_of_the_bpt_diagram_names_its_curves_and_counts_its_classes(page: webdriver.Chrome) -> None:
    words = " ".join(text_of(page, "bpt"))
    for name in ("Kewley", "Kauffmann", "Schawinski"):
        assert name in words
    for name in ("Seyfert", "LINER", "composite", "star-forming"):
        assert f"{name} (10)" in words


def test_both_surveys_are_named_on_the_map(page: webdriver.Chrome) -> None:
    words = " ".join(text_of(page, "coverage"))
    assert "spectra (41)" in words and "HSC images (40)" in words


def test_no_title_that_can_be_opened_leads_to_an_empty_table(page: webdriver.Chrome) -> None:
    page.execute_script("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    rows = page.execute_script(
        "return [...document.querySelectorAll('table')].map((each) => each.tBodies[0].rows.length)"
    )
    assert len(rows) >= 6 and min(rows) > 0


def test_every_galaxy_links_to_its_place_in_both_surveys_and_the_legacy_viewer(page: webdriver.Chrome) -> None:
    for card in page.find_elements(By.CSS_SELECTOR, ".card:not([hidden])")[:5]:
        links = {link.text: link.get_attribute("href") for link in card.find_elements(By.CSS_SELECTOR, ".links a")}
        assert {"SDSS object", "SDSS sky", "HSC map", "Legacy Surveys"} <= set(links)
        position = f"ra={card.get_attribute('data-ra')}&dec={card.get_attribute('data-dec')}"
        assert position in links["Legacy Surveys"] and position in links["SDSS sky"]


def opened(browser: webdriver.Chrome, run: Path, store: SimpleNamespace) -> None:
    browser.get(write_report(run, store).as_uri())
    looks_like(browser, "light")
    size(browser, 1400, 900)


def test_right_ascension_never_exceeds_360_where_a_field_crosses_it(
    browser: webdriver.Chrome, scored_run: SimpleNamespace, tmp_path: Path
) -> None:
    shutil.copytree(scored_run.path, tmp_path / "run")
    measured = Table.read(tmp_path / "run" / "measurements.parquet")
    measured["ra_deg"] += 210.0
    assert 359 < measured["ra_deg"].min() < 360 < measured["ra_deg"].max()
    measured.write(tmp_path / "run" / "measurements.parquet", overwrite=True)
    places = np.asarray(measured["ra_deg"]), np.asarray(measured["dec_deg"])
    opened(browser, tmp_path / "run", SimpleNamespace(**(vars(scored_run.store) | {"positions": lambda _: places})))
    right_ascension = browser.execute_script(
        "return [...document.querySelectorAll('.card')].map((card) => +card.dataset.ra)"
    )
    np.testing.assert_allclose(np.sort(right_ascension), np.sort(measured["ra_deg"] % 360), atol=1e-5)
    numbers = {float(text) for text in text_of(browser, "coverage") if text.replace(".", "", 1).isdigit()}
    assert {359.0, 0.0, 1.0} <= numbers
    assert not [number for number in numbers if 360 <= number < 400], "larger numbers are those of cells"


@pytest.mark.parametrize(("width", "height"), [(1400, 900), (390, 844)])
def test_parts_of_an_ablation_have_counts_and_intervals(
    browser: webdriver.Chrome, scored_run: SimpleNamespace, tmp_path: Path, width: int, height: int
) -> None:
    def row(part: str = "") -> dict[str, object]:
        about = {"variant": "fused", "level": "L0", "stratum": "redshift" if part else "", "part": part}
        numbers = {"objects": 50, "positives": 10, "prevalence": 0.2}
        for name in (*ABLATION_METRICS, "average_precision"):
            numbers |= {name: 0.8, f"{name}_low": 0.7, f"{name}_high": 0.9}
        return about | numbers

    ceiling = {"average_precision": {"value": 0.97, "low": 0.95, "high": 0.99}}
    recorded = {"models": [row()], "questions": [], "strata": [row("near"), row("far")], "noise_ceiling": ceiling}
    recorded["strata_noise_ceiling"] = [{"stratum": "redshift", "part": part, **ceiling} for part in ("near", "far")]
    shutil.copy(scored_run.path / "config.yaml", tmp_path)
    (tmp_path / "ablation.json").write_text(json.dumps(recorded), encoding="utf-8")
    opened(browser, tmp_path, scored_run.store)
    size(browser, width, height)
    browser.execute_script("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    table = browser.find_element(By.XPATH, "//table[caption[contains(., 'edshift')]]")
    for part in ("near", "far"):
        cells = table.find_element(By.XPATH, f".//tr[td[. = '{part}'] or th[. = '{part}']]").text
        assert "50" in cells and "0.800" in cells and "[0.700, 0.900]" in cells

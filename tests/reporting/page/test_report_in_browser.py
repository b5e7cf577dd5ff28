"""The page in a browser without a network: no errors; sorting, filters, downloads, copying; dark, desktop and phone."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io.ascii import convert_numpy
from astropy.table import Table
from browser import NEEDS_BROWSER, looks_like, size
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select

from mmagn.reporting.page.report import write_report

pytestmark = NEEDS_BROWSER


def shown(page: webdriver.Chrome, key: str) -> list[str]:
    script = "return [...document.querySelectorAll('.card:not([hidden])')].map(card => card.dataset[arguments[0]])"
    return list(page.execute_script(script, key))


def darkness(page: webdriver.Chrome) -> float:
    """Of the background of the page, 0 white to 1 black."""
    color = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    return 1 - sum(int(part) for part in color[color.index("(") + 1 : -1].split(",")[:3]) / 765


def chosen(page: webdriver.Chrome, name: str) -> Select:
    return Select(page.find_element(By.NAME, name))


def test_galaxies_sort_by_the_chosen_number(page: webdriver.Chrome) -> None:
    assert shown(page, "surprise") == sorted(shown(page, "surprise"), key=float, reverse=True)
    for text, key, falling in (("S/N, high first", "snr", True), ("redshift, low first", "redshift", False)):
        chosen(page, "sort").select_by_visible_text(text)
        assert shown(page, key) == sorted(shown(page, key), key=float, reverse=falling)


def test_filters_leave_matching_galaxies_and_are_cleared_with_a_click(
    page: webdriver.Chrome, scored_run: SimpleNamespace
) -> None:
    everyone = len(scored_run.truth)
    page.find_element(By.ID, "more").click()
    assert len(shown(page, "snr")) == everyone
    chosen(page, "class").select_by_visible_text("Seyfert")
    page.find_element(By.NAME, "probability-low").send_keys("0.7")
    seyfert = scored_run.measured["bpt_class"] == "seyfert"
    wanted = int((seyfert & (scored_run.probability >= 0.7)).sum())
    assert 0 < wanted < seyfert.sum()
    assert set(shown(page, "class")) == {"seyfert"}
    assert len(shown(page, "class")) == wanted
    assert page.find_element(By.ID, "count").text == f"{wanted} of {everyone} galaxies"
    page.find_element(By.ID, "all").click()
    assert page.find_element(By.ID, "count").text == f"{everyone} of {everyone} galaxies"


def test_an_object_of_the_bpt_diagram_shows_its_numbers_and_opens_its_card(page: webdriver.Chrome) -> None:
    chosen(page, "outcome").select_by_visible_text("false negative")
    hidden = page.execute_script("return document.querySelector('.card[hidden]').dataset.card")
    dot = page.find_element(By.CSS_SELECTOR, f"#figure-bpt_probability [data-card='{hidden}']")
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", dot)
    ActionChains(page).move_to_element(dot).perform()
    tip = page.find_element(By.ID, "tip")
    assert tip.is_displayed() and "P(AGN)" in tip.text
    number = page.execute_script("return document.querySelector('.object:hover').dataset.card")
    ActionChains(page).click().perform()
    card = page.find_element(By.ID, f"card-{number}")
    assert card.is_displayed() and page.switch_to.active_element == card


def test_colours_follow_the_system_and_the_button(page: webdriver.Chrome) -> None:
    assert darkness(page) < 0.1
    page.find_element(By.ID, "theme").click()
    assert darkness(page) > 0.85
    page.find_element(By.ID, "theme").click()
    assert darkness(page) < 0.1
    page.execute_script("delete document.documentElement.dataset.theme")
    looks_like(page, "dark")
    assert darkness(page) > 0.85


def test_a_phone_does_not_scroll_sideways(page: webdriver.Chrome) -> None:
    size(page, 390, 844)
    for element in page.find_elements(By.TAG_NAME, "summary"):
        page.execute_script("arguments[0].parentElement.open = true", element)
    widths = page.execute_script("return [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert widths == [390, 390]


def test_text_has_contrast_to_its_background(page: webdriver.Chrome) -> None:
    for scheme in ("light", "dark"):
        looks_like(page, scheme)
        for selector in ("p", "figcaption", "td", "caption", ".badge", "nav a", "dt", ".note", ".copy"):
            front, back = page.execute_script(COLORS, selector)
            assert contrast(front, back) >= 4.5, (scheme, selector)


COLORS = """
const element = document.querySelector(arguments[0]);
let behind = element;
while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
return [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor];
"""


def contrast(front: str, back: str) -> float:
    """WCAG 2.1 contrast ratio of two colours."""
    light = []
    for color in (front, back):
        parts = [int(part) / 255 for part in color[color.index("(") + 1 : -1].split(",")[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        light.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(light) + 0.05) / (min(light) + 0.05)


def test_the_page_opens_away_from_its_run_folder(
    browser: webdriver.Chrome, scored_run: SimpleNamespace, tmp_path: Path
) -> None:
    shutil.copy(scored_run.path / "report.html", tmp_path)
    browser.get((tmp_path / "report.html").as_uri())
    broken = "return [...document.images].filter(image => !image.complete || !image.naturalWidth).length"
    assert browser.execute_script(broken) == 0
    assert browser.get_log("browser") == []


SCREENS = [(1400, 900, "light"), (1400, 900, "dark"), (390, 844, "light"), (390, 844, "dark")]


@pytest.mark.parametrize(("width", "height", "scheme"), SCREENS)
def test_every_figure_is_drawn_inside_the_page_with_readable_text(
    page: webdriver.Chrome, width: int, height: int, scheme: str
) -> None:
    size(page, width, height)
    looks_like(page, scheme)
    figures = page.execute_script(FIGURES)
    assert len(figures) >= 12
    for name, left, right, smallest, front, back in figures:
        assert left >= 0 and right <= width, name
        assert smallest >= 7, name
        assert contrast(front, back) >= 4.5, name


FIGURES = """
return [...document.querySelectorAll("figure")].map((figure) => {
  const svg = figure.querySelector("svg"), box = figure.querySelector(".drawing").getBoundingClientRect();
  const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
  const texts = [...svg.querySelectorAll("text")];
  const sizes = texts.map((text) => parseFloat(getComputedStyle(text).fontSize) * scale);
  const fill = getComputedStyle(svg.querySelector("text[text-anchor=middle]") || texts[0]).fill;
  return [figure.id, box.left, box.right, Math.min(...sizes), fill, getComputedStyle(document.body).backgroundColor];
});
"""


@pytest.mark.parametrize(("width", "height"), [(1400, 900), (390, 844)])
def test_no_table_is_cut_without_a_hint(page: webdriver.Chrome, width: int, height: int) -> None:
    size(page, width, height)
    for element in page.find_elements(By.TAG_NAME, "summary"):
        page.execute_script("arguments[0].parentElement.open = true", element)
    page.execute_async_script("setTimeout(arguments[0], 100)")
    for name, cut, hinted in page.execute_script(TABLES):
        assert cut == hinted, name
        assert not cut or width < 500, name


TABLES = """
return [...document.querySelectorAll(".scroll")].map((box) =>
  [box.getAttribute("aria-label"), box.scrollWidth > box.clientWidth + 1, !box.nextElementSibling.hidden]);
"""


def downloaded(browser: webdriver.Chrome, ending: str) -> Path:
    folder: Path = browser.downloads  # type: ignore[attr-defined]
    for _ in range(600):
        if files := list(folder.glob(f"*.{ending}")):
            return files[0]
        browser.execute_async_script("setTimeout(arguments[0], 100)")
    raise AssertionError(f"no file *.{ending} was downloaded")


def test_downloads_hold_the_galaxies_that_pass_the_filters(page: webdriver.Chrome, scored_run: SimpleNamespace) -> None:
    chosen(page, "class").select_by_visible_text("star-forming")
    page.find_element(By.ID, "csv").click()
    page.find_element(By.ID, "votable").click()
    for table in (
        Table.read(downloaded(page, "csv"), format="ascii.csv", converters={"object_id": [convert_numpy(str)]}),
        Table.read(downloaded(page, "vot"), format="votable"),
    ):
        wanted = scored_run.measured[scored_run.measured["bpt_class"] == "star-forming"]
        order = np.argsort(np.asarray(table["object_id"], dtype=np.str_))
        expected = np.argsort(np.asarray(wanted["object_id"], dtype=np.str_))
        assert np.asarray(table["object_id"], dtype=np.str_)[order].tolist() == wanted["object_id"][expected].tolist()
        np.testing.assert_allclose(table["ra"][order], wanted["ra_deg"][expected], atol=1e-5)
        assert set(table["outcome"]) <= {"true negative", "false positive"}


def test_a_button_copies_command_and_settings(page: webdriver.Chrome) -> None:
    buttons = page.find_elements(By.CSS_SELECTOR, ".copy")
    assert [button.get_attribute("aria-label") for button in buttons] == ["Copy all settings", "Copy the command"]
    page.execute_script("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    buttons[1].click()
    assert page.execute_script("return window.copied") == page.find_elements(By.CSS_SELECTOR, ".copied pre")[1].text
    assert buttons[1].text == "Copied"


def test_the_verdict_is_at_the_top_on_desktop_and_phone(page: webdriver.Chrome) -> None:
    for width, height in ((1400, 900), (390, 844)):
        size(page, width, height)
        page.execute_script("scrollTo(0, 0)")
        bottom = page.execute_script("return document.getElementById('verdict').getBoundingClientRect().bottom")
        assert 0 < bottom < height
    assert page.find_element(By.ID, "verdict").text.count(".\n") == 1


def test_a_test_split_of_a_few_galaxies_has_a_banner(
    browser: webdriver.Chrome, scored_run: SimpleNamespace, tmp_path: Path
) -> None:
    shutil.copytree(scored_run.path, tmp_path / "run")
    path = tmp_path / "run" / "scores.json"
    recorded = json.loads(path.read_text(encoding="utf-8")) | {"objects": 2, "positives": 1}
    path.write_text(json.dumps(recorded), encoding="utf-8")
    browser.get(write_report(tmp_path / "run", scored_run.store).as_uri())
    for width, height in ((1400, 900), (390, 844)):
        size(browser, width, height)
        banner = browser.find_element(By.ID, "warning")
        assert banner.is_displayed() and "holds 2, of which 1 are AGN" in banner.text

"""The page in a real browser without a network: it runs without an error, sorts, filters, turns dark, fits a phone."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select

from mmagn.reporting.page.report import write_report

BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), "")
DRIVER = shutil.which("chromedriver") or ""
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--window-size=1280,900",
)
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="needs chromium and chromedriver on the PATH (Debian: chromium, chromium-driver)"
)


@pytest.fixture(scope="module")
def browser(scored_run: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """A browser that shows the page of a run, its network off."""
    write_report(scored_run.path, scored_run.store)
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        driver.get("about:blank")  # ends what the browser's own first page still asks for
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def page(browser: webdriver.Chrome, scored_run: SimpleNamespace) -> Iterator[webdriver.Chrome]:
    """The page, loaded anew, light and wide; what it logs and asks for is looked at in the end."""
    looks_like(browser, "light")
    size(browser, 1280, 900)
    sent(browser)  # what the browser asked for itself when it started is not the page's
    browser.get((scored_run.path / "report.html").as_uri())
    yield browser
    assert browser.get_log("browser") == []
    asked = {message["request"]["url"].partition(":")[0] for message in sent(browser)}
    assert asked <= {"file", "data"}


def sent(browser: webdriver.Chrome) -> list[dict[str, Any]]:
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]


def looks_like(browser: webdriver.Chrome, scheme: str) -> None:
    asked = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
    features = [{"name": name, "value": value} for name, value in asked.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def size(browser: webdriver.Chrome, width: int, height: int) -> None:
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def shown(page: webdriver.Chrome, key: str) -> list[str]:
    script = "return [...document.querySelectorAll('.card:not([hidden])')].map(card => card.dataset[arguments[0]])"
    return list(page.execute_script(script, key))


def darkness(page: webdriver.Chrome) -> float:
    """Of the background of the page, 0 white to 1 black."""
    color = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    return 1 - sum(int(part) for part in color[color.index("(") + 1 : -1].split(",")[:3]) / 765


def chosen(page: webdriver.Chrome, name: str) -> Select:
    return Select(page.find_element(By.NAME, name))


def test_galaxies_sort_by_what_is_asked(page: webdriver.Chrome) -> None:
    assert shown(page, "surprise") == sorted(shown(page, "surprise"), key=float, reverse=True)
    for text, key, falling in (("S/N, bright first", "snr", True), ("redshift, near first", "redshift", False)):
        chosen(page, "sort").select_by_visible_text(text)
        assert shown(page, key) == sorted(shown(page, key), key=float, reverse=falling)


def test_filters_leave_what_fits_and_are_cleared_with_a_click(
    page: webdriver.Chrome, scored_run: SimpleNamespace
) -> None:
    everyone = len(scored_run.truth)
    page.find_element(By.ID, "more").click()
    assert len(shown(page, "snr")) == everyone
    chosen(page, "class").select_by_visible_text("seyfert")
    page.find_element(By.NAME, "probability-low").send_keys("0.7")
    seyfert = scored_run.measured["bpt_class"] == "seyfert"
    wanted = int((seyfert & (scored_run.probability >= 0.7)).sum())
    assert 0 < wanted < seyfert.sum()
    assert set(shown(page, "class")) == {"seyfert"}
    assert len(shown(page, "class")) == wanted
    assert page.find_element(By.ID, "count").text == f"{wanted} of {everyone} galaxies"
    page.find_element(By.ID, "all").click()
    assert page.find_element(By.ID, "count").text == f"{everyone} of {everyone} galaxies"


def test_an_object_of_the_plane_says_what_it_is_and_leads_to_its_card(page: webdriver.Chrome) -> None:
    chosen(page, "outcome").select_by_visible_text("missed")
    hidden = page.execute_script("return document.querySelector('.card[hidden]').dataset.card")
    dot = page.find_element(By.CSS_SELECTOR, f"#plane-figure [data-card='{hidden}']")
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", dot)
    ActionChains(page).move_to_element(dot).perform()
    tip = page.find_element(By.ID, "tip")
    assert tip.is_displayed() and "P(AGN)" in tip.text
    number = page.execute_script("return document.querySelector('.object:hover').dataset.card")
    ActionChains(page).click().perform()
    card = page.find_element(By.ID, f"card-{number}")
    assert card.is_displayed() and page.switch_to.active_element == card


def test_it_is_light_or_dark_as_the_system_asks_and_the_button_turns_it(page: webdriver.Chrome) -> None:
    assert darkness(page) < 0.1
    page.find_element(By.ID, "theme").click()
    assert darkness(page) > 0.85
    page.find_element(By.ID, "theme").click()
    assert darkness(page) < 0.1
    page.execute_script("delete document.documentElement.dataset.theme")
    looks_like(page, "dark")
    assert darkness(page) > 0.85


def test_a_phone_need_not_scroll_sideways(page: webdriver.Chrome) -> None:
    size(page, 390, 844)
    for element in page.find_elements(By.TAG_NAME, "summary"):
        page.execute_script("arguments[0].parentElement.open = true", element)
    widths = page.execute_script("return [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert widths == [390, 390]


def test_text_stands_out_from_its_background(page: webdriver.Chrome) -> None:
    for scheme in ("light", "dark"):
        looks_like(page, scheme)
        for selector in ("p", "figcaption", "td", "caption", ".badge", "nav a", "dt"):
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


def test_the_page_opens_where_nothing_else_of_the_run_is(
    browser: webdriver.Chrome, scored_run: SimpleNamespace, tmp_path: Path
) -> None:
    shutil.copy(scored_run.path / "report.html", tmp_path)
    browser.get((tmp_path / "report.html").as_uri())
    broken = "return [...document.images].filter(image => !image.complete || !image.naturalWidth).length"
    assert browser.execute_script(broken) == 0
    assert browser.get_log("browser") == []

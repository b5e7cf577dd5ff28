"""A real browser that shows reports, its network off; skipped where chromium is not installed."""

import json
import shutil
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

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
NEEDS_BROWSER = pytest.mark.skipif(
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
    downloads = tmp_path_factory.mktemp("downloads")
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        driver.get("about:blank")  # ends what the browser's own first page still asks for
        behaviour = {"behavior": "allow", "downloadPath": str(downloads)}
        driver.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
        driver.downloads = downloads  # type: ignore[attr-defined]
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def page(browser: webdriver.Chrome, scored_run: SimpleNamespace) -> Iterator[webdriver.Chrome]:
    """The page, loaded anew, light and wide; what it logs and asks for is looked at in the end."""
    looks_like(browser, "light")
    size(browser, 1400, 900)
    sent(browser)  # requests of the start-up of the browser are not those of the page
    browser.get((scored_run.path / "report.html").as_uri())
    yield browser
    assert browser.get_log("browser") == []
    schemes = {message["request"]["url"].partition(":")[0] for message in sent(browser)}
    assert schemes <= {"file", "data"}


def sent(browser: webdriver.Chrome) -> list[dict[str, Any]]:
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]


def looks_like(browser: webdriver.Chrome, scheme: str) -> None:
    settings = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
    features = [{"name": name, "value": value} for name, value in settings.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def size(browser: webdriver.Chrome, width: int, height: int) -> None:
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

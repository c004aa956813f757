"""Headless Chromium for tests of pages: the network is off but for this machine; accessibility by axe-core."""

import shutil
import time
from pathlib import Path

import pytest
from selenium import webdriver

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver on PATH")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    profile = tmp_path_factory.mktemp("chromium")
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", f"user-data-dir={profile}"):
        options.add_argument(f"--{flag}")
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(60)
    driver.set_window_size(1280, 1000)
    yield driver
    driver.quit()


def open_page(browser, address: str, seconds: float = 30) -> None:
    """Open a page and wait until it says that it is ready."""
    browser.get_log("browser")
    browser.get(address)
    wait_for(browser, "return document.documentElement.dataset.ready === 'true'", seconds)


def text_of(browser, selector: str) -> str:
    return browser.execute_script("return document.querySelector(arguments[0]).innerText", selector)


def wait_for(browser, script: str, seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not browser.execute_script(script):
        assert time.monotonic() < until, (script, [entry["message"] for entry in browser.get_log("browser")])
        time.sleep(0.05)


def violations(browser) -> list[str]:
    """What axe-core finds wrong with the page as it is now."""
    import axe_core_python

    source = Path(axe_core_python.__file__).with_name("axe.min.js").read_text(encoding="utf-8")
    browser.execute_script(source)
    found = browser.execute_async_script(
        "const done = arguments[0]; axe.run(document, { resultTypes: ['violations'] }).then(r => done(r.violations))"
    )
    return [f"{v['id']}: {v['help']}: {[node['html'][:160] for node in v['nodes'][:3]]}" for v in found]

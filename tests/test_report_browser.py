"""The report in a real browser (headless Chromium), from disk with the network off; accessibility by axe-core."""

# ruff: noqa: F811 (fixtures are imported)
import time
from pathlib import Path

import pytest

from browser import browser, needs_browser, open_page, text_of, violations, wait_for  # noqa: F401
from fake_run import build_fake_run
from tagpr.report import write_report

pytestmark = needs_browser


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    run = build_fake_run(tmp_path_factory.mktemp("runs") / "demo", users=35)
    return write_report(run, run / "report")


def _open(browser, page: Path) -> None:
    open_page(browser, page.as_uri())


def _set(browser, name: str, value: str, event: str) -> None:
    browser.execute_script(
        "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
        "e.dispatchEvent(new Event(arguments[2], { bubbles: true }));",
        name,
        value,
        event,
    )


def test_opens_without_an_error_or_a_request(browser, page):
    _open(browser, page)
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    requested = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in requested if not name.startswith(("data:", "blob:"))] == []
    assert browser.title == "demo · tagpr report"  # the hostile text's onerror would have changed it
    assert text_of(browser, "#count") == "70 cases"
    assert "History of this user" in text_of(browser, "#case")


def test_hostile_question_is_shown_as_text(browser, page):
    _open(browser, page)
    _set(browser, "query", "onerror", "input")
    wait_for(browser, "return /^2 of 70/.test(document.getElementById('count').innerText)")
    wait_for(browser, "return document.getElementById('case').innerText.includes('</script><img src=x')")
    assert browser.execute_script("return document.images.length") == 0
    assert browser.title == "demo · tagpr report"


def test_filters_and_search(browser, page):
    _open(browser, page)
    _set(browser, "outcome", "worse", "change")
    wait_for(browser, "return / of 70/.test(document.getElementById('count').innerText)")
    worse = int(text_of(browser, "#count").split()[0])
    assert 0 < worse < 70
    assert browser.execute_script("return document.querySelectorAll('#list .mark.worse').length") == min(worse, 50)
    _set(browser, "task", "package-section", "change")
    wait_for(browser, "return [...document.querySelectorAll('#list small')].every(e => /section/.test(e.innerText))")
    _set(browser, "query", "输入法", "input")
    _set(browser, "outcome", "", "change")
    wait_for(browser, "return /^1 of 70/.test(document.getElementById('count').innerText)")
    _set(browser, "query", "no such words anywhere", "input")
    wait_for(browser, "return /No case matches/.test(document.getElementById('case').innerText)")
    _set(browser, "query", "", "input")
    _set(browser, "task", "", "change")
    fault = browser.execute_script("return document.querySelector('#fault option:nth-child(2)').value")
    _set(browser, "fault", fault, "change")
    wait_for(browser, "return / of 70/.test(document.getElementById('count').innerText)")
    wait_for(browser, "return document.querySelector('#case .faults') !== null")


def test_every_text_of_a_user_has_its_own_direction(browser, page):
    _open(browser, page)
    for part in (".question", ".target", ".history li span", ".answer .said", ".answer .step", "#list .q"):
        directions = browser.execute_script(
            "return [...document.querySelectorAll(arguments[0])].map(e => e.getAttribute('dir'))", part
        )
        assert directions and set(directions) == {"auto"}, part
    script = (
        "const q = document.querySelector('.question'); q.textContent = 'שלום'; return getComputedStyle(q).direction"
    )
    assert browser.execute_script(script) == "rtl"


def test_keyboard(browser, page):
    from selenium.webdriver.common.keys import Keys

    _open(browser, page)
    body = browser.switch_to.active_element
    first = text_of(browser, "#case .head")
    body.send_keys("j")
    wait_for(browser, "return document.querySelector('#list [aria-current]') === document.activeElement")
    wait_for(browser, f"return document.querySelector('#case .head').innerText !== {first!r}")
    browser.switch_to.active_element.send_keys("k")
    wait_for(browser, f"return document.querySelector('#case .head').innerText === {first!r}")
    browser.switch_to.active_element.send_keys("/")
    assert browser.execute_script("return document.activeElement.id") == "query"
    browser.switch_to.active_element.send_keys("j")  # typing is typing
    assert browser.execute_script("return document.getElementById('query').value") == "j"
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert browser.execute_script("return document.activeElement.id") != "query"


def test_from_the_summary_to_those_who_lost(browser, page):
    _open(browser, page)
    worse = browser.execute_script(
        "const link = document.querySelector('a[data-outcome=worse]'); link.click(); return link.innerText"
    )
    wait_for(browser, f"return document.getElementById('count').innerText.startsWith('{worse.split()[0]} of 70')")
    assert browser.execute_script("return document.getElementById('outcome').value") == "worse"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_accessible_in_both_themes_and_on_a_phone(browser, page, theme, width):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    try:
        _open(browser, page)
        if theme == "dark":
            before = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
            browser.execute_script("document.getElementById('theme').click()")
            assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") != before
        assert violations(browser) == []
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.slow
def test_ten_thousand_cases_stay_quick_and_small(browser, tmp_path):
    run = build_fake_run(tmp_path / "large", users=5000)
    page = write_report(run, run / "report")
    assert page.stat().st_size < 30 * 2**20
    started = time.monotonic()
    _open(browser, page)
    assert time.monotonic() - started < 10
    assert text_of(browser, "#count") == "10000 cases"
    started = time.monotonic()
    _set(browser, "query", "u4321", "input")
    wait_for(browser, "return /^2 of 10000/.test(document.getElementById('count').innerText)")
    assert time.monotonic() - started < 5
    assert "user u4321" in text_of(browser, "#case")

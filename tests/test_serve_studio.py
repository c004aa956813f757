"""The studio in headless Chromium over a real server: choose, ask, stream, what-if, feedback, forget; accessibility."""

# ruff: noqa: F811 (fixtures are imported)
import os
import re
import subprocess
import sys

import httpx2
import pytest

from browser import browser, needs_browser, open_page, text_of, violations, wait_for  # noqa: F401
from serve_run import trained_run  # noqa: F401
from studio_engine import ScriptedEngine
from tagpr.files import link_tree
from tagpr.serve.settings import ServeSettings
from test_serve_api import serving

DONE = "return document.querySelectorAll('.answer').length && !document.querySelector('.answer[aria-busy=true]')"


@pytest.fixture(scope="module")
def folder(trained_run, tmp_path_factory):
    own = tmp_path_factory.mktemp("studio") / "run"
    link_tree(trained_run, own)
    return own


@pytest.fixture(scope="module")
def address(folder):
    with serving(folder, engine=ScriptedEngine(folder)) as found:
        yield found


@pytest.fixture(scope="module")
def users(address) -> list[str]:
    return [one["id"] for one in httpx2.get(f"{address}/v1/users").json()["data"]]


def items_of(address: str, user: str) -> list[dict]:
    return httpx2.get(f"{address}/v1/users/{user}/interactions").json()["data"]


def add_user(address: str, user: str, *items: tuple[str, str]) -> None:
    rows = [
        {"id": str(n), "date": f"2024-01-0{n}", "fields": {"synopsis": synopsis, "section": section}}
        for n, (synopsis, section) in enumerate(items, 1)
    ]
    assert httpx2.post(f"{address}/v1/users/{user}/interactions", json={"items": rows}).status_code == 201


def find(browser, selector: str):
    return browser.find_element("css selector", selector)


def choose(browser, user: str, picker: str = "#person") -> None:
    box = find(browser, f"{picker} input")
    box.click()
    box.clear()
    box.send_keys(user)
    wait_for(
        browser,
        f"return [...document.querySelectorAll('{picker} [role=option]')].some(e => e.innerText === {user!r}"
        f" || e.innerText.includes('“' + {user!r}))",
    )
    box.send_keys("\n")
    loaded = "document.getElementById('history').getAttribute('aria-busy') === 'false'"
    wait_for(browser, f"return document.querySelector('{picker} ul').hidden && {loaded}")


def ask(browser, text: str = "sound mixer") -> None:
    box = find(browser, "#question-fields textarea")
    box.clear()
    box.send_keys(text + "\n")
    wait_for(browser, DONE, 60)


def press(browser, selector: str, text: str = "") -> None:
    """Click the first such element that holds the text."""
    script = (
        "const found = [...document.querySelectorAll(arguments[0])].find(e => e.innerText.includes(arguments[1])"
        " || (e.getAttribute('aria-label') ?? '').includes(arguments[1])); found.scrollIntoView(); found.click()"
    )
    browser.execute_script(script, selector, text)


pytestmark = needs_browser


def test_a_real_model_is_asked_by_keyboard_and_judged(browser, folder):
    with serving(folder) as real:
        user = httpx2.get(f"{real}/v1/users").json()["data"][-1]["id"]
        open_page(browser, real)
        browser.switch_to.active_element.send_keys("/")
        box = browser.switch_to.active_element
        box.send_keys(user[:3])
        wait_for(browser, f"return document.querySelector('#person ul[aria-busy=false]')?.innerText.includes({user!r})")
        at = browser.execute_script(
            "return [...document.querySelectorAll('#person li')].findIndex(e => e.innerText === arguments[0])",
            user,
        )
        box.send_keys("\ue015" * (at + 1) + "\n")  # arrow down
        wait_for(browser, "return document.querySelectorAll('#history .item').length")
        assert text_of(browser, "#history-count").split()[0] == str(len(items_of(real, user)))
        wait_for(browser, "return document.activeElement.tagName === 'TEXTAREA'")
        browser.switch_to.active_element.send_keys("a violin tuner\n")
        wait_for(browser, DONE, 60)
        body = {"user": user, "messages": [{"role": "user", "content": "a violin tuner"}]}
        reply = httpx2.post(f"{real}/v1/chat/completions", json=body, timeout=60).json()["choices"][0]
        shown = text_of(browser, ".answer .said")
        assert shown == " ".join(reply["message"]["content"].split()) or shown.startswith("no answer")
        assert len(reply["tagpr"]["segments"]) == browser.execute_script(
            "return document.querySelectorAll('.answer .step:not(.untagged)').length"
        )
        press(browser, ".judging button", "Good")
        wait_for(browser, "return document.querySelector('.thanks').innerText.includes('Kept')")
        kept = httpx2.get(f"{real}/v1/feedback", params={"user": user}).json()
        assert kept["rating"] == "up" and kept["question"] == "a violin tuner"
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def test_streams_in_coloured_steps_and_underlines_the_history(browser, address):
    add_user(address, "ada", ("log viewer 🙂 for you", "utils"), ("violin tuner", "sound"))
    open_page(browser, address)
    choose(browser, "ada")
    browser.execute_script(
        "window.seen = []; new MutationObserver(() => seen.push(document.querySelectorAll('.step').length +"
        " ':' + (document.querySelector('.answer')?.getAttribute('aria-busy')) + ':' +"
        " (document.querySelector('.said')?.innerText ?? '')))"
        ".observe(document.getElementById('answers'), { subtree: true, childList: true, characterData: true })"
    )
    ask(browser)
    seen = browser.execute_script("return seen")
    assert "1:true:" in seen and "2:true:" in seen  # one step, then two, while the answer was still to come
    names = browser.execute_script("return [...document.querySelectorAll('.step b')].map(e => e.innerText)")
    assert names == ["examine examples", "make decision"]
    colours = browser.execute_script(
        "return [...document.querySelectorAll('.step')].map(e => getComputedStyle(e).backgroundColor)"
    )
    assert len(set(colours)) == 2
    first = text_of(browser, "#history .item")
    assert "cited" in first
    section = text_of(browser, ".answer .said")
    assert section in ("utils", "sound")
    quoted = {"utils": "log viewer 🙂 for you", "sound": "violin tuner"}[section]
    assert browser.execute_script("return [...document.querySelectorAll('mark.quote')].map(e => e.innerText)") == [
        quoted
    ]
    wrong = browser.execute_script("return [...document.querySelectorAll('mark.wrong')].map(e => e.innerText)")
    assert wrong == ['"no such text"']
    assert "claims hold" in text_of(browser, ".answer > .small")
    requested = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in requested if not name.startswith((address, "data:"))] == []


def test_what_would_have_changed_its_mind(browser, address):
    add_user(address, "bob", ("violin tuner", "sound"))
    open_page(browser, address)
    choose(browser, "bob")
    ask(browser)
    assert text_of(browser, ".answer .said") == "sound"
    press(browser, ".answer button", "change its mind")
    wait_for(browser, "return document.querySelector('#history .decides') !== null")
    assert text_of(browser, "#history .decides") == "Without it: misc"

    press(browser, "#history input[type=checkbox]")
    ask(browser)
    assert text_of(browser, ".answer .said") == "misc"
    assert text_of(browser, ".answer .was") == "Without your changes: sound"
    press(browser, "#reset")
    press(browser, "#history button", "Edit")
    browser.execute_script(
        "const form = document.querySelector('.item-form'); form.querySelector('select').value = 'net';"
        "form.querySelector('textarea').value = '<img src=x onerror=\"document.title=1\"> מכוון'; form.requestSubmit()"
    )
    ask(browser)
    assert text_of(browser, ".answer .said") == "net"
    assert "1 change" in text_of(browser, "#changes")
    assert browser.execute_script("return document.images.length") == 0
    press(browser, "#reset")
    press(browser, "#add")
    browser.execute_script(
        "const form = document.querySelector('.item-form'); form.querySelector('select').value = 'games';"
        "form.querySelector('textarea').value = 'sound mixer game'; form.requestSubmit()"
    )
    ask(browser)
    assert browser.execute_script("return document.querySelectorAll('#history .number').length") == 2
    press(browser, ".judging button", "Not right")
    browser.execute_script("document.querySelector('.better select').value = 'x11'")
    press(browser, ".better button", "Send")
    wait_for(browser, "return document.querySelector('.thanks').innerText.includes('better one')")
    kept = httpx2.get(f"{address}/v1/feedback", params={"user": "bob"}).json()
    assert kept["chosen"] == "x11" and "sound mixer game" in kept["messages"][-1]["content"]
    assert [item["fields"] for item in items_of(address, "bob")] == [{"synopsis": "violin tuner", "section": "sound"}]


def test_answers_side_by_side_and_a_person_who_is_new(browser, address):
    add_user(address, "carl", ("network scanner", "net"))
    open_page(browser, address)
    choose(browser, "nobody yet")
    assert text_of(browser, "#history").strip() == "No items yet."
    for value in ("base", "other", "none"):
        browser.execute_script(f"document.querySelector('#columns [value={value}]').click()")
    ask_box = find(browser, "#question-fields textarea")
    ask_box.send_keys("sound mixer\n")
    wait_for(browser, "return document.getElementById('problem').innerText === 'Choose whose history.'")
    choose(browser, "carl", "#other")
    press(browser, "#add")
    browser.execute_script(
        "const form = document.querySelector('.item-form'); form.querySelector('select').value = 'games';"
        "form.querySelector('textarea').value = 'chess'; form.requestSubmit()"
    )
    ask(browser)
    rows = browser.execute_script(
        "return [...document.querySelectorAll('.answer')].map(e => [e.querySelector('h3').firstChild.textContent,"
        " e.querySelector('.said').innerText])"
    )
    assert rows == [["Final", "games"], ["Base", "games"], ["Another person's history", "net"], ["No history", "misc"]]


def test_forgets_after_asking(browser, address):
    add_user(address, "dora", ("chess", "games"))
    open_page(browser, address)
    choose(browser, "dora")
    press(browser, "#forget")
    assert "1 item" in text_of(browser, "#forget-says") and "tagpr forget dora" in text_of(browser, "#forget-command")
    press(browser, "#forget-cancel")
    assert items_of(address, "dora")
    press(browser, "#forget")
    press(browser, "#forget-yes")
    wait_for(browser, "return document.getElementById('problem').innerText.startsWith('Forgotten: 1 history item')")
    assert items_of(address, "dora") == [] and find(browser, "#person input").get_attribute("value") == ""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_accessible_in_both_themes_and_on_a_phone(browser, address, theme, width):
    add_user(address, "ada", ("log viewer 🙂 for you", "utils"), ("violin tuner", "sound"))
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    try:
        open_page(browser, address)
        assert violations(browser) == []
        find(browser, "#person input").click()
        wait_for(browser, "return document.querySelectorAll('#person [role=option]').length")
        assert violations(browser) == []
        choose(browser, "ada")
        for value in ("base", "none"):
            browser.execute_script(f"document.querySelector('#columns [value={value}]').click()")
        ask(browser)
        press(browser, "#history input[type=checkbox]")
        press(browser, "#history button", "Edit")
        press(browser, ".judging button", "Not right")
        assert violations(browser) == []
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(16, 19, 24)") == (theme == "dark")
        press(browser, "#forget")
        assert violations(browser) == []
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_users_text_has_its_own_direction_and_the_page_its_headers(browser, address):
    add_user(address, "rina", ("מכוון כינור", "sound"))
    open_page(browser, address)
    choose(browser, "rina")
    script = "return getComputedStyle(document.querySelector('#history .clamp span')).direction"
    assert browser.execute_script(script) == "rtl"
    reply = httpx2.get(address)
    assert "script-src 'self';" in reply.headers["content-security-policy"] and "unsafe" not in str(reply.headers)
    for name in set(re.findall(r"/static/[\w.]+", reply.text)):
        assert httpx2.get(address + name).headers["x-content-type-options"] == "nosniff"
    assert httpx2.get(f"{address}/static/..%2fapp.py").status_code == 404


def test_a_server_with_a_key_asks_for_it(browser, folder):
    with serving(folder, ServeSettings(key="secret", user_keys={}), ScriptedEngine(folder)) as guarded:
        browser.get(guarded)
        wait_for(browser, "return document.getElementById('key-dialog').open")
        find(browser, "#key").send_keys("secret\n")
        wait_for(browser, "return document.documentElement.dataset.ready === 'true'")
        assert httpx2.get(f"{guarded}/v1/run").status_code == 401


def test_the_command_prints_its_address(folder):
    command = [sys.executable, "-m", "tagpr.cli", "studio", str(folder), "--no-browser"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    try:
        address = re.search(r"http://127.0.0.1:\d+", process.stderr.readline())[0]
        reply = httpx2.Client(transport=httpx2.HTTPTransport(retries=50)).get(address, timeout=60)
        assert "tagpr studio" in reply.text
        taken = subprocess.run([*command, "--port", address.rpartition(":")[2]], capture_output=True, text=True)
        assert taken.returncode == 2 and "give another --port" in taken.stderr and len(taken.stderr.splitlines()) == 1
    finally:
        process.terminate()
        process.wait(30)

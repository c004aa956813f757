"""From `tagpr studio RUN` to the first answer in a browser, and the picture of it in the docs.

    python benchmarks/bench_studio.py                       # runs/quickstart; writes results/studio.json
    python benchmarks/bench_studio.py --picture docs/studio.png --user ID --question TEXT --columns final base

The clock starts with the command; headless Chromium is started once the command prints its address, as it would open
a browser itself, then types a user and a question like a person and waits for the whole answer. Needs chromium and
chromedriver on PATH.
"""

import argparse
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.keys import Keys

from results_file import write_results

DONE = "return document.querySelectorAll('.answer').length && !document.querySelector('.answer[aria-busy=true]')"
READY = "return document.documentElement.dataset.ready === 'true'"
USERS = "return document.querySelector('#person [role=option]')?.innerText.startsWith({user!r})"
HISTORY = "return document.querySelectorAll('#history .item').length"
DESKTOP, PHONE = (1280, 940), (390, 844)


def chromium(width: int, height: int, theme: str) -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "hide-scrollbars"):
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    return driver


def wait_for(driver: webdriver.Chrome, script: str, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not driver.execute_script(script):
        if time.monotonic() > until:
            raise SystemExit(f"the page did not come so far: {script}")
        time.sleep(0.02)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", default="runs/quickstart")
    parser.add_argument("--user", default="", help="the first one if absent")
    parser.add_argument("--question", default="debian/watch: update to version 4")
    parser.add_argument("--columns", nargs="+", default=["final"], help="base, sft, guided, final, none")
    parser.add_argument("--picture", type=Path, help="write a picture instead of the figures")
    parser.add_argument("--theme", choices=["light", "dark"], default="light")
    parser.add_argument("--phone", action="store_true")
    arguments = parser.parse_args()
    seconds: dict[str, float] = {}
    began = time.perf_counter()

    def mark(name: str) -> None:
        seconds[name] = round(time.perf_counter() - began, 2)

    command = [sys.executable, "-m", "tagpr.cli", "studio", arguments.run, "--no-browser"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://127.0.0.1:\d+", line)
        if found is None:
            raise SystemExit(line)
        mark("address_s")
        driver = chromium(*(PHONE if arguments.phone else DESKTOP), arguments.theme)
        mark("browser_s")
        driver.get(found[0])
        wait_for(driver, READY)
        mark("page_s")
        box = driver.find_element("css selector", "#person input")
        box.send_keys(arguments.user)
        wait_for(driver, USERS.format(user=arguments.user))
        box.send_keys(Keys.ARROW_DOWN, Keys.ENTER)
        wait_for(driver, HISTORY)
        for name in arguments.columns:
            if name != "final":
                driver.execute_script(f"document.querySelector('#columns [value={name}]').click()")
        driver.find_element("css selector", "#question-fields textarea").send_keys(arguments.question, Keys.ENTER)
        wait_for(driver, DONE)
        mark("studio_first_answer_s")
        said = driver.execute_script("return document.querySelector('.answer').innerText")
        print(said, seconds, sep="\n")
        if arguments.picture:
            driver.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
            driver.save_screenshot(str(arguments.picture))
        else:
            write_results("studio", f"python benchmarks/bench_studio.py --run {arguments.run}", {**seconds})
        driver.quit()
    finally:
        process.terminate()
        process.wait(30)


if __name__ == "__main__":
    main()

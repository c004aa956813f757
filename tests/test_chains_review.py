"""The manual check: sample, page and server, in a real browser; and the figures of a chains folder."""

import json
import shutil
import threading
import urllib.error
import urllib.request
from collections import Counter

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from browser import browser, needs_browser  # noqa: F401
from tagpr.chains.build import build_chains
from tagpr.chains.dataset import read_chains
from tagpr.chains.overview import chain_stats, plot_stats, stats_text
from tagpr.chains.review import ReviewServer, chain_key, read_decisions, review_page, stratified_sample, write_review
from tagpr.chains.settings import ChainSettings
from tagpr.chains.steps import read_parquet, write_parquet
from tagpr.cli import app
from tagpr.data.examples import write_examples
from tagpr.errors import DataError, RunError, TagPRError
from tagpr.progress import StageContext
from test_chains_build import shown, two_tasks


@pytest.fixture(scope="module")
def chains(tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    tasks, train = two_tasks(24)
    for name, examples in train.items():
        write_examples(run / "data" / name / "train.jsonl", examples)
    build_chains(ChainSettings(), tasks, train, shown, StageContext(run / "chains", seed=1))
    return run / "chains"


def test_sample_is_stratified(chains):
    rows = read_chains(chains)
    sample = stratified_sample(rows, 12, seed=0)
    assert len(sample) == len({chain_key(row) for row in sample}) == 12
    assert Counter(chain.task for chain in sample) == {"t": 6, "s": 6}
    patterns = {" ".join(row.tags) for row in rows if row.task == "t"}
    assert len({" ".join(row.tags) for row in sample if row.task == "t"}) == min(6, len(patterns))
    assert sample == stratified_sample(rows, 12, seed=0) != stratified_sample(rows, 12, seed=1)
    assert len(stratified_sample(rows, 10_000, seed=0)) == len(rows)


def test_page_is_self_contained_and_inert(chains, tmp_path):
    shutil.copytree(chains.parent, tmp_path / "run")
    folder = tmp_path / "run" / "chains"
    lines = (tmp_path / "run" / "data" / "t" / "train.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    for row in rows:
        row["input"] = "</script><script>alert(1)</script>"
    (tmp_path / "run" / "data" / "t" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = write_review(folder, 10).read_text()
    assert page.count("<script>") == page.count("</script>") == 1
    assert "http://" not in page and "https://" not in page and "src=" not in page


def test_missing_chains_are_one_clear_line(tmp_path):
    result = CliRunner().invoke(app, ["chains", "stats", str(tmp_path)])
    assert isinstance(result.exception, DataError) and "funnel.json" in str(result.exception)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("chains.parquet", "junk", "cannot be read as Parquet"),
        ("funnel.json", '{"steps": [{"step": "sample", "unit": "examples", "tasks": {"t": "many"}}]}', "no funnel"),
        ("funnel.json", '{"steps": [{"step": "sample", "unit": "examples", "tasks": [1]}]}', "no funnel"),
        ("vocabulary.yaml", "- {name: x, count: many}", "entry 1: `count` is a whole number"),
        ("review.jsonl", '{"key": "a", "verdict": [1], "comment": ""}', "line 1: not a decision"),
    ],
)
def test_rubbish_in_the_folder_is_one_clear_line(chains, tmp_path, name: str, content: str, message: str):
    shutil.copytree(chains, tmp_path / "chains")
    (tmp_path / "chains" / name).write_text(content)
    result = CliRunner().invoke(app, ["chains", "stats", str(tmp_path / "chains")])
    assert isinstance(result.exception, TagPRError) and message in str(result.exception)


def test_other_columns_are_one_clear_line(chains, tmp_path):
    shutil.copytree(chains, tmp_path / "chains")
    write_parquet(tmp_path / "chains" / "chains.parquet", [{"x": 1}], pa.schema([("x", pa.int64())]))
    for verb in ("stats", "review"):
        result = CliRunner().invoke(app, ["chains", verb, str(tmp_path / "chains")])
        assert isinstance(result.exception, DataError) and "no column 'example_id'" in str(result.exception)


def post(url: str, token: str, body: bytes, host: str | None = None) -> int:
    headers = {"x-token": token} | ({"host": host} if host else {})
    try:
        with urllib.request.urlopen(urllib.request.Request(url + "decisions", body, headers)) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.fixture
def server(chains):
    (chains / "review.jsonl").unlink(missing_ok=True)
    review = ReviewServer(chains, size=10)
    threading.Thread(target=review.serve, daemon=True).start()
    yield review
    review.close()
    (chains / "review.jsonl").unlink(missing_ok=True)


def test_server_takes_decisions_from_its_own_page_only(server, chains):
    good = json.dumps({"key": "t/e1/0", "verdict": "reject", "comment": "no"}).encode()
    assert post(server.url, "wrong", good) == 403
    assert post(server.url, server.token, good, host="evil.example") == 403
    assert post(server.url, server.token, b"{}") == 400
    assert post(server.url, server.token, good.replace(b"reject", b"burn")) == 400
    assert read_decisions(chains / "review.jsonl") == {}
    assert post(server.url, server.token, good) == 204
    assert post(server.url, server.token, good.replace(b"reject", b"approve")) == 204
    assert read_decisions(chains / "review.jsonl") == {"t/e1/0": {"verdict": "approve", "comment": "no"}}
    with pytest.raises(RunError, match="choose another with --port"):
        ReviewServer(chains, port=int(server.url.rsplit(":", 1)[1].strip("/")))


@needs_browser
def test_keyboard_review_in_a_real_browser(server, chains, browser):  # noqa: F811
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(server.url)
    body = browser.find_element(By.TAG_NAME, "body")

    def text(name: str) -> str:
        return browser.find_element(By.ID, name).text

    def saved() -> dict:
        return read_decisions(chains / "review.jsonl")

    wait = WebDriverWait(browser, 10)
    assert text("place") == "1 of 10"
    assert len(browser.find_elements(By.CLASS_NAME, "segment")) >= 3
    boxes = browser.find_elements(By.CLASS_NAME, "segment")
    assert len({box.value_of_css_property("border-left-color") for box in boxes}) >= 2
    assert text("question") and "History: " in text("history-title")
    browser.find_element(By.ID, "history-title").click()
    assert len(browser.find_elements(By.CSS_SELECTOR, "#history li")) >= 1
    body.send_keys("a")
    wait.until(lambda _: text("place") == "2 of 10" and len(saved()) == 1)
    body.send_keys("c")
    browser.switch_to.active_element.send_keys("too vague, ja", Keys.ESCAPE)
    wait.until(lambda _: len(saved()) == 2)
    body.send_keys("r")
    wait.until(lambda _: text("place") == "3 of 10")
    assert text("tally") == "1 approved, 1 rejected"
    keys = [chain_key(row) for row in stratified_sample(read_chains(chains), 10, 0)]
    assert saved() == {
        keys[0]: {"verdict": "approve", "comment": ""},
        keys[1]: {"verdict": "reject", "comment": "too vague, ja"},
    }
    body.send_keys("k")
    wait.until(lambda _: text("place") == "2 of 10")
    assert browser.find_element(By.ID, "comment").get_attribute("value") == "too vague, ja"
    browser.refresh()
    assert text("place") == "3 of 10"  # goes on where it stopped
    severe = [e["message"] for e in browser.get_log("browser") if e["level"] == "SEVERE"]
    assert not [message for message in severe if "favicon" not in message]
    assert chain_stats(chains)["review"] == {"approved": 1, "rejected": 1}


def test_stats_agree_with_the_folder(chains, tmp_path):
    stats = chain_stats(chains)
    rows = read_parquet(chains / "chains.parquet")
    assert stats["tasks"]["t"]["chains"] + stats["tasks"]["s"]["chains"] == len(rows) == stats["funnel"][-1]["total"]
    assert sum(row["count"] for row in stats["tags"].values()) == sum(len(row["tags"]) for row in rows)
    assert 0 < stats["tasks"]["t"]["covered"] <= 1 and stats["tasks"]["t"]["steps"] >= 3
    text = stats_text(stats)
    assert "accuracy_filter" in text and "make_decision" in text
    result = CliRunner().invoke(app, ["chains", "stats", str(chains), "--json"])
    assert result.exit_code == 0 and json.loads(result.stdout) == stats
    plot_stats(stats, tmp_path / "a.svg")
    plot_stats(stats, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    with pytest.raises(RunError, match="cannot be written"):
        plot_stats(stats, tmp_path / "none" / "a.svg")
    assert "accuracy" in (tmp_path / "a.svg").read_text()


def test_broken_decisions_name_the_line(chains, tmp_path):
    (tmp_path / "review.jsonl").write_text('{"key": "a", "verdict": "", "comment": ""}\nno\n')
    with pytest.raises(DataError, match="line 2: not a decision"):
        read_decisions(tmp_path / "review.jsonl")
    assert "token" in review_page(chains, 3)


def test_a_comment_may_hold_line_separators(tmp_path):
    path = tmp_path / "review.jsonl"
    rows = [{"key": key, "verdict": "reject", "comment": f"{key}\u2028and \x85 more"} for key in "ab"]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    assert {key: row["comment"] for key, row in read_decisions(path).items()} == {r["key"]: r["comment"] for r in rows}
    path.write_text("")  # as `tagpr forget` leaves it
    assert read_decisions(path) == {}

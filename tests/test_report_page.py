"""The report as text: self-contained, hostile user text stays data, missing files leave parts out."""

import base64
import gzip
import json
import re
import shutil
from html.parser import HTMLParser

import pytest

from fake_run import build_fake_run
from tagpr.errors import RunError
from tagpr.report import write_comparison, write_report
from tagpr.report.page import json_data
from tagpr.report.reading import read_run
from tagpr.report.summary import verdicts
from tagpr.report.svg import nice_ticks
from tagpr.report.words import chain_words, frequent, words
from tagpr.statistics import Interval


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return build_fake_run(tmp_path_factory.mktemp("runs") / "demo", users=30)


@pytest.fixture(scope="module")
def page(run):
    return write_report(run, run / "report").read_text(encoding="utf-8")


class _Elements(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []
        self.ids = []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if "id" in dict(attributes):
            self.ids.append(dict(attributes)["id"])


def _unpack(page, name):
    text = re.search(rf'id="data-{name}">([^<]*)<', page)[1]
    return json.loads(gzip.decompress(base64.b64decode(text)))


def test_page_is_self_contained(page):
    elements = _Elements()
    elements.feed(page)
    for tag, attributes in elements.found:
        for name in ("src", "href", "srcset", "action", "xlink:href"):
            value = attributes.get(name, "")
            assert value.startswith(("#", "data:")) or not value, (tag, name, value)
    assert not re.search(r"url\(|@import", page)
    assert "default-src 'none'" in page
    assert len(elements.ids) == len(set(elements.ids))


def test_hostile_text_stays_data(page):
    elements = _Elements()
    elements.feed(page)
    assert not [tag for tag, attributes in elements.found if tag == "img" or "onerror" in attributes]
    cases = [case for number in range(2) for case in _unpack(page, number)]
    assert any("</script><img" in case["question"] for case in cases)  # shown, as text


def test_cases_hold_history_reference_and_chains(page):
    index = _unpack(page, "index")
    assert len(index["rows"]) == 60 and len(_unpack(page, "search")) == 60
    case = next(case for case in _unpack(page, 0) if case["task"] == "package-section")
    assert case["outcome"] == "better" and case["target"] == case["systems"]["final"]["answer"]
    assert any(item["shown"] for item in case["history"])
    steps = case["systems"]["final"]["steps"]
    assert [tag for tag, _, _ in steps][:2] == ["analyze_input", "examine_examples"]
    assert [seen for _, seen in steps[1][2]] == [True]  # the quotation stands in the history
    assert case["systems"]["base"]["steps"] == [] or case["systems"]["base"]["steps"][0][0] == ""


def test_first_screen_says_what_happened(page):
    start = page[: page.index('id="results"')]
    for words_there in (
        "Did it get better?",
        "95% interval",
        "users better",
        "Valid format",
        "the best trivial baseline",
        "RL did not clearly change SFT",
        'data-outcome="worse"',
        "17 min 11 s",
        "3.0 GiB",
    ):
        assert words_there in start, words_there


def test_rl_that_kept_its_start_is_told_as_such(run):
    told = read_run(run)
    for task in told.results.tasks.values():
        same = dict.fromkeys(task.differences["sft"]["final"], Interval(0.0, 0.0, 0.0))
        task.differences["sft"]["final"].update(same)
    for verdict in verdicts(told):
        assert any(re.fullmatch(r"RL left the scores of SFT \(.+\) as they were\.", said) for said in verdict.compared)
        assert not any("RL did not clearly change" in said for said in verdict.compared)


def test_charts_are_saved_with_their_numbers(run, page):
    folder = run / "report" / "charts"
    names = {path.stem for path in folder.glob("*.svg")}
    assert names == {path.stem for path in folder.glob("*.csv")}
    assert {"chain-length", "tag-frequency", "rl-reward", "rl-prmu", "sft-loss", "funnel", "transitions"} <= names
    assert {"sweep-profile-length-package-section", "sweep-retriever-package-synopsis"} <= names
    assert {"rewards-package-section", "profile-use-package-section", "evidence-package-section"} <= names
    assert {"seen-users-package-section"} <= names
    assert {"cold-start-package-section", "losers-package-section", "words-base", "faults"} <= names
    assert len((folder / "rl-reward.csv").read_text().splitlines()) == 1 + 40 + 15
    from xml.etree import ElementTree

    for path in folder.glob("*.svg"):
        ElementTree.parse(path)


def test_report_is_the_same_again(run, page, tmp_path):
    assert write_report(run, tmp_path / "r.html").read_text(encoding="utf-8") == page


@pytest.mark.parametrize("missing", ["data", "chains", "prmu", "guided", "evaluate", "sft"])
def test_a_missing_stage_leaves_its_part_out(run, tmp_path, missing):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    shutil.rmtree(copy / missing)
    assert "Did it get better?" in write_report(copy, tmp_path / "out").read_text(encoding="utf-8")


@pytest.mark.parametrize("content", [b'{"half": ', b"[1, 2]\n", b"", b"\xff\xfe\x00", b'"text"'])
@pytest.mark.parametrize("but", ["data", ""])
def test_damaged_files_leave_their_parts_out(run, tmp_path, content, but):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    files = [path for ending in ("json", "jsonl", "yaml", "parquet") for path in copy.rglob(f"*.{ending}")]
    assert len(files) > 12
    for path in files:
        if not but or path.relative_to(copy).parts[0] != but:  # without the tasks most else is not looked at
            path.write_bytes(content)
    assert "<h1" in write_report(copy, tmp_path / "out").read_text(encoding="utf-8")


def test_no_run_is_one_clear_line(tmp_path):
    with pytest.raises(RunError, match="no such run folder"):
        write_report(tmp_path / "nothing", tmp_path)
    with pytest.raises(RunError, match="holds no stage"):
        write_report(tmp_path, tmp_path)


def test_json_data_cannot_end_its_element():
    text = str(json_data({"a": "</script><!--&\u2028"}))
    assert not set("<>&\u2028") & set(text) and json.loads(text) == {"a": "</script><!--&\u2028"}


def test_words_of_any_script():
    assert words("A parser, 输入法 and Größe") == ["parser", "输入", "入法", "and", "größe"]
    assert words(chain_words("<think>\n<make_decision> So games. </make_decision>\n</think>\nlibs")) == ["so", "games"]
    assert frequent(["the tool the tool", "parser"]) == [("tool", 2), ("parser", 1)]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.3, 0.2), (5, 5), (0, 123456), (1e-5, 2e-5)])
def test_ticks_hold_the_range(low, high):
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low and ticks[-1] >= high and 2 <= len(ticks) <= 8


def test_comparison_of_runs(run, tmp_path):
    other = build_fake_run(tmp_path / "other", users=30, seed=0)
    smaller = build_fake_run(tmp_path / "smaller", users=12, seed=4)
    text = write_comparison([run, other, smaller], tmp_path / "out.html").read_text(encoding="utf-8")
    elements = _Elements()
    elements.feed(text)
    assert len(elements.ids) == len(set(elements.ids))
    assert "other" in text and "smaller" in text and "Which run is better?" in text
    assert text.count("0.0 [0.0, 0.0]") == 1  # the same answers: no difference; the smaller run has other questions
    with pytest.raises(RunError, match="no such run folder"):
        write_comparison([run, tmp_path / "nothing"], tmp_path / "out.html")


def test_report_commands(run, tmp_path):
    from typer.testing import CliRunner

    from tagpr.cli import app

    out = tmp_path / "page.html"
    result = CliRunner().invoke(app, ["report", str(run), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert out.is_file() and str(out) in result.output.replace("\n", "")
    result = CliRunner().invoke(app, ["report", str(run), str(run), "--out", str(tmp_path / "both.html")])
    assert result.exit_code == 0 and (tmp_path / "both.html").is_file()
    predictions = run / "evaluate" / "predictions"
    files = [str(predictions / system / "package-section.jsonl") for system in ("base", "final")]
    result = CliRunner().invoke(app, ["rescore", *files, "--task", "package-section", "--json"])
    stored = json.loads((run / "evaluate" / "results.json").read_text())["tasks"]["package-section"]["systems"]
    found = json.loads(result.output)["tasks"]["package-section"]["systems"]
    assert {name: scores["points"] for name, scores in found.items()} == {
        name: stored[name]["points"] for name in ("base", "final")
    }

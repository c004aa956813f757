"""`--on-error`: the one switch for bad lines, on every command that reads people's files."""

import json

import pytest
from typer.testing import CliRunner

from tagpr.cli import app

SMILE = "\N{GRINNING FACE}"


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Two users of four lines, a broken line, a line without output, and a user with a single item."""
    monkeypatch.chdir(tmp_path)
    rows = [
        {"user_id": user, "input": f"text {i}", "output": f"title {i} {SMILE}"}
        for user in ("ann", "bo")
        for i in range(4)
    ]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    lines += ['{"user_id": "ann", "input": "cut off', '{"user_id": "bo", "input": "no answer \\ud800"}']
    lines += ['{"user_id": "lone", "input": "a text", "output": "a title"}']
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def data_run(mine, *arguments):
    sources = f"data.sources=[{{task: package-synopsis, path: {mine}}}]"
    return CliRunner().invoke(app, ["data", "smoke", sources, "--runs", "runs", "--quiet", *arguments])


def test_the_data_stage_stops_at_the_first_bad_line(mine):
    result = data_run(mine)
    assert result.exit_code and "mine.jsonl:9: not JSON" in str(result.exception)


def test_skip_writes_what_was_left_out_and_why(mine):
    result = data_run(mine, "--on-error", "skip")
    assert not result.exit_code, result.output
    folder = mine.parent / "runs" / "smoke" / "data"
    rejects = [json.loads(line) for line in (folder / "package-synopsis" / "rejects.jsonl").open(encoding="utf-8")]
    assert [(row["line"], row["reason"].split(";")[0]) for row in rejects] == [
        (9, "not JSON (Invalid control character at column 37)"),
        (10, "field 'output' is missing (found: user_id, input)"),
        (0, "user 'lone' has one item and so no history"),
    ]
    assert [row["excerpt"] for row in rejects] == [
        '{"user_id": "ann", "input": "cut off',
        "user_id: bo, input: no answer ?",
        "a text",
    ]
    assert all(row["file"] == str(mine) for row in rejects)
    assert json.loads((folder / "report.json").read_text())["package-synopsis"]["rejected"] == 3
    assert "3 left out, with reasons in runs/smoke/data/package-synopsis/rejects.jsonl" in result.stderr


def test_check_lists_problems_and_writes_rejects_only_when_asked(mine):
    listed = CliRunner().invoke(app, ["data", "check", str(mine)])
    assert listed.exit_code == 2 and "mine.jsonl:9: not JSON" in listed.output and "problems: 3" in listed.output
    written = mine.parent / "mine.rejects.jsonl"
    assert not written.exists()
    skipped = CliRunner().invoke(app, ["data", "check", str(mine), "--on-error", "skip"])
    assert skipped.exit_code == 0 and "left out: 3, with reasons in mine.rejects.jsonl" in skipped.output
    rows = [json.loads(line) for line in written.open(encoding="utf-8")]
    assert [row["line"] for row in rows] == [9, 10, 0] and rows[0]["excerpt"].endswith("cut off")


def test_another_word_is_refused(mine):
    result = data_run(mine, "--on-error", "ignore")
    assert result.exit_code == 2 and "on-error" in result.output and "'skip'" in result.output

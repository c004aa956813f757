"""A broken record in a JSON list costs itself: the records around it are read, its place and the cause are said."""

import gzip
import json

import pytest

from tagpr.data.formats.json_list import REST, json_records
from tagpr.data.rejects import Rejects
from tagpr.errors import DataError


def record(number: int, **more: object) -> dict[str, object]:
    return {"user_id": f"u{number % 3}", "input": f"text {number}, of [some] {{kind}}", "output": "a title", **more}


def write(path, texts, form):
    """Records' own JSON texts as a list in one line, with one per line, indented, or as a sequence."""
    body = {"line": ", ", "lines": ",\n", "pretty": ",\n  ", "sequence": "\n"}[form].join(texts)
    path.write_bytes((body if form == "sequence" else f"[{body}]").encode("utf-8", "surrogateescape"))
    return path


def read(path):
    rejects = Rejects(skip=True)
    return [row for _, row in json_records(path, rejects)], rejects


GOOD = json.dumps(record(3))
BROKEN = {
    "bare word": '{"user_id": "u0", "input": undefined, "output": "x"}',
    "single quotes": "{'user_id': 'u0', 'input': 'a', 'output': 'x'}",
    "missing comma inside": '{"user_id": "u0" "input": "a", "output": "x"}',
    "comma at the end": '{"user_id": "u0", "input": "a", "output": "x",}',
    "missing colon": '{"user_id" "u0", "input": "a", "output": "x"}',
    "raw newline": '{"user_id": "u0", "input": "a\nb", "output": "x"}',
    "bad escape": '{"user_id": "u0", "input": "C:\\dir", "output": "x"}',
    "comment": '{"user_id": "u0", /* why */ "input": "a", "output": "x"}',
    "missing brace": '{"user_id": "u0", "input": "a", "output": "x"',
    "missing quote": '{"user_id": "u0", "input": "a, "output": "x"}',
    "missing last quote": '{"user_id": "u0", "input": "a", "output": "x}',
    "one quote too many": '{"user_id": "u0", "input": "a"b", "output": "x"}',
    "cut in the middle": '{"user_id": "u0", "inp',
    "deep": '{"user_id": "u0", "input": ' + "[" * 5000 + ', "output": "x"}',
    "a long number": '{"user_id": "u0", "input": ' + "9" * 5000 + ', "output": "x"}',
    "a nested list": '{"user_id": "u0", "input": "a", "profile": [{"text": nope}, {"text": "b"}]}',
    "the same key twice": '{"user_id": "u0", "user_id": "u1", "input": "a", "output": "x"}',
    "the same key twice, and broken": '{"user_id": {"a": 1, "a": 2}, "input": , "output": "x"}',
    "not an object": '["u0", "a", "x"]',
    "a word": "undefined",
    "not UTF-8": '{"user_id": "u0", "input": "caf\udce9", "output": "x"}',
    "twice broken": '{"user_id": "u0", "input": "a\n, "output": x"}',
}


CASES = [
    (name, place, form)
    for name in BROKEN
    for place in (0, 2, 5)
    for form in ("line", "lines", "pretty", "sequence")
    # a sequence of objects begins with one and holds nothing else
    if form != "sequence" or (place > 0 and name not in ("not an object", "a word"))
]


@pytest.mark.parametrize(("name", "place", "form"), CASES)
def test_a_broken_record_goes_alone(tmp_path, name, place, form):
    texts = [json.dumps(record(number), indent=2 * (form == "pretty") or None) for number in range(5)]
    texts.insert(place, BROKEN[name])
    rows, rejects = read(write(tmp_path / "mine.json", texts, form))
    assert rows == [record(number) for number in range(5)], rejects.rows
    assert rejects.records == 1
    assert rejects.rows[0].line == (1 if form == "line" else 1 + place * (5 if form == "pretty" else 1))


def test_the_complaint_names_record_and_place(tmp_path):
    path = write(tmp_path / "mine.json", [GOOD, BROKEN["bare word"], GOOD], "lines")
    with pytest.raises(DataError, match=r"mine.json:2: not JSON \(Expecting value at line 2, column 28\)$"):
        list(json_records(path, Rejects()))


def test_several_broken_records_are_counted_each(tmp_path):
    names = [name for name in BROKEN if name not in ("the same key twice", "deep")]
    texts = [text for name in names for text in (BROKEN[name], GOOD)]
    rows, rejects = read(write(tmp_path / "mine.json", texts, "lines"))
    assert len(rows) == rejects.records == len(names)
    broken = [BROKEN[name] for name in ("missing brace", "missing quote", "cut in the middle")]
    rows, rejects = read(write(tmp_path / "mine.json", [GOOD, *broken, GOOD], "lines"))
    assert (len(rows), rejects.records) == (2, 3)


@pytest.mark.parametrize(
    ("text", "read_", "rejected", "said"),
    [
        (f"[{GOOD} {GOOD}]", 2, 0, "a ',' or ']' is missing after this record"),
        (f"[{GOOD}; {GOOD}]", 2, 0, "a ',' or ']' is missing after this record"),
        (f"[{GOOD},, {GOOD}]", 2, 0, "a ',' too many"),
        (f"[,{GOOD}]", 1, 0, "a ',' too many"),
        (f"[{GOOD}}}, {GOOD}]", 2, 0, "a ',' or ']' is missing after this record"),
        (f"[{GOOD}], {GOOD}]", 2, 0, "the list ends before this"),
        (f"[{GOOD}]\n[{GOOD}]", 2, 0, "the list ends before this"),
        (f"[{GOOD}]{GOOD}", 2, 0, "the list ends before this"),
        (f"[{GOOD}] the end", 1, 0, f"the list ends before this; {REST} (1 records before it were)"),
        (f"[{GOOD}, {GOOD}", 2, 0, "the list is not closed; the file may be cut off"),
        (f"[{GOOD}, {GOOD[:30]}", 1, 1, f"the file may be cut off; {REST} (1 records before it were)"),
        (f"[}}{GOOD}]", 1, 1, "not JSON"),
        (f"{GOOD}\n  x\n{GOOD}", 2, 0, "this is no record"),
    ],
)
def test_what_stands_between_records_is_said_and_costs_none(tmp_path, text, read_, rejected, said):
    path = tmp_path / "mine.json"
    path.write_text(text)
    rows, rejects = read(path)
    assert (len(rows), rejects.records) == (read_, rejected), rejects.rows
    assert said in rejects.rows[0].reason
    with pytest.raises(DataError, match=r"mine.json:\d+: "):
        list(json_records(path, Rejects()))


def test_records_of_other_keys_and_orders_are_records(tmp_path):
    """What has the same keys in another order, or some more, is read after a broken one; its parts are not records."""
    entry = {"id": "7", "text": "old", "title": "t"}
    one = {"id": "1", "input": "in", "profile": [entry, entry]}
    texts = [json.dumps(one), json.dumps(one)[:-1].replace('"old"', "old", 1), json.dumps({**one, "user_id": "u"})]
    rows, rejects = read(write(tmp_path / "mine.json", texts, "lines"))
    assert [row["id"] for row in rows] == ["1", "1"] and rejects.records == 1
    (tmp_path / "packed.json.gz").write_bytes(gzip.compress((tmp_path / "mine.json").read_bytes()))
    assert read(tmp_path / "packed.json.gz")[0] == rows


@pytest.mark.timeout(20)
def test_a_broken_record_of_many_parts_takes_no_time(tmp_path):
    parts = ", ".join(json.dumps({"id": str(n), "text": 'a "quoted" {"id": text'}) for n in range(50_000))
    broken = '{"id": "0", "input": "a, "profile": [' + parts + "]}"
    texts = ['{"id": "1", "input": "in", "profile": []}', broken, '{"id": "2", "input": "in", "profile": []}']
    rows, rejects = read(write(tmp_path / "mine.json", texts, "lines"))
    assert [row["id"] for row in rows] == ["1", "2"] and rejects.records >= 1
    nested = "[" + '{"user_id":' * 20_000
    (tmp_path / "nested.json").write_text(nested)
    assert read(tmp_path / "nested.json")[0] == []

"""Nothing silently wrong: each kind of fault that public bug reports name gives the right records or one clear line."""

import gzip
import json
import os
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from tagpr.data import DataSettings, SourceSettings, Splits, load_splits
from tagpr.data.check import check, render_check
from tagpr.data.dates import iso_date
from tagpr.data.examples import write_examples
from tagpr.data.formats.lamp import lamp_examples
from tagpr.data.formats.pgraphrag import pgraphrag_examples
from tagpr.data.inputs import data_fingerprints
from tagpr.data.rejects import Rejects
from tagpr.data.report import Leaks, Unused
from tagpr.errors import DataError, RecipeError
from tagpr.tasks import load_task

ENDINGS = ("jsonl", "json", "pretty.json", "csv", "tsv", "parquet", "jsonl.gz", "json.gz", "csv.gz")


def rows_for(users: str = "ab", number: int = 4, **more) -> list[dict]:
    return [
        {"user_id": user, "input": f"text {i} of {user}", "output": f"title {i}", **more}
        for user in users
        for i in range(number)
    ]


def write(folder: Path, ending: str, rows: list[dict], name: str = "mine") -> Path:
    """The rows as a file of that ending."""
    path = folder / f"{name}.{ending}"
    kind = ending.removesuffix(".gz")
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    if kind == "jsonl":
        text = "".join(json.dumps(row) + "\n" for row in rows)
    elif kind.endswith("json"):
        text = json.dumps(rows, indent=2 if kind == "pretty.json" else None)
    else:
        mark = "\t" if kind == "tsv" else ","
        body = [mark.join(str(value) for value in row.values()) for row in rows]
        text = "\n".join([mark.join(rows[0]), *body]) + "\n"
    data = text.encode()
    path.write_bytes(gzip.compress(data) if ending.endswith(".gz") else data)
    return path


def load(path: Path, on_error: str = "stop", task: str = "generic-text", **more) -> Splits:
    source = SourceSettings(task=task, path=path.name, **more)
    return next(iter(load_splits(DataSettings(sources=(source,), on_error=on_error), 0, path.parent).values()))


def complaint(path: Path, **more) -> str:
    """The one line that stops a run."""
    with pytest.raises(DataError) as caught:
        load(path, **more)
    assert "\n" not in str(caught.value) and path.name in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_kind_of_file_gives_the_same_examples(tmp_path, ending):
    splits = load(write(tmp_path, ending, rows_for()))
    assert (len(splits.train), len(splits.heldout), splits.report.records) == (6, 2, 8)
    assert splits.heldout[0].input.startswith("text ") and not splits.rejects


# A. Silently wrong data


QUOTES = {
    "at the end of a row": 'a,"text 1,title 1',
    "in the last field": 'a,text 1,"title 1',
    "in the first field": '"a,text 1,title 1',
}


@pytest.mark.parametrize("where", QUOTES)
@pytest.mark.parametrize("later", ["plain", "quoted"])
@pytest.mark.parametrize("place", [0, 2, 5])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_quote_that_never_closes_costs_its_own_line(tmp_path, where, later, place, end):
    rows = [f"a,text {i}x,title {i}" if later == "plain" else f'a,"text, {i}x",title {i}' for i in range(6)]
    rows[place] = QUOTES[where]
    path = tmp_path / "mine.csv"
    path.write_text(end.join(["user_id,input,output", *rows]) + end, newline="")
    splits = load(path, "skip")
    assert [(row.line, row.record) for row in splits.rejects] == [(place + 2, True)]
    assert splits.report.items == 5 and splits.report.records == 6
    assert f"mine.csv:{place + 2}: a quote opens here and never closes" in complaint(path)


def test_quotes_that_close_keep_their_lines(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text('user_id,input,output\na,"two\nlines, ""really""",x\na,5" pipe,y\na,"q" loose,z\n')
    splits = load(path)
    texts = {e.input for e in [*splits.train, *splits.heldout]} | {
        i.fields["input"] for e in splits.train for i in e.profile
    }
    assert texts == {'two\nlines, "really"', '5" pipe', "q loose"} and splits.report.records == 3


IDS = {
    "given and made": [{"user_id": "u", "id": "1"}, {"user_id": "u"}, {"user_id": "u"}, {"user_id": "u"}],
    "given like a made one": [{"user_id": "u"}, {"user_id": "u", "id": "#0"}, {"user_id": "u", "id": "0"}],
    "users with dashes": [{"user_id": u, "id": i} for u, i in [("a", "1-2"), ("a", "3"), ("a-1", "2"), ("a-1", "3")]],
    "users with escapes": [
        {"user_id": u, "id": i} for u, i in [("a-b", "1"), ("a%2Db", "1"), ("a-b", "2"), ("a%2Db", "2")]
    ],
    "made of two users": [{"user_id": u} for u in ("a", "a-0", "a", "a-0", "a-0-0", "a-0-0")],
}


@pytest.mark.parametrize("kind", IDS)
def test_ids_never_meet(tmp_path, kind):
    rows = [{**row, "input": f"text {i}", "output": f"title {i}"} for i, row in enumerate(IDS[kind])]
    splits = load(write(tmp_path, "jsonl", rows), min_history=0)
    examples = [*splits.train, *splits.heldout]
    assert len(examples) == len(rows) and len({example.id for example in examples}) == len(rows)
    for example in examples:
        assert len({item.id for item in example.profile}) == len(example.profile)


def test_ids_of_records_never_meet(tmp_path):
    entry = {"rating": 1, "title": "t", "text": "words", "pid": "P"}
    names = ["x", "x#3", "x", "x", "x#4"]
    path = tmp_path / "gap_dev.json"
    path.write_text("[" + ",\n".join(json.dumps({"id": name, "profile": [entry, entry]}) for name in names) + "]")
    found = [e.id for e in pgraphrag_examples(path, load_task("pgraphrag-title"), Rejects())]
    assert len(set(found)) == 5
    item = {"text": "t", "title": "h", "id": "1"}
    text = "Generate a headline for the following article: words"
    records = [{"id": i, "input": text, "output": "h", "profile": [item]} for i in ("record-1", None, "record-0", None)]
    path = write(tmp_path, "json", records, "train_questions")
    examples = lamp_examples(path, load_task("lamp-4"), Rejects())
    assert len({e.id for e in examples}) == 4 and len({e.user_id for e in examples}) == 4


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("more", [{}, {"date": "2024-05-01"}], ids=["undated", "dated"])
def test_the_same_interaction_twice_counts_once(tmp_path, ending, more, caplog):
    rows = [{**row, "id": str(i)} for i, row in enumerate(rows_for(**more))]
    for i, row in enumerate(rows):
        row |= {"date": f"2024-05-{i % 4 + 1:02}"} if more else {}
    again = [{**row, "id": f"again {row['id']}"} | ({"date": "2024-06-01"} if more else {}) for row in rows[2:5]]
    path = write(tmp_path, ending, rows + again)
    splits = load(path)
    assert (splits.report.items, splits.report.duplicates, splits.report.records) == (8, 3, 11)
    assert "3 exact duplicates left out" in caplog.text
    for example in [*splits.train, *splits.heldout]:
        assert (example.input, example.target) not in {(i.fields["input"], i.fields["output"]) for i in example.profile}
    assert "exact duplicates, left out: 3" in render_check(check(path))


def test_no_record_shows_its_own_or_a_held_out_answer(tmp_path, caplog):
    def record(name, text, gold, *past):
        profile = [{"id": str(i), "text": t, "title": h} for i, (t, h) in enumerate(past)]
        words = f"Generate a headline for the following article: {text}"
        return {"id": name, "user_id": "u", "input": words, "output": gold, "profile": profile}

    old = ("old", "Old")
    train = [
        record("1", "one", "One", old, ("two", "Two")),  # the held-out question stands in the history
        record("2", "two", "Two", old),  # the held-out question itself
        record("3", "three", "Three", old, ("three", "Three"), ("three", "Other")),  # its own answer
    ]
    write(tmp_path, "json", train, "train")
    write(tmp_path, "json", [record("9", "two", "Two", old, ("two", "Two"))], "dev")
    source = {"format": "longlamp", "heldout_path": "dev.json"}
    splits = load(tmp_path / "train.json", task="lamp-4", **source)
    shown = {e.id: [i.fields["title"] for i in e.profile] for e in [*splits.train, *splits.heldout]}
    assert shown == {"1": ["Old"], "3": ["Old", "Other"], "9": ["Old"]}
    assert splits.report.leaks == Leaks(examples=1, history=3)
    assert "1 training examples and 3 history items left out" in caplog.text


COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def test_one_text_in_two_codings_is_one_text(tmp_path, caplog):
    """An accent is one code (Windows, Linux) or two (names from a Mac)."""
    rows = [
        row | {"input": f"{row['input']} {COMPOSED}", "output": f"{row['output']} {COMPOSED}"} for row in rows_for()
    ]
    again = [{key: value.replace(COMPOSED, DECOMPOSED) for key, value in row.items()} for row in rows[1:3]]
    splits = load(write(tmp_path, "jsonl", rows + again))
    assert (splits.report.items, splits.report.duplicates) == (8, 2)
    card = "name: cafe\nkind: label\ndescription: d\ninstruction: i\nquestion: '{{ text }}'\n"
    card += "entry: '{{ text }} {{ output }}'\ninput_fields: [text]\nmetrics: [accuracy]\nquery: '{{ text }}'\n"
    (tmp_path / "card.yaml").write_text(card + f"labels: [{DECOMPOSED}, bar]\n", encoding="utf-8")
    labels = [{"user_id": "a", "text": f"t{i}", "output": (COMPOSED, DECOMPOSED, "bar")[i % 3]} for i in range(6)]
    splits = load(write(tmp_path, "csv", labels), task="card.yaml")
    assert {e.target for e in [*splits.train, *splits.heldout]} == {DECOMPOSED, "bar"} and splits.report.items == 6


def test_what_one_source_holds_out_no_other_shows(tmp_path, caplog):
    """One file, or two that overlap, under two names: neither trains on what the other asks."""
    rows = [{**row, "date": f"2024-05-0{i % 4 + 1}"} for i, row in enumerate(rows_for())]
    later = [
        {**row, "input": f"new {row['input']}", "date": f"2024-06-0{i % 4 + 1}"} for i, row in enumerate(rows_for())
    ]
    write(tmp_path, "jsonl", rows, "may")
    write(tmp_path, "csv", rows + later, "all")
    one, two = (SourceSettings(task="generic-text", path=path, name=path[:3]) for path in ("may.jsonl", "all.csv"))
    splits = load_splits(DataSettings(sources=(one, two)), 0, tmp_path)
    asked = {(e.user_id, e.input) for part in splits.values() for e in part.heldout}
    assert len(asked) == 4
    for part in splits.values():
        assert not asked & {(e.user_id, e.input) for e in part.train}
        for example in [*part.train, *part.heldout]:
            assert not asked & {(example.user_id, item.fields["input"]) for item in example.profile}
    assert splits["all"].report.leaks_across == Leaks(examples=2, history=8)
    assert "all: 2 training examples and 8 history items left out: another source holds out" in caplog.text
    assert splits["may"].report.leaks_across is None


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_two_columns_of_one_name_are_refused(tmp_path, ending):
    path = write(tmp_path, ending, rows_for())
    path.write_text(path.read_text().replace("user_id", "output", 1))
    assert f"mine.{ending}:1: columns 1 and 3 are both named 'output'; rename one" in complaint(path)


def test_two_keys_or_parquet_columns_of_one_name_are_refused(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"user_id": "a", "input": "x", "output": "y", "input": "z"}\n')
    assert "mine.jsonl:1: duplicate key 'input'" in complaint(path)
    column = pa.array(["a", "b"])
    table = pa.Table.from_arrays([column] * 4, names=["user_id", "input", "input", "output"])
    pq.write_table(table, tmp_path / "mine.parquet")
    assert "two columns are named 'input'" in complaint(tmp_path / "mine.parquet")


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.dictionary(pa.int32(), pa.binary())], ids=str)
def test_binary_parquet_columns_are_text(tmp_path, kind):
    rows = rows_for()
    columns = {name: [row[name].encode() for row in rows] for name in rows[0]}
    packed = str(kind).startswith("dictionary")
    arrays = [pa.array(v).dictionary_encode() if packed else pa.array(v).cast(kind) for v in columns.values()]
    pq.write_table(pa.Table.from_arrays(arrays, names=list(columns)), tmp_path / "mine.parquet")
    splits = load(tmp_path / "mine.parquet")
    assert splits.heldout[0].user_id == "a" and splits.heldout[0].input.startswith("text ")


def test_bytes_that_are_no_text_are_refused(tmp_path):
    rows = [{"user_id": "a", "input": b"\xff\xfe" if i == 1 else b"text", "output": f"t{i}"} for i in range(3)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "mine.parquet")
    assert "mine.parquet:2: field 'input' must be text or a number, not bytes" in complaint(tmp_path / "mine.parquet")


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "null", '""', '" \\n"'])
@pytest.mark.parametrize("field", ["user_id", "input", "output"])
def test_a_number_that_is_none_or_nothing_is_no_text(tmp_path, value, field):
    rows = [json.dumps(row) for row in rows_for()]
    rows[3] = json.dumps({**json.loads(rows[3]), field: "HERE"}).replace('"HERE"', value)
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(rows))
    assert f"mine.jsonl:4: field '{field}' is " in complaint(path)
    splits = load(path, "skip")
    assert [row.line for row in splits.rejects] == [4] and splits.report.items == 7


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64(), pa.decimal128(5, 1)], ids=str)
def test_nan_and_null_in_parquet_are_no_answers(tmp_path, kind):
    stars = [1.0, None, 3.0, None if "decimal" in str(kind) else float("nan"), 5.0, 2.0]
    if "decimal" in str(kind):
        stars = [None if star is None else Decimal(str(star)) for star in stars]
    columns = {"user_id": ["a"] * 6, "text": [f"t{i}" for i in range(6)], "score": pa.array(stars, kind)}
    pq.write_table(pa.table(columns), tmp_path / "mine.parquet")
    splits = load(tmp_path / "mine.parquet", "skip", "lamp-3")
    assert [row.line for row in splits.rejects] == [2, 4]
    assert sorted(e.target or "" for e in [*splits.train, *splits.heldout]) == ["1", "2", "3", "5"]


def test_nan_in_records_and_histories(tmp_path):
    entry = {"description": "d", "overall": float("nan"), "reviewText": "t", "summary": "s"}
    record = {"reviewerId": "r", "input": "Write", "output": float("nan"), "profile": [entry]}
    good = {**record, "reviewerId": "s", "output": "gold"}
    path = write(tmp_path, "jsonl", [record, good])
    rejects = Rejects(skip=True)
    examples = lamp_examples(path, load_task("longlamp-review"), rejects)
    assert [row.line for row in rejects.rows] == [1] and "NaN" in rejects.rows[0].reason
    assert examples[0].target == "gold" and "overall" not in examples[0].profile[0].fields


DATES = {
    "2024-5-1": "2024-05-01",
    "20240501": "2024-05-01",
    "202405011830": "2024-05-01T18:30:00",
    "20240501183059": "2024-05-01T18:30:59",
    "2024-05-01T18:30:00+02:00": "2024-05-01T16:30:00",
    "2024-05-01 18:30:00Z": "2024-05-01T18:30:00",
    "1714521600": "2024-05-01T00:00:00",
    "1714521600.0": "2024-05-01T00:00:00",
    "1714521600.75": "2024-05-01T00:00:00",
    1714521600.0: "2024-05-01T00:00:00",
    "1714521600000": "2024-05-01T00:00:00",
    "979200000000": "2001-01-11T08:00:00",
    "1714521600000000": "2024-05-01T00:00:00",
    "1714521600000000000": "2024-05-01T00:00:00",
    1.7145216e18: "2024-05-01T00:00:00",
}


@pytest.mark.parametrize("written", DATES)
def test_dates_as_they_are_written(written):
    assert iso_date(written) == DATES[written]


@pytest.mark.parametrize(
    "text", ["202413011830", "20241301", "12345678901", "1/2/2024", "2024", "-1", "1e9", "20240501183"]
)
def test_what_is_no_date(text):
    with pytest.raises(ValueError):
        iso_date(text)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"when": "date"}, "did you mean date: when"),
        ({"users": "who"}, "is none of our fields"),
        ({"Input": "text"}, "is none of our fields"),
    ],
)
def test_unknown_keys_of_fields_are_refused(fields, words):
    with pytest.raises(ValidationError, match=words):
        SourceSettings(task="generic-text", fields=fields)


@pytest.mark.parametrize("ours", ["date", "id", "work", "output"])
@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_a_mapping_to_a_field_that_is_nowhere_is_refused(tmp_path, ours, ending):
    path = write(tmp_path, ending, rows_for())
    line = complaint(path, fields={ours: "wen"})
    assert "wen" in line and "found: " in line
    assert "wen" in complaint(path, fields={ours: "wen"}, on_error="skip")


@pytest.mark.parametrize("name", ["when", "created_at", "Timestamp"])
@pytest.mark.parametrize("ending", ["jsonl", "csv", "json"])
def test_dates_under_another_name_are_said_and_read_once_they_are_named(tmp_path, ending, name, caplog):
    rows = [row | {name: f"2024-05-0{i % 4 + 1}"} for i, row in enumerate(rows_for())]
    path = write(tmp_path, ending, rows)
    assert load(path).report.split == "random"
    assert f"read without dates, so held-out items are a random choice; if column '{name}' is the date" in caplog.text
    caplog.clear()
    named = load(path, fields={"date": name})
    assert named.report.split == "time" and all(example.date for example in named.heldout)
    assert "without dates" not in caplog.text


def test_a_column_that_holds_no_dates_is_not_proposed(tmp_path, caplog):
    load(write(tmp_path, "jsonl", [row | {"when": "once"} for row in rows_for()]))
    assert "without dates" not in caplog.text


def test_fields_of_a_format_with_names_of_its_own_are_refused(tmp_path):
    source = SourceSettings(task="package-section", fields={"date": "when"})
    with pytest.raises(RecipeError, match="fields does nothing here") as caught:
        load_splits(DataSettings(sources=(source,)), 0, Path())
    assert "\n" not in str(caught.value)


def test_the_old_key_names_the_new_one():
    with pytest.raises(ValidationError, match="'reader' is now called 'format'"):
        SourceSettings.model_validate({"task": "lamp-2", "reader": "lamp"})
    with pytest.raises(ValidationError, match="no format 'jsnl'"):
        SourceSettings(task="lamp-2", format="jsnl")
    with pytest.raises(RecipeError, match="heldout_path is for files whose records bring their history"):
        load_splits(DataSettings(sources=(SourceSettings(task="package-section", heldout_path="dev.json"),)), 0, Path())


def test_users_and_items_that_gave_no_example_are_counted_with_the_reason(tmp_path, caplog):
    days = {"a": [1, 2, 3], "b": [5, 5, 5], "c": [7, 7], "d": [1]}
    rows = [
        {"user_id": user, "input": f"text {i} {user}", "output": f"title {i}", "date": f"2024-05-0{day}"}
        for user, own in days.items()
        for i, day in enumerate(own)
    ]
    path = write(tmp_path, "csv", rows)
    splits = load(path, "skip")
    assert splits.report.no_example == Unused(
        users={"all items on one date, so none is another's past": 2, "one item and so no history": 1},
        items={"fewer than 1 earlier item(s) to show": 1},
    )
    assert "2 users gave none: all items on one date" in caplog.text
    assert "users without example (all items on one date, so none is another's past): 2" in render_check(check(path))
    path = write(tmp_path, "csv", [row for row in rows if row["user_id"] in "bc"])
    assert "2 users gave none: all items on one date" in complaint(path)


# E. Readers and words


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "tsv", "csv.gz"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(tmp_path, encoding, ending, end):
    rows = [{**row, "output": "tïtle 中"} for row in rows_for()]
    path = write(tmp_path, ending.removesuffix(".gz"), rows)
    text = path.read_text().encode().decode("unicode_escape" if "json" in ending else "utf-8")
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows) if ending == "jsonl" else text
    if ending == "json":
        text = json.dumps(rows, ensure_ascii=False, indent=1)
    data = text.replace("\n", end).encode(encoding)
    path = tmp_path / f"mine.{ending}"
    path.write_bytes(gzip.compress(data) if ending.endswith(".gz") else data)
    splits = load(path)
    assert splits.report.items == 8 and splits.heldout[0].target == "tïtle 中" and not splits.rejects


FOREIGN = {
    "zip": (b"PK\x03\x04" + b"x" * 40, "a zip archive or spreadsheet"),
    "xz": (b"\xfd7zXZ\x00" + b"x" * 40, "an xz file"),
    "bz2": (b"BZh91AY" + b"x" * 40, "a bzip2 file"),
    "sqlite": (b"SQLite format 3\x00" + b"x" * 40, "an SQLite database"),
    "gz": (gzip.compress(b'{"user_id": "a"}\n' * 2000)[:40], "a damaged gzip file"),
    "old excel": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 99, "an old Excel or Word file"),
    "rich text": (b"{\\rtf1\\ansi user_id,input,output}", "is rich text"),
    "web page": (b"\xef\xbb\xbf\n<!DOCTYPE html>\n<html><body>Sign in, please</body></html>", "is a web page or XML"),
    "xml": (b"<?xml version='1.0'?>\n<rows/>", "is a web page or XML"),
    "feather": (b"ARROW1\x00\x00" + b"x" * 40, "a Feather (Arrow) file"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 123\n", "run git lfs pull"),
    "gz of gz": (gzip.compress(gzip.compress(b'{"user_id": "a"}\n')), "packed with gzip twice"),
    "columns": (b'{"user_id": {"0": "a"}, "input": {"0": "x"}, "output": {"0": "y"}}', "orient='records'"),
    "wrapped": (b'{"data": [{"user_id": "a", "input": "x", "output": "y"}]}', "a list under 'data'"),
    "wrapped with more": (b'{"data": [{"user_id": "a", "input": "x", "output": "y"}], "version": 1}', "under 'data'"),
    "split": (b'{"columns": ["user_id"], "index": [0], "data": [["a"]]}', "orient='records'"),
    "by user": (b'{"a": [{"input": "x"}], "b": [{"input": "y"}]}', "lists of records (a, b); save them as one list"),
    "empty": (b"", "the file is empty"),
    "blank": (b" \n\n", "the file is empty"),
}


ONE_DOCUMENT = ("columns", "wrapped", "wrapped with more", "split", "by user")  # what only a JSON file can be


@pytest.mark.parametrize(
    ("kind", "ending"),
    [(k, e) for k in FOREIGN for e in ("jsonl", "json", "csv") if e == "json" or k not in ONE_DOCUMENT],
)
def test_what_a_file_is_instead_is_named(tmp_path, kind, ending):
    path = tmp_path / f"mine.{ending}"
    path.write_bytes(FOREIGN[kind][0])
    assert FOREIGN[kind][1] in complaint(path)


@pytest.mark.parametrize(
    ("text", "inputs"),
    [
        ("sep=;\r\nuser_id;input;output\r\na;x, y;t\r\na;z;u\r\n", {"x, y", "z"}),  # Excel's first line
        ("user_id, input, output\na,x,t\na,z,u\n", {"x", "z"}),  # spaces in the header
        (
            'user_id,input,output\na,"say \\"hi\\", you",t\na,"a ""b"" c",u\n',
            {'say "hi", you', 'a "b" c'},
        ),  # MySQL's quotes
        ('user_id,input,output\na,"C:\\dir\\",t\na,z,u\n', {"C:\\dir\\", "z"}),
        (",user_id,input,output\n0,a,x,t\n1,a,z,u\n", {"x", "z"}),  # pandas' index
    ],
)
def test_csv_as_other_programs_write_it(tmp_path, text, inputs):
    path = tmp_path / "mine.csv"
    path.write_bytes(text.encode())
    splits = load(path, min_history=0)
    assert not splits.rejects and {e.input for e in [*splits.train, *splits.heldout]} == inputs


@pytest.mark.parametrize("ending", ["jsonl", "csv", "json"])
def test_a_file_of_which_nothing_is_left_says_why(tmp_path, ending):
    path = write(tmp_path, ending, rows_for())
    path.write_bytes(path.read_bytes().replace(b"text", b"t\xe9xt"))
    assert "no training example for task generic-text: 8 records are left out (line " in complaint(
        path, on_error="skip"
    )
    assert "not UTF-8" in complaint(path, on_error="skip")


@pytest.mark.parametrize("name", ["mine.json", "mine.json.gz", "mine.txt"])
def test_a_list_is_a_list_whatever_follows_it(tmp_path, name):
    data = json.dumps(rows_for("a")).encode() + b"\n" + json.dumps(rows_for("b")).encode() + b"\n\x00\x00"
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    splits = load(path, "skip")
    assert splits.report.items == splits.report.records == 8 and len(splits.rejects) == 2


HALVES = {"a surrogate": "a\ud800", "another surrogate": "a\udbff", "NUL": "a\x00"}


@pytest.mark.parametrize("field", ["user_id", "id"])
@pytest.mark.parametrize("kind", HALVES)
def test_ids_that_cleaning_would_change_are_refused(tmp_path, kind, field):
    """Two users whose ids differ in what no file can hold must not become one."""
    rows = rows_for()
    rows[1][field] = HALVES[kind]
    path = write(tmp_path, "jsonl", rows)
    assert f"mine.jsonl:2: field '{field}' holds NUL or half of a character" in complaint(path)
    assert load(path, "skip").report.items == 7
    item = {"text": "t", "title": "h", "id": HALVES[kind], HALVES[kind]: "x"}
    text = "Generate a headline for the following article: words"
    record = {"id": "1", "user_id": "u", "input": text, "output": "h", "profile": [item]}
    bad = {**record, "id": "2", field: HALVES[kind]}
    path = write(tmp_path, "json", [record, bad], "train_questions")
    rejects = Rejects(skip=True)
    examples = lamp_examples(path, load_task("lamp-4"), rejects)
    assert len(examples) == 1 and rejects.records == 1 and "half of a character" in rejects.rows[0].reason
    write_examples(tmp_path / "out.jsonl", examples)  # nothing in a history that no file can hold


@pytest.mark.parametrize("word", ["nan", "None", "NULL", "<NA>", " NaN "])
@pytest.mark.parametrize("field", ["user_id", "output"])
def test_words_for_nothing_are_said(tmp_path, word, field, caplog):
    """pandas' `astype(str)` makes users and answers of what is missing: all such users would be one."""
    rows = rows_for()
    for row in rows[1:3]:
        row[field] = word
    splits = load(write(tmp_path, "jsonl", rows), "skip")
    assert splits.report.missing_words == 2 and "2 fields read like a missing value" in caplog.text
    assert f"line 2: {field} is '" in caplog.text
    assert "fields that read like a missing value: 2 (line 2: " in render_check(check(tmp_path / "mine.jsonl"))
    rows = [{**row, "input": f"none but {i}", "output": f"null {i}"} for i, row in enumerate(rows_for())]
    assert load(write(tmp_path, "jsonl", rows)).report.missing_words is None


BAD_GOLDS = {
    "null": '{"id": "2", "output": null}',
    "NaN": '{"id": "2", "output": NaN}',
    "no output": '{"id": "2"}',
    "no object": "3",
    "twice": '{"id": "1", "output": "other"}',
}


@pytest.mark.parametrize("kind", BAD_GOLDS)
def test_one_bad_gold_costs_its_question(tmp_path, kind):
    item = {"text": "t", "title": "h", "id": "1"}
    text = "Generate a headline for the following article: words"
    records = [{"id": str(i), "user_id": f"u{i}", "input": text, "profile": [item]} for i in range(4)]
    path = write(tmp_path, "json", records, "train_questions")
    good = [f'{{"id": "{i}", "output": "gold {i}"}}' for i in range(4) if i != 2]
    (tmp_path / "train_outputs.json").write_text('{"golds": [' + ", ".join([*good, BAD_GOLDS[kind]]) + "]}")
    with pytest.raises(DataError, match=r"train_outputs.json:1: gold 3: "):
        lamp_examples(path, load_task("lamp-4"), Rejects())
    rejects = Rejects(skip=True)
    examples = lamp_examples(path, load_task("lamp-4"), rejects)
    assert [example.target for example in examples] == ["gold 0", "gold 1", "gold 3"] and rejects.records == 1
    (tmp_path / "train_outputs.json").write_text('{"golds": [], "golds": []}')
    with pytest.raises(DataError, match="duplicate key 'golds'"):
        lamp_examples(path, load_task("lamp-4"), rejects)


def test_users_that_look_alike_are_named(tmp_path, caplog):
    names = ["ann", "ann ", "Ann", COMPOSED, DECOMPOSED, "bo"]
    rows = [{**row, "user_id": name} for name in names for row in rows_for("x", 3)]
    path = write(tmp_path, "jsonl", rows)
    splits = load(path)
    assert (splits.report.users, splits.report.users_alike) == (6, 3)
    assert "3 users differ from another only by spaces, case or accents ('ann' and 'ann ')" in caplog.text
    assert "users alike but for spaces, case or accents: 3 ('ann' and 'ann ')" in render_check(check(path))


@pytest.mark.parametrize(
    "column",
    [
        pa.array([0, 2**62, 86_400_000_000, 172_800_000_000], pa.timestamp("us")),
        pa.array([0, 2**30, 1, 2], pa.date32()),
    ],
    ids=["timestamp", "date"],
)
def test_a_date_that_python_cannot_hold_goes_alone(tmp_path, column):
    rows = rows_for("a")
    pq.write_table(pa.table({k: [r[k] for r in rows] for k in rows[0]} | {"date": column}), tmp_path / "mine.parquet")
    assert "mine.parquet:2: a value cannot be read" in complaint(tmp_path / "mine.parquet")
    splits = load(tmp_path / "mine.parquet", "skip")
    assert (splits.report.items, splits.report.records, splits.report.split) == (3, 4, "time")


def test_a_day_is_not_before_a_time_of_the_same_day(tmp_path):
    dates = ["2024-05-30", "2024-05-31", "2024-05-31T18:00", "2024-06-01T00:00", "2024-06-01"]
    rows = [{**row, "date": date} for row, date in zip(rows_for("a", 5), dates, strict=True)]
    splits = load(write(tmp_path, "jsonl", rows))
    seen = {e.input: [item.fields["input"] for item in e.profile] for e in [*splits.train, *splits.heldout]}
    texts = [row["input"] for row in rows]
    assert seen[texts[1]] == seen[texts[2]] == texts[:1]  # the 31st may have been in the evening
    assert seen[texts[3]] == texts[:3]


def test_files_without_rows(tmp_path):
    for ending, text in {"csv": "user_id,input,output\n", "tsv": "user_id\tinput\toutput", "json": "[]"}.items():
        (tmp_path / f"mine.{ending}").write_text(text)
        line = complaint(tmp_path / f"mine.{ending}")
        assert "no rows" in line or "the list is empty" in line
        assert not check(tmp_path / f"mine.{ending}").ok
    pq.write_table(pa.table({name: pa.array([], pa.string()) for name in rows_for()[0]}), tmp_path / "mine.parquet")
    assert "the file has no rows" in complaint(tmp_path / "mine.parquet")


@pytest.mark.parametrize("ending", ENDINGS)
def test_whole_numbers_with_a_point_are_labels(tmp_path, ending):
    rows = [{"user_id": u, "text": f"review {i} {u}", "score": float(i % 5 + 1)} for u in "ab" for i in range(6)]
    splits = load(write(tmp_path, ending, rows), task="lamp-3")
    assert {e.target for e in [*splits.train, *splits.heldout]} <= set("12345") and splits.report.items == 12
    assert {i.fields["score"] for e in splits.train for i in e.profile} <= set("12345")


def damaged(ending: str, tmp_path: Path, fault: str) -> tuple[Path, int]:
    """A file of eight good records and one bad one at its third place; the line of the bad one."""
    rows = rows_for(date="2024-05-01")
    for i, row in enumerate(rows):
        row["date"] = f"2024-05-{i + 1:02}"
    bad = {"user_id": "b", "input": "BAD", "output": "title", "date": "2024-05-20"}
    bad |= {"undated": {"date": ""}, "huge": {"input": "x" * 2_500_000}}.get(fault, {})
    path = write(tmp_path, ending, [*rows[:2], bad, *rows[2:]])
    if fault == "byte":
        packed = ending.endswith(".gz")
        data = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
        data = data.replace(b"BAD", b"caf\xe9")
        path.write_bytes(gzip.compress(data) if packed else data)
    return path, 4 if "sv" in ending else 1 if "json" in ending and "jsonl" not in ending else 3


@pytest.mark.parametrize(
    ("ending", "fault"),
    [
        (ending, fault)
        for ending in ("jsonl", "json", "json.gz", "csv", "tsv", "csv.gz", "parquet")
        for fault in ("byte", "undated", "huge")
        if (ending, fault) != ("parquet", "byte")  # the format itself keeps text UTF-8
    ],
)
def test_one_bad_record_goes_alone_under_skip(tmp_path, ending, fault):
    path, line = damaged(ending, tmp_path, fault)
    assert f"{path.name}:{line}: " in complaint(path)
    splits = load(path, "skip")
    assert [row.line for row in splits.rejects] == [line] and splits.report.items == 8
    assert splits.report.records == 9 and splits.report.split == "time"


@pytest.mark.parametrize("place", [0, 3, 7])
def test_one_undated_line_goes_wherever_it_stands(tmp_path, place):
    rows = [{**row, "date": f"2024-05-0{i + 1}"} for i, row in enumerate(rows_for())]
    del rows[place]["date"]
    splits = load(write(tmp_path, "jsonl", rows), "skip")
    assert [row.line for row in splits.rejects] == [place + 1] and splits.report.items == 7


def test_one_null_in_one_history_item_costs_that_item(tmp_path):
    entry = {"description": "d", "overall": 5, "reviewText": "t", "summary": "s"}
    records = [{"reviewerId": f"r{i}", "input": f"Write {i}", "output": "g", "profile": [entry] * 3} for i in range(9)]
    records[4]["profile"] = [entry, {**entry, "summary": None}, entry]
    for ending in ("jsonl", "parquet"):
        path = write(tmp_path, ending, records)
        with pytest.raises(DataError, match=r":5: profile item 1: field 'summary' is missing"):
            lamp_examples(path, load_task("longlamp-review"), Rejects())
        rejects = Rejects(skip=True)
        examples = lamp_examples(path, load_task("longlamp-review"), rejects)
        assert [len(e.profile) for e in examples] == [3, 3, 3, 3, 2, 3, 3, 3, 3] and rejects.records == 0
        assert [(row.line, row.record) for row in rejects.rows] == [(5, False)]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"summary": ["s"]}, "field 'summary' must be text or a number"),
        ({"overall": True}, "field 'overall' must be text or a number, not true/false"),
        ({"reviewText": "x" * 1_000_001}, "field 'reviewText' is 1,000,001 characters long"),
        ({"date": "soon"}, "date: 'soon' is no date"),
    ],
)
def test_a_bad_field_in_a_history_item_costs_that_item(tmp_path, change, says):
    entry = {"description": "d", "overall": 5, "reviewText": "t", "summary": "s"}
    record = {"reviewerId": "r", "input": "Write", "output": "g", "profile": [entry, {**entry, **change}]}
    path = write(tmp_path, "jsonl", [record])
    rejects = Rejects(skip=True)
    assert len(lamp_examples(path, load_task("longlamp-review"), rejects)[0].profile) == 1
    assert f"profile item 1: {says}" in rejects.rows[0].reason and rejects.records == 0
    with pytest.raises(DataError, match=r"mine.jsonl:1: profile item 1: "):
        lamp_examples(path, load_task("longlamp-review"), Rejects())


def test_nanoseconds_without_pandas(tmp_path):
    rows = rows_for()
    stamps = pa.array([1_714_521_600_000_000_000 + i * 86_400_000_000_001 for i in range(8)], pa.timestamp("ns"))
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    pq.write_table(pa.table({**columns, "date": stamps}), tmp_path / "mine.parquet")
    code = (
        "import sys; sys.modules['pandas'] = None\n"
        "from pathlib import Path; from tagpr.data.check import check\n"
        f"found = check(Path({str(tmp_path / 'mine.parquet')!r}))\n"
        "assert found.ok and found.counts['dates'].startswith('2024-05-01T00:00:00 to 2024-05-08'), found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def run_cli(*arguments: str, **more) -> subprocess.CompletedProcess:
    environment = {**os.environ, **more.pop("env", {})}
    return subprocess.run(
        [sys.executable, "-m", "tagpr.cli", *arguments], capture_output=True, env=environment, check=False, **more
    )


def test_a_terminal_that_cannot_print_a_character(tmp_path):
    path = write(tmp_path, "jsonl", [{"user_id": "a", "input": "x", "öutput": "中"}])
    result = run_cli("data", "check", str(path), env={"PYTHONIOENCODING": "cp1251", "LC_ALL": "C"})
    assert result.returncode == 2 and b"Traceback" not in result.stderr and b"\\xf6utput" in result.stdout


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    path = write(tmp_path, "jsonl", rows_for())
    (tmp_path / "file").write_text("in the way")
    sources = f"data.sources=[{{task: generic-text, path: {path}}}]"
    result = run_cli("data", "smoke", sources, "--runs", str(tmp_path / "file" / "runs"), "--quiet", cwd=tmp_path)
    assert result.returncode == 2 and result.stderr.count(b"\n") == 1, result.stderr
    assert b"file" in result.stderr and b"folder" in result.stderr


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet", "json"])
def test_other_column_names_are_said_once_with_the_mapping(tmp_path, ending):
    rows = [
        {
            "author": "ann",
            "created_at": f"2024-05-{i % 28 + 1:02}",
            "review_text": f"a long text of words {i}",
            "stars": i,
        }
        for i in range(400)
    ]
    path = write(tmp_path, ending, rows)
    found = check(path)
    assert len(found.problems) == 1
    wanted = {"user_id": "author", "input": "review_text", "output": "stars", "date": "created_at"}
    assert all(f"--field {ours}={theirs}" in found.problems[0][1] for ours, theirs in wanted.items())
    assert check(path, names=wanted).ok
    assert "did you mean --field user_id=author" in complaint(path)


def test_equal_problems_are_one_line(tmp_path):
    rows = rows_for(number=300)
    for row in rows[::2]:
        row["output"] = ""
    path = write(tmp_path, "jsonl", rows)
    text = render_check(check(path))
    assert "problems: 300" in text and "(299 more lines like it)" in text and len(text.splitlines()) < 12
    assert "(1 more line like it)" in render_check(replace(check(path), rejects=check(path).rejects[:2]))
    listed = json.loads(run_cli("data", "check", str(path), "--json").stdout)
    assert len(listed["problems"]) == 300  # which is what `tagpr new` and the command's help say of it


def test_what_follows_a_list_is_not_lost(tmp_path):
    path = write(tmp_path, "pretty.json", rows_for())
    path.write_text(path.read_text() + json.dumps(rows_for("c")[0]))
    assert "the list ends before this" in complaint(path)
    path = write(tmp_path, "jsonl", rows_for())
    path.write_text('["a"]\n' + path.read_text())
    assert [row.line for row in load(path, "skip").rejects] == [1] and load(path, "skip").report.records == 9


def test_a_column_name_of_thousands_of_characters_is_cut(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(f'user_id,input,"{"x" * 5000}\n{"y" * 5000}"\na,text,title\n')
    assert len(complaint(path)) < 500


def test_the_folder_itself_as_a_source_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = DataSettings(sources=(SourceSettings(task="package-section", path="."),))
    data_fingerprints(settings, Path())
    with pytest.raises(DataError, match="holds no train_questions"):
        load_splits(settings, 0, Path())

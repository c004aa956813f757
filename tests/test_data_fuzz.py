"""Damaged inputs of every format through reader and prompt: each is read or fails with one line naming the file,
and no record is lost without a word. 400 of them in the ordinary suite, 10,000 in the slow one."""

import csv
import gzip
import io
import json
import random
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tagpr.data import DataSettings, SourceSettings, load_splits
from tagpr.data.formats.protocol import Source
from tagpr.data.formats.registry import find_reader
from tagpr.data.rejects import Rejects
from tagpr.errors import TagPRError
from tagpr.profiles import ProfileSettings, choose
from tagpr.prompts import PromptSettings, build_prompt
from tagpr.tasks import load_task

SLOWEST = 1.0  # seconds of processor time for one input
LONG = "x" * 2_000_000
VALUES = [
    None,
    True,
    -1,
    10**30,
    1e308,
    [],
    {},
    ["a"],
    {"a": {"b": 1}},
    "",
    " ",
    "\x00",
    "\ud800",
    "a\ud83d",
    LONG,
    "1e5",
]
DATES = [
    "-5-1-1",
    "9999-12-31",
    "0000-00-00",
    "2024-02-30",
    "99999999999999",
    -1,
    "12/31/2020",
    "2024-01-01T25:00",
    10**40,
]
NOISE = ["<|im_end|>", "</think>", "{{ x }}", "{% for %}", "中文", "🙂", "\u202e", "\ufeff", "NaN", "Infinity"]


def base_rows(rng: random.Random, dated: bool) -> list[dict]:
    rows = []
    for i in range(8):
        row = {"user_id": f"u{i % 2}", "id": str(i), "input": f"rec{i}x some text", "output": f"a title {i}"}
        if dated:
            row["date"] = f"2024-01-{i + 1:02}"
        rows.append(row)
    return rows


def base_records(rng: random.Random) -> list[dict]:
    entry = {"text": "a text", "title": "a headline"}
    text = "Generate a headline for the following article: words"
    return [
        {
            "id": str(i),
            "input": f"{text} rec{i}x",
            "output": "gold",
            "user_id": f"u{i}",
            "profile": [{**entry, "id": str(j)} for j in range(3)],
        }
        for i in range(4)
    ]


def mutate(rng: random.Random, value):
    """One random damage somewhere inside a JSON value."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        kind = rng.randrange(5)
        if kind == 0:
            return {k: v for k, v in value.items() if k != key}
        if kind == 1:
            return {**value, key: rng.choice(DATES if key == "date" else VALUES)}
        if kind == 2:
            return {**value, "date": rng.choice(DATES)}
        if kind == 3:
            return {**value, key: f"{rng.choice(NOISE)}{value[key]}{rng.choice(NOISE)}"}
        return {**value, key: mutate(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.9:
        place = rng.randrange(len(value))
        kind = rng.randrange(4)
        if kind == 0:
            return [*value[:place], value[place], *value[place:]]
        if kind == 1:
            return value[:place] + value[place + 1 :]
        return [*value[:place], mutate(rng, value[place]), *value[place + 1 :]]
    return rng.choice(VALUES)


def damage(rng: random.Random, data: bytes) -> bytes:
    """One random damage to the bytes of a file."""
    kind = rng.randrange(6)
    place = rng.randrange(len(data) + 1)
    if kind == 0:
        return data[:place]
    if kind == 1:
        return data[:place] + bytes(rng.randrange(256) for _ in range(4)) + data[place:]
    if kind == 2:
        return data[:place] + b"\x00" * 8 + data[place:]
    if kind == 3:
        return b"\xef\xbb\xbf" + data
    if kind == 4:
        return data[:place] + b"[" * 5000 + data[place:]
    return data.replace(b",", rng.choice([b";", b"", b",,"]), 2)


TABLES = ("jsonl", "json", "pretty.json", "csv", "tsv", "parquet")
RECORDS = ("lamp.json", "longlamp.jsonl", "longlamp.parquet", "pgraphrag.json")
SHAPES = (*TABLES, *RECORDS, *(f"{shape}.gz" for shape in (*TABLES, *RECORDS) if not shape.endswith("parquet")))
MARK = re.compile(rb"rec\d+x")


@dataclass
class Input:
    """One damaged file, and what is known of it without our readers."""

    source: SourceSettings
    written: int | None  # records written, if no byte was damaged since
    marks: frozenset[bytes]  # records whose mark can still be found in the file

    @property
    def name(self) -> str:
        return self.source.path


def write_input(rng: random.Random, folder: Path) -> Input:
    """A file of a random format with one to three damages."""
    shape = rng.choice(SHAPES)
    kind = shape.removesuffix(".gz")
    task, rows, name = "package-synopsis", base_rows(rng, rng.random() < 0.5), "mine"
    if kind in RECORDS:
        task, rows, name = "lamp-4", base_records(rng), "train_questions"
        if kind.startswith("pgraphrag"):
            review = {"rating": 3, "title": "t", "text": "words", "pid": "p"}
            own = [{**review, "text": f"rec{i}x"} for i in range(4)]
            rows = [{"id": str(i), "profile": [own[i], {**review, "text": "older"}]} for i in range(4)]
            task = rng.choice(["pgraphrag-title", "pgraphrag-rating"])
    for _ in range(rng.randint(0, 2)):
        rows = mutate(rng, rows)
    lines = rows if isinstance(rows, list) else [rows]
    if kind.endswith("parquet"):
        lines = [row for row in lines if isinstance(row, dict)]
    data, written = packed(kind, lines)
    if damaged := rng.random() < 0.5:
        data = damage(rng, data)
    marks = frozenset(MARK.findall(data)) if not kind.endswith("parquet") else frozenset()
    if shape.endswith(".gz"):
        data = gzip.compress(data, 1)
        if rng.random() < 0.2:
            data, damaged, marks = damage(rng, data), True, frozenset()
    path = folder / f"{name}.{shape.removeprefix('long').removeprefix('lamp.').removeprefix('pgraphrag.')}"
    path.write_bytes(data)
    named = {"jsonl": "jsonl", "json": "json", "pretty.json": "json", "csv": "csv", "tsv": "csv", "parquet": "parquet"}
    format = rng.choice(["auto", named.get(kind, kind.split(".")[0])])
    return Input(SourceSettings(task=task, path=path.name, format=format), None if damaged else written, marks)


def packed(kind: str, rows: list) -> tuple[bytes, int]:
    """The rows as a file's bytes, and how many there are."""
    if kind.endswith("jsonl"):
        return "\n".join(json.dumps(row) for row in rows).encode(), len(rows)
    if kind.endswith("json"):
        return json.dumps(rows, indent=None if kind == "json" else 1).encode(), len(rows)
    body = [row for row in rows if isinstance(row, dict)]
    columns = list(dict.fromkeys(key for row in body for key in row)) or ["user_id"]
    text = io.StringIO()
    if kind.endswith("parquet"):
        sink = io.BytesIO()
        nested = {"profile"} & set(columns)
        flat = [
            {c: json.loads(json.dumps(row.get(c))) if c in nested else as_text(row.get(c)) for c in columns}
            for row in body
        ]
        try:
            pq.write_table(pa.Table.from_pylist(flat), sink)
        except (pa.ArrowException, UnicodeEncodeError):  # a profile of mixed kinds fits no column
            flat = [{c: as_text(row[c]) for c in columns} for row in flat]
            pq.write_table(pa.Table.from_pylist(flat), sink)
        return sink.getvalue(), len(body)
    writer = csv.writer(text, delimiter="\t" if kind == "tsv" else ",", lineterminator="\n")
    writer.writerows([columns, *([as_text(row.get(column, "")) for column in columns] for row in body)])
    return text.getvalue().encode("utf-8", "replace"), len(body)


def as_text(value) -> str:
    return str(value)[:99].encode("utf-8", "replace").decode()


def assert_no_silent_loss(case: Input, folder: Path) -> None:
    """Records read and records rejected are together what is in the file, counted without our readers."""
    rejects = Rejects(skip=True)
    path, task = folder / case.name, load_task(case.source.task)
    try:
        reader = find_reader(case.source.format, path, folder)
        read = reader.read(path, Source(task, rejects, history="both"))
    except TagPRError:
        return  # said, and nothing was read
    found = len(read) + rejects.records
    if case.written is not None:
        assert found == case.written, f"{found} of {case.written} records: {rejects.rows}"
    assert found >= len(case.marks), f"{found} of {len(case.marks)} records: {rejects.rows}"


def run(source: SourceSettings, folder: Path, on_error: str = "stop") -> int:
    """Reader, retrieval and prompt; the number of prompts made."""
    made = 0
    for splits in load_splits(DataSettings(sources=(source,), on_error=on_error), 0, folder).values():
        for row in splits.rejects:
            json.dumps(asdict(row), ensure_ascii=False).encode("utf-8")
            assert row.reason and len(row.excerpt) <= 200
        for example in [*splits.train, *splits.heldout]:
            entries = choose(splits.task, example, ProfileSettings(retriever="bm25", k=4), 0)
            prompt = build_prompt(splits.task, example, entries, PromptSettings(), lambda t: len(t) // 4, ("a", "b"))
            prompt.messages[1]["content"].encode("utf-8")  # nothing in it that cannot be written
            made += 1
    return made


@pytest.mark.parametrize("number", [400, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_damaged_inputs_end_in_records_or_one_line_and_never_in_silent_loss(tmp_path, number):
    rng = random.Random(2024)
    failed = made = 0
    for count in range(number):
        folder = tmp_path / str(count)
        folder.mkdir()
        case = write_input(rng, folder)
        start = time.process_time()
        try:
            made += run(case.source, folder, rng.choice(["stop", "skip"]))
        except TagPRError as error:
            failed += 1
            message = str(error)
            assert "\n" not in message and len(message) < 900, message
            assert case.name in message, message
        spent = time.process_time() - start
        assert spent < SLOWEST, f"input {count} took {spent:.2f} s: {case}"
        assert_no_silent_loss(case, folder)
        left = sorted(path.name for path in folder.iterdir())
        assert left == [case.name], left
        (folder / case.name).unlink()
    assert failed > number / 5 and made > number / 2


def test_a_profile_of_100000_items_is_read_within_the_limit(tmp_path):
    entry = {"text": "a text of some words", "title": "a headline"}
    text = "Generate a headline for the following article: words"
    for name, size in (("train", 100_000), ("dev", 2)):
        profile = [{**entry, "id": str(j)} for j in range(size)]
        record = {"id": name, "user_id": name, "input": text, "output": "gold", "profile": profile}
        (tmp_path / f"{name}.json").write_text(json.dumps([record]))
    source = SourceSettings(task="lamp-4", format="longlamp", path="train.json", heldout_path="dev.json")
    for _ in range(3):  # a busy machine may be slow, not always
        start = time.process_time()
        assert run(source, tmp_path) == 2
        if (spent := time.process_time() - start) < SLOWEST:
            break
    assert spent < SLOWEST


def test_rejects_are_counted(tmp_path):
    lines = [json.dumps(row) for row in base_rows(random.Random(0), False)]
    (tmp_path / "mine.jsonl").write_text("\n".join([*lines, "{", "[]", '{"user_id": 1}']))
    sources = (SourceSettings(task="package-synopsis", path="mine.jsonl"),)
    splits = load_splits(DataSettings(sources=sources, on_error="skip"), 0, tmp_path)["package-synopsis"]
    assert [row.line for row in splits.rejects] == [9, 10, 11]
    assert [row.excerpt for row in splits.rejects] == ["{", "[]", "user_id: 1"]
    assert all(row.reason and row.file.endswith("mine.jsonl") for row in splits.rejects)
    assert splits.report.rejected == 3
    with pytest.raises(TagPRError, match=r"mine.jsonl:9"):
        load_splits(DataSettings(sources=sources), 0, tmp_path)

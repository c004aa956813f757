"""1,000 damaged inputs through reader and prompt: each parses or fails with our own one-line error naming the file."""

import json
import random
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from tagpr.data import DataSettings, SourceSettings, load_splits
from tagpr.errors import TagPRError
from tagpr.profiles import ProfileSettings, choose
from tagpr.prompts import PromptSettings, build_prompt

NUMBER = 1000
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
        row = {"user_id": f"u{i % 2}", "id": str(i), "input": f"some text {i}", "output": f"a title {i}"}
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
            "input": text,
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


def write_input(rng: random.Random, folder: Path) -> SourceSettings:
    """A file with one to three damages, and the source that reads it."""
    shape = rng.choice(["jsonl", "csv", "lamp", "pgraphrag"])
    if shape in ("jsonl", "csv"):
        rows = base_rows(rng, rng.random() < 0.5)
        for _ in range(rng.randint(0, 2)):
            rows = mutate(rng, rows)
        path, task = folder / f"mine.{shape}", "package-synopsis"
        if shape == "jsonl":
            lines = rows if isinstance(rows, list) else [rows]
            data = "\n".join(json.dumps(row) for row in lines).encode()
        else:
            body = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
            data = "\n".join(
                ["user_id,input,output", *(",".join(str(v)[:99] for v in row.values()) for row in body)]
            ).encode("utf-8", "replace")
    else:
        records = base_records(rng)
        task = "lamp-4"
        if shape == "pgraphrag":
            review = {"rating": 3, "title": "t", "text": "words", "pid": "p"}
            records = [{"id": str(i), "profile": [review, review]} for i in range(4)]
            task = rng.choice(["pgraphrag-title", "pgraphrag-rating"])
        for _ in range(rng.randint(0, 2)):
            records = mutate(rng, records)
        path = folder / "train_questions.json"
        data = json.dumps(records, indent=rng.choice([None, 1])).encode()
    for _ in range(rng.randint(0, 1)):
        data = damage(rng, data)
    path.write_bytes(data)
    reader = rng.choice(["auto", shape])
    return SourceSettings(task=task, path=path.name, format=reader)


def run(source: SourceSettings, folder: Path, on_error: str = "stop") -> int:
    """Reader, retrieval and prompt; the number of prompts made."""
    made = 0
    for splits in load_splits(DataSettings(sources=(source,), on_error=on_error), 0, folder).values():
        for row in splits.rejects:
            json.dumps(asdict(row), ensure_ascii=False).encode("utf-8")
            assert row.reason and len(row.excerpt) <= 200
        for example in splits.train + splits.heldout:
            entries = choose(splits.task, example, ProfileSettings(retriever="bm25", k=4), 0)
            prompt = build_prompt(splits.task, example, entries, PromptSettings(), lambda t: len(t) // 4, ("a", "b"))
            prompt.messages[1]["content"].encode("utf-8")  # nothing in it that cannot be written
            made += 1
    return made


def test_damaged_inputs_never_end_in_a_traceback(tmp_path):
    rng = random.Random(2024)
    failed = made = 0
    for number in range(NUMBER):
        folder = tmp_path / str(number)
        folder.mkdir()
        source = write_input(rng, folder)
        start = time.process_time()
        try:
            made += run(source, folder, rng.choice(["stop", "skip"]))
        except TagPRError as error:
            failed += 1
            message = str(error)
            assert "\n" not in message and len(message) < 700, message
            assert source.path in message, message
        spent = time.process_time() - start
        assert spent < SLOWEST, f"input {number} took {spent:.2f} s: {source}"
        left = sorted(path.name for path in folder.iterdir())
        assert left == [source.path], left
        (folder / source.path).unlink()
    assert failed > NUMBER / 5 and made > NUMBER / 2


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
    assert splits.report["rejected"] == 3
    with pytest.raises(TagPRError, match=r"mine.jsonl:9"):
        load_splits(DataSettings(sources=sources), 0, tmp_path)

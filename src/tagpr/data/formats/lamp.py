"""LaMP's official files: `{split}_questions.json` beside `{split}_outputs.json`, user split and time split.

The question's own parts (titles of the candidates, the tag bracket, the review ...) are taken out of the official input
text by the card's `input_pattern`; they are never assumed. A record of the time split carries `user_id` and dated
items; in the user split nobody is named, so the record's id stands for the user. The same function reads LongLaMP, from
the hub or exported as JSON, JSONL or Parquet: input, output and profile in one record, the user under reviewerId, name
or author.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tagpr.data.formats.hub import hub_rows, on_hub
from tagpr.data.formats.json_arrays import interaction, json_records, profile_of, read_utf8, record_text
from tagpr.data.formats.jsonl import Rejects, iso_date, pattern_fields, text_of
from tagpr.data.formats.tables import parquet_rows
from tagpr.errors import DataError
from tagpr.tasks import Example, Interaction, Kind, Task

USER_KEYS = ("user_id", "reviewerId", "author", "name")


def find_questions(path: Path, *splits: str) -> Path:
    """The questions file of the first of `splits` (train, dev, test) that is there: `path` itself, or in that folder.

    Raises DataError where there is none.
    """
    if not path.is_dir():
        return path
    for split in splits:
        found = sorted(path.glob(f"*{split}*questions.json")) or sorted(path.glob(f"*{split}*.json*"))
        if found:
            return found[0]
    raise DataError(f"{path}: holds no {splits[0]}_questions.json; give the file or the folder that has it")


def read_golds(questions: Path) -> dict[str, str]:
    """Gold answers by record id from the outputs file beside `questions`; empty where there is none (test)."""
    outputs = questions.with_name(questions.name.replace("questions", "outputs"))
    if outputs == questions or not outputs.is_file():
        return {}
    import json

    try:
        content = json.loads(read_utf8(outputs))
        golds = content["golds"]
        rows = [(str(gold["id"]), text_of(gold["output"])) for gold in golds]
    except json.JSONDecodeError as error:
        raise DataError(f"{outputs}:{error.lineno}: not JSON ({error.msg})") from None
    except (KeyError, TypeError, ValueError, RecursionError):
        raise DataError(f'{outputs}:1: must be {{"task": ..., "golds": [{{"id": ..., "output": ...}}]}}') from None
    if len(dict(rows)) != len(rows):
        raise DataError(f"{outputs}:1: an id stands twice among the golds")
    return dict(rows)


def lamp_examples(path: Path, task: Task, rejects: Rejects, max_history: int = 500) -> list[Example]:
    """Examples of one LaMP or LongLaMP file. Records without a gold answer are kept with target None."""
    golds = read_golds(path)
    examples: list[Example] = []
    seen: set[str] = set()
    for number, (line, record) in enumerate(lamp_records(path, rejects)):
        try:
            example = _example(record, task, golds, number, max_history)
            if example.id in seen:
                raise ValueError(f"id {example.id[:40]!r} stands twice; ids must be unique")
        except ValueError as error:
            rejects.add(path, line, str(error), record)
            continue
        seen.add(example.id)
        examples.append(example)
    missing = set(golds) - seen
    if missing and not rejects.skip:
        name = sorted(missing)[0]
        raise DataError(
            f"{path}: {len(missing)} gold answers have no question (first id {name[:40]!r}); files must match"
        )
    return examples


def lamp_records(path: Path, rejects: Rejects) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, record) of a JSON, JSONL or Parquet file, or of a hub dataset."""
    if on_hub(path):
        return hub_rows(path)
    return parquet_rows(path) if path.suffix == ".parquet" else json_records(path, rejects)


def _example(record: dict[str, Any], task: Task, golds: dict[str, str], number: int, max_history: int) -> Example:
    text = record_text(record, "input")
    user_key = next((key for key in USER_KEYS if record.get(key) not in (None, "")), None)
    identifier = record.get("id")
    name = text_of(identifier) if identifier not in (None, "") else f"record-{number}"
    user_id = record_text(record, user_key) if user_key else name
    target = golds.get(name)
    if target is None and record.get("output") is not None:
        target = record_text(record, "output")
    if golds and target is None:
        raise ValueError(f"id {name[:40]!r} has no gold answer in the outputs file")
    target = target.strip() if target is not None else None
    if target is not None and task.labels and task.kind is not Kind.TEXT and target not in task.labels:
        raise ValueError(f"output {target[:40]!r} is no label of task {task.name} ({', '.join(task.labels)})")
    fields = pattern_fields(task, text)
    if task.input_pattern and not fields:
        raise ValueError(f"the input does not read like {task.name}'s: no match for the card's input_pattern")
    if "tags" in fields:
        _check_tags(fields["tags"], task)
    needed = tuple(dict.fromkeys(re.findall(r"{{\s*(\w+)", task.entry)))
    entries = profile_of(record, needed)
    profile = [interaction(entry, i, "id", _entry_date(entry, i)) for i, entry in enumerate(entries)]
    return Example(
        id=name,
        user_id=user_id,
        task=task.name,
        input=text,
        target=target,
        profile=in_time_order(profile)[-max_history:],
        date=_entry_date(record, None),
        fields=fields or {task.input_name: text},
    )


def _check_tags(bracket: str, task: Task) -> None:
    """The bracket's order may vary, its tags may not: the labels of the card are what an answer is judged by."""
    asked = {tag.strip().strip("'\"") for tag in bracket.split(",")}
    if asked != set(task.labels):
        odd = sorted(asked ^ set(task.labels))
        raise ValueError(f"the bracket of tags differs from task {task.name}'s labels by: {', '.join(odd)[:80]}")


def _entry_date(entry: dict[str, Any], position: int | None) -> str | None:
    value = entry.get("date", entry.get("year"))
    if value in (None, ""):
        return None
    try:
        return iso_date(f"{value}-01-01" if re.fullmatch(r"\d{4}", str(value)) else value)
    except (ValueError, OverflowError, OSError):
        where = "field 'date'" if position is None else f"profile item {position}: date"
        raise ValueError(f"{where}: {str(value)[:40]!r} is no date; write it like 2024-05-31") from None


def in_time_order(profile: list[Interaction]) -> tuple[Interaction, ...]:
    """Oldest first where every item is dated, else as it stands."""
    if all(item.date for item in profile):
        profile = sorted(profile, key=lambda item: item.date or "")
    return tuple(profile)

"""LaMP's official files: `{split}_questions.json` beside `{split}_outputs.json`, user split and time split.

The question's own parts (titles of the candidates, the tag bracket, the review ...) are taken out of the official input
text by the card's `input_pattern`; they are never assumed. A record of the time split carries `user_id` and dated
items; the user split names no users, so the record's id is the user. The same function reads LongLaMP, from
the hub or exported as JSON, JSONL or Parquet: input, output and profile in one record, the user under reviewerId, name
or author.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tagpr.data.dates import iso_date
from tagpr.data.formats.interactions import pattern_fields
from tagpr.data.formats.json_list import read_text
from tagpr.data.formats.jsonl import RepeatedKey, one_object
from tagpr.data.formats.profiles import good_entries, history_item, record_id, record_text
from tagpr.data.formats.protocol import Source
from tagpr.data.formats.rows import Container, peek, rows_of
from tagpr.data.ids import item_names
from tagpr.data.rejects import Rejects
from tagpr.data.values import absent, label_of, text_of
from tagpr.errors import DataError
from tagpr.tasks import Example, Interaction, Kind, Task

USER_KEYS = ("user_id", "reviewerId", "author", "name")
"""Under which a record names its user, LaMP's first."""


@dataclass(frozen=True)
class LampReader:
    """Reader of LaMP's questions with their outputs file."""

    name: str = "lamp"
    says: str = "LaMP questions (official format)"

    def guess(self, path: Path) -> float:
        """By a record with a profile and neither an output nor LongLaMP's name of the user; or a folder."""
        found = peek(path)
        if found.container is Container.FOLDER:
            return 0.5
        return 0.8 if _brings_history(found.first) and not _is_longlamp(found.first) else 0.0

    def read(self, path: Path, source: Source) -> list[Example]:
        """One example per record."""
        return lamp_examples(path, source.task, source.rejects, source.max_history)


@dataclass(frozen=True)
class LongLampReader(LampReader):
    """Reader of LongLaMP's records, which hold input, output and profile."""

    name: str = "longlamp"
    says: str = "LongLaMP records (input, output, profile)"

    def guess(self, path: Path) -> float:
        """By a record with a profile and an output or LongLaMP's name of the user; or a hub dataset."""
        found = peek(path)
        if found.container is Container.HUB:
            return 0.9
        return 0.8 if _brings_history(found.first) and _is_longlamp(found.first) else 0.0


def _brings_history(record: Mapping[str, object] | None) -> bool:
    return record is not None and isinstance(record.get("profile"), list)


def _is_longlamp(record: Mapping[str, object] | None) -> bool:
    return record is not None and ("output" in record or any(key in record for key in USER_KEYS[1:]))


def find_questions(path: Path, *splits: str) -> Path:
    """The questions file of the first of `splits` (train, dev, test) that is there: `path` itself, or in that folder.

    Raises DataError if there is none.
    """
    if not path.is_dir():
        return path
    for split in splits:
        for pattern in (f"*{split}*questions.json", f"*{split}*questions.json.gz", f"*{split}*.json*"):
            if found := sorted(path.glob(pattern)):
                return found[0]
    raise DataError(f"{path}: holds no {splits[0]}_questions.json; give the file or the folder that has it")


def outputs_beside(questions: Path) -> Path | None:
    """The file with the gold answers to a questions file; None if there is none."""
    if "questions" not in questions.name:
        return None
    outputs = questions.with_name(questions.name.replace("questions", "outputs"))
    return outputs if outputs.is_file() else None


def read_golds(questions: Path, rejects: Rejects) -> dict[str, str]:
    """Gold answers by record id from the outputs file beside `questions`; empty if there is none (test).

    A gold that is none goes to the rejects. Raises DataError if the file is no outputs file.
    """
    outputs = outputs_beside(questions)
    if outputs is None:
        return {}
    try:
        golds = json.loads(read_text(outputs), object_pairs_hook=one_object)["golds"]
    except json.JSONDecodeError as error:
        raise DataError(f"{outputs}:{error.lineno}: not JSON ({error.msg})") from None
    except RepeatedKey as error:
        raise DataError(f"{outputs}:1: {error}") from None
    except (KeyError, TypeError, ValueError, RecursionError):
        golds = None
    if not isinstance(golds, list):
        raise DataError(f'{outputs}:1: must be {{"task": ..., "golds": [{{"id": ..., "output": ...}}]}}')
    found: dict[str, str] = {}
    for place, gold in enumerate(golds):
        try:
            if not isinstance(gold, dict):
                raise TypeError("must be an object with id and output")
            name, answer = record_id(gold, "id"), record_text(gold, "output")
            if name in found:
                raise ValueError(f"a second one of id {name[:40]!r}; ids must be unique")
        except (TypeError, ValueError) as error:
            rejects.add(outputs, 1, f"gold {place}: {error}", gold, record=False)
            continue
        found[name] = answer
    return found


def lamp_examples(path: Path, task: Task, rejects: Rejects, max_history: int = 500) -> list[Example]:
    """Examples of one LaMP or LongLaMP file. Records without a gold answer are kept with target None."""
    golds = read_golds(path, rejects)
    examples: list[Example] = []
    seen: set[str] = set()
    for line, record in rows_of(path, rejects):
        try:
            example = _example(record, task, golds)
            if example.id in seen:
                raise ValueError(f"duplicate id {example.id[:40]!r}; ids must be unique")
            profile = _history(record, task, path, line, rejects)
        except ValueError as error:
            rejects.add(path, line, str(error), record)
            continue
        seen |= {example.id} - {""}
        examples.append(replace(example, profile=profile[-max_history:]))
    missing = set(golds) - seen
    if missing and not rejects.skip:
        name = sorted(missing)[0]
        raise DataError(
            f"{path}: {len(missing)} gold answers have no question (first id {name[:40]!r}); files must match"
        )
    return _named(examples)


def _named(examples: list[Example]) -> list[Example]:
    """The examples, those without an id named by their place; the name is also the user's if the record names none."""
    users = {example.user_id for example in examples}
    names = item_names([example.id for example in examples], "record-", users)
    return [
        example if example.id else replace(example, id=name, user_id=example.user_id or name)
        for example, name in zip(examples, names, strict=True)
    ]


def _example(record: Mapping[str, object], task: Task, golds: Mapping[str, str]) -> Example:
    """One record without its history; an absent id is "". Raises ValueError."""
    text = record_text(record, "input")
    user_key = next((key for key in USER_KEYS if not absent(record.get(key))), None)
    name = "" if absent(record.get("id")) else record_id(record, "id")
    user_id = record_id(record, user_key) if user_key else name
    target = golds.get(name)
    if target is None and record.get("output") is not None:
        target = record_text(record, "output")
    if golds and target is None:
        raise ValueError(f"id {name[:40]!r} has no gold answer in the outputs file")
    target = target.strip() if target is not None else None
    if target is not None and task.labels and task.kind is not Kind.TEXT:
        target = label_of(target, task.labels)
        if target not in task.labels:
            raise ValueError(f"output {target[:40]!r} is no label of task {task.name} ({', '.join(task.labels)})")
    fields = pattern_fields(task, text)
    if task.input_pattern and not fields:
        raise ValueError(f"the input does not read like {task.name}'s: no match for the card's input_pattern")
    if "tags" in fields:
        _check_tags(fields["tags"], task)
    date = _entry_date(record, None)
    return Example(name, user_id, task.name, text, target, date=date, fields=fields or {task.input_name: text})


def _history(
    record: Mapping[str, object], task: Task, path: Path, line: int, rejects: Rejects
) -> tuple[Interaction, ...]:
    """The record's past items, oldest first; under `skip` a bad one is left out alone. Raises ValueError."""
    needed = tuple(dict.fromkeys(re.findall(r"{{\s*(\w+)", task.entry)))
    items: list[Interaction] = []
    for place, entry in enumerate(good_entries(record, needed, path, line, rejects)):
        try:
            items.append(history_item(entry, place, "id", _entry_date(entry, place)))
        except ValueError as error:
            rejects.add(path, line, str(error), entry, record=False)
    return in_time_order(items)


def _check_tags(bracket: str, task: Task) -> None:
    """The bracket's order may vary, its tags may not: the labels of the card are what an answer is judged by."""
    asked = {tag.strip().strip("'\"") for tag in bracket.split(",")}
    if asked != set(task.labels):
        odd = sorted(asked ^ set(task.labels))
        raise ValueError(f"the bracket of tags differs from task {task.name}'s labels by: {', '.join(odd)[:80]}")


def _entry_date(entry: Mapping[str, object], position: int | None) -> str | None:
    value = entry.get("date", entry.get("year"))
    if absent(value):
        return None
    try:
        text = text_of(value)
        return iso_date(f"{text}-01-01" if re.fullmatch(r"\d{4}", text) else text)
    except (TypeError, ValueError, OverflowError, OSError):
        where = "field 'date'" if position is None else f"profile item {position}: date"
        raise ValueError(f"{where}: {str(value)[:40]!r} is no date; write it like 2024-05-31") from None


def in_time_order(profile: list[Interaction]) -> tuple[Interaction, ...]:
    """Oldest first if every item is dated, else as it is."""
    if all(item.date for item in profile):
        profile = sorted(profile, key=lambda item: item.date or "")
    return tuple(profile)

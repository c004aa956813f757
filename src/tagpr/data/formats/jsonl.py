"""Items from anybody's JSONL: one object a line with `user_id`, `input`, `output` and, where known, `date` and `id`.

Every complaint is one line `FILE:LINE: what, fix`. Not here: splitting (`records.py`) and other formats.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tagpr.data.split import Item
from tagpr.errors import DataError
from tagpr.tasks import Kind, Task

LONGEST_FIELD = 1_000_000
"""Characters; longer fields are refused: they are damaged files, not anybody's text."""
LONGEST_REASON = 300
"""Characters of one complaint."""
LONGEST_EXCERPT = 200
"""Characters of a rejected line that are kept beside the complaint."""
_DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}")
_TIMESTAMP = re.compile(r"\d{9,13}")


@dataclass
class Rejects:
    """What to do at a bad line: raise at once, or collect (`skip`) for a `rejects.jsonl`.

    A row has `file`, `line` (0: no line of its own), `reason` and `excerpt`, the beginning of what was rejected.
    """

    skip: bool = False
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, path: Path | str, line: int, reason: str, raw: Any = "") -> None:
        """Raise DataError `path:line: reason`, or note it where bad lines are skipped.

        `raw`: the line or record as far as it was read (bytes, text or parsed).
        """
        reason = " ".join(reason.split())  # a field's name can be anything, newlines included
        reason = reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]} ..."
        if not self.skip:
            raise DataError(f"{path}:{line}: {reason}")
        self.note(path, line, reason, raw)

    def note(self, path: Path | str, line: int, reason: str, raw: Any = "") -> None:
        """List what is left out, whether or not bad lines are skipped."""
        row = {"file": str(path), "line": line, "reason": reason, "excerpt": excerpt(raw)}
        self.rows.append({key: plain_text(value) if isinstance(value, str) else value for key, value in row.items()})


def excerpt(raw: Any) -> str:
    """The first characters of a rejected line or record, on one line."""
    if isinstance(raw, Mapping):
        raw = ", ".join(f"{key}: {excerpt(value)}" for key, value in list(raw.items())[:8])
    elif isinstance(raw, list):
        raw = f"[{', '.join(excerpt(value) for value in raw[:2])}{', ...' if len(raw) > 2 else ''}]"
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
    return " ".join(text[: LONGEST_EXCERPT + 1].split())[:LONGEST_EXCERPT]


def iso_date(value: Any) -> str:
    """`value` as an ISO 8601 date or UTC date-time that sorts as text. Raises ValueError.

    Accepts Y-M-D (padded or not), ISO date-times and Unix seconds or milliseconds.
    """
    text = str(value).strip()
    if _TIMESTAMP.fullmatch(text):
        from datetime import UTC

        seconds = int(text) / (1000 if len(text) > 11 else 1)
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    if _DATE.fullmatch(text):
        year, month, day = (int(part) for part in text.split("-"))
        return datetime(year, month, day).strftime("%Y-%m-%d").zfill(10)
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is not None:
        from datetime import UTC

        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return moment.isoformat(timespec="seconds")


def text_of(value: Any) -> str:
    """A field's value as text: strings as they are, numbers and booleans printed. Raises ValueError, TypeError."""
    if isinstance(value, bool) or value is None or isinstance(value, list | dict):
        raise TypeError(f"must be text or a number, not {_kind_of(value)}")
    text = value if isinstance(value, str) else repr(value) if isinstance(value, float) else str(value)
    if len(text) > LONGEST_FIELD:
        raise ValueError(f"is {len(text):,} characters long; at most {LONGEST_FIELD:,} are taken")
    return plain_text(text)


def plain_text(text: str) -> str:
    """Without what files and tokenizers refuse: lone surrogates (from \\ud800 escapes) and NUL, C's end of text."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "\ufffd")


def _kind_of(value: Any) -> str:
    return {bool: "true/false", type(None): "null", list: "a list", dict: "an object"}[type(value)]


def json_lines(path: Path, rejects: Rejects) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of every line but trailing blank ones. Raises DataError for an unreadable or empty file."""
    empty, blank = True, 0
    try:
        with open(path, "rb") as stream:
            for number, raw in enumerate(stream, 1):
                if not raw.strip():
                    blank = blank or number
                    continue
                if blank:  # only trailing blank lines are nothing; one in the middle may be lost data
                    rejects.add(path, blank, "the line is empty; remove it")
                    blank = 0
                empty = False
                try:
                    value = json.loads(raw.decode("utf-8-sig" if number == 1 else "utf-8"))
                except UnicodeDecodeError:
                    rejects.add(path, number, "not UTF-8; save the file as UTF-8", raw)
                    continue
                except json.JSONDecodeError as error:
                    rejects.add(path, number, f"not JSON ({error.msg} at column {error.colno}); one object a line", raw)
                    continue
                except (RecursionError, ValueError):
                    rejects.add(path, number, "nested too deep or a number too long; one flat object a line", raw)
                    continue
                if not isinstance(value, dict):
                    rejects.add(
                        path, number, 'must be an object like {"user_id": ..., "input": ..., "output": ...}', raw
                    )
                    continue
                yield number, value
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path in the recipe") from None
    if empty:
        raise DataError(f"{path}: the file is empty; give one JSON object a line with user_id, input and output")


def items_of_rows(
    rows: Iterator[tuple[int, Mapping[str, Any]]], path: Path, task: Task, names: Mapping[str, str], rejects: Rejects
) -> list[Item]:
    """Items of numbered mappings, checked: fields there and text, labels known, dates parse, ids unique per user.

    Dates are all or nothing: a file with some undated lines is refused, since a time split could not place them.
    """
    items: list[Item] = []
    ids: set[tuple[str, str]] = set()
    first_dated: bool | None = None
    labels = set(task.labels)
    for number, row in rows:
        try:
            values = {ours: _field(row, ours, names, task) for ours in ("user_id", "input", "output")}
            extra = {ours: _field(row, ours, names, required=False) for ours in ("id", "date", "work")}
            date = None if extra["date"] == "" else _date(extra["date"], names)
            if labels and task.kind is not Kind.TEXT and values["output"].strip() not in labels:
                known = ", ".join(task.labels)
                raise ValueError(f"output {values['output'][:40]!r} is no label of task {task.name} ({known})")
            if extra["id"] and (values["user_id"], extra["id"]) in ids:
                raise ValueError(f"id {extra['id'][:40]!r} stands twice for this user; ids must be unique")
            if first_dated is None:
                first_dated = date is not None
            if (date is not None) != first_dated:
                raise ValueError("some lines have a date and some have none; give all or none a date")
        except ValueError as error:
            rejects.add(path, number, str(error), row)
            continue
        ids.add((values["user_id"], extra["id"]))
        output = values["output"].strip()
        question = question_fields(task, row, values["input"])
        fields = {**question, task.output_name: output}
        items.append(
            Item(values["user_id"], values["input"], output, fields, question, date, extra["id"], extra["work"])
        )
    return items


def question_fields(task: Task, row: Mapping[str, Any], text: str) -> dict[str, str]:
    """What the question template sees: the text under its field's name, other input fields of the row, and what the
    card's `input_pattern` takes out of an official input text."""
    fields = {task.input_name: text}
    for name in task.input_fields:
        if name not in (task.input_name, task.output_name) and isinstance(row.get(name), str):
            fields[name] = text_of(row[name])
    return fields | pattern_fields(task, text)


def pattern_fields(task: Task, text: str) -> dict[str, str]:
    """The named groups of the card's `input_pattern` in `text`; empty where there is none or it does not match."""
    found = re.search(task.input_pattern, text) if task.input_pattern else None
    return {name: value for name, value in found.groupdict().items() if value is not None} if found else {}


def _field(
    row: Mapping[str, Any], ours: str, names: Mapping[str, str], task: Task | None = None, required: bool = True
) -> str:
    key = names.get(ours, ours)
    if task is not None and ours not in names and ours not in row:
        key = {"input": task.input_name, "output": task.output_name}.get(ours, ours)
        key = key if key in row else ours
    if row.get(key) is None or (isinstance(row[key], str) and not row[key].strip()):
        if not required:
            return ""
        found = ", ".join(str(name) for name in list(row)[:8])
        state = "is empty" if key in row else f"is missing (found: {found})"
        raise ValueError(
            f"field {key!r} {state}; every line needs user_id, input and output (or map names by `fields`)"
        )
    try:
        return text_of(row[key])
    except (TypeError, ValueError) as error:
        raise ValueError(f"field {key!r} {error}") from None


def _date(text: str, names: Mapping[str, str]) -> str:
    try:
        return iso_date(text)
    except (ValueError, OverflowError, OSError):
        raise ValueError(
            f"field {names.get('date', 'date')!r}: {text[:40]!r} is no date; write 2024-05-31 or 2024-05-31T18:00"
        ) from None

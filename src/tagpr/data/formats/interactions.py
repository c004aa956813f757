"""Rows of single interactions as items: user_id, input, output and, if known, date, id and work."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tagpr.data.dates import iso_date
from tagpr.data.formats.jsonl import Row
from tagpr.data.mapping import propose_fields
from tagpr.data.rejects import Rejects
from tagpr.data.split import Item
from tagpr.data.values import absent, id_of, label_of, named, text_of
from tagpr.errors import DataError
from tagpr.on_disk import Spool
from tagpr.tasks import Kind, Task

_REQUIRED = ("user_id", "input", "output")
_FIRST = 50
"""Rows that are read to propose which column is which."""


class _Missing(ValueError):
    """A row has no such field at all."""

    def __init__(self, key: str, row: Mapping[str, object]) -> None:
        self.key = key
        super().__init__(
            f"field {key!r} is missing (found: {named(row)}); every line needs user_id, input and output "
            "(or map names by `fields`)"
        )


@dataclass
class _Seen:
    """What the rows had so far."""

    rows: int = 0
    keys: set[str] = field(default_factory=set)
    missing: Counter[str] = field(default_factory=Counter)
    first: list[Mapping[str, object]] = field(default_factory=list)

    def add(self, row: Mapping[str, object]) -> None:
        self.rows += 1
        self.keys.update(row)
        if len(self.first) < _FIRST:
            self.first.append(row)


def items_of_rows(
    rows: Iterable[Row], path: Path, task: Task, names: Mapping[str, str], rejects: Rejects
) -> Sequence[Item]:
    """Items of numbered rows, checked: fields there and text, labels known, dates parse, ids unique per user.

    They are kept in a temporary file.
    Either all items have a date or none: the fewer of the two kinds are rejected, since a split by time cannot place
    them. Raises DataError if a field is on no row at all, naming the columns that could be meant.
    """
    items: Spool[Item] = Spool()
    ids: set[tuple[str, str]] = set()
    seen = _Seen()
    for line, row in rows:
        seen.add(row)
        try:
            item = _item(line, row, task, names)
            if item.id and (item.user_id, item.id) in ids:
                raise ValueError(f"duplicate id {item.id[:40]!r} for this user; ids must be unique")
        except ValueError as error:
            if isinstance(error, _Missing):
                seen.missing[error.key] += 1
                hint = propose_fields(seen.first, task, names).hint if not rejects.skip else ""
                rejects.add(path, line, f"{error}{hint}", row)
            else:
                rejects.add(path, line, str(error), row)
            continue
        if item.id:
            ids.add((item.user_id, item.id))
        items.add(item)
    _need_fields(path, seen, task, names)
    return _dated_alike(items.rows(), path, rejects)


def _item(line: int, row: Mapping[str, object], task: Task, names: Mapping[str, str]) -> Item:
    """One row. Raises ValueError."""
    user_id, text, output = (_text(row, ours, names, task) for ours in _REQUIRED)
    others = set(names.values())  # a column that is another field is not its own name's as well
    extra = {ours: "" if ours in others - {names.get(ours)} else _text(row, ours, names) for ours in ("id", "work")}
    output = output.strip()
    if task.labels and task.kind is not Kind.TEXT:
        output = label_of(output, task.labels)
        if output not in task.labels:
            known = ", ".join(task.labels)
            raise ValueError(f"output {output[:40]!r} is no label of task {task.name} ({known})")
    question = _question(task, row, text)
    fields = {**question, task.output_name: output}
    return Item(user_id, text, output, fields, question, _date(row, names), extra["id"], extra["work"], line)


def _question(task: Task, row: Mapping[str, object], text: str) -> dict[str, str]:
    """What the question template sees: the text under its field's name, other input fields of the row, and what the
    card's `input_pattern` takes out of an official input text.
    """
    fields = {task.input_name: text}
    for name in task.input_fields:
        value = row.get(name)
        if name not in (task.input_name, task.output_name) and isinstance(value, str):
            fields[name] = text_of(value)
    return fields | pattern_fields(task, text)


def pattern_fields(task: Task, text: str) -> dict[str, str]:
    """The named groups of the card's `input_pattern` in `text`; empty if it has none or it does not match."""
    found = re.search(task.input_pattern, text) if task.input_pattern else None
    return {name: value for name, value in found.groupdict().items() if value is not None} if found else {}


def _text(row: Mapping[str, object], ours: str, names: Mapping[str, str], task: Task | None = None) -> str:
    """A field's text; without `task` the field is optional and "" if it is absent."""
    key = names.get(ours, ours)
    if task is not None and ours not in names and ours not in row:
        key = {"input": task.input_name, "output": task.output_name}.get(ours, ours)
        key = key if key in row else ours
    value = row.get(key)
    if absent(value):
        if task is None:
            return ""
        if key not in row:
            raise _Missing(key, row)
        what = "empty (NaN)" if isinstance(value, float) else "empty"
        raise ValueError(f"field {key!r} is {what}; every line needs user_id, input and output")
    try:
        return id_of(value) if ours in ("user_id", "id", "work") else text_of(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"field {key!r} {error}") from None


def _date(row: Mapping[str, object], names: Mapping[str, str]) -> str | None:
    key = names.get("date", "date")
    value = row.get(key)
    if absent(value):
        return None
    try:
        text_of(value)
        return iso_date(value)
    except (TypeError, ValueError, OverflowError, OSError):
        raise ValueError(
            f"field {key!r}: {str(value)[:40]!r} is no date; write 2024-05-31 or 2024-05-31T18:00"
        ) from None


def _need_fields(path: Path, seen: _Seen, task: Task, names: Mapping[str, str]) -> None:
    """Raises DataError for a field that no row has: one line instead of one per row."""
    if not seen.rows:
        return
    for ours, theirs in names.items():
        if theirs not in seen.keys:
            found = named(sorted(map(str, seen.keys)))
            raise DataError(f"{path}: `fields` maps {ours} to {theirs[:40]!r}, which no line has (found: {found})")
    if any(count == seen.rows for count in seen.missing.values()):
        known = {"input": task.input_name, "output": task.output_name}
        nowhere = [o for o in _REQUIRED if not {o, names.get(o), known.get(o)} & seen.keys]
        fields = " or ".join(map(repr, nowhere))
        hint = propose_fields(seen.first, task, names).hint
        raise DataError(
            f"{path}: no line has a field {fields} (found: {named(seen.first[0])}){hint}; "
            f"`tagpr new {path}` writes a recipe that maps them"
        )


def _dated_alike(items: Sequence[Item], path: Path, rejects: Rejects) -> Sequence[Item]:
    dated = sum(item.date is not None for item in items)
    if dated in (0, len(items)):
        return items
    keep_dated = 2 * dated >= len(items)
    count, rest = (dated, "dates") if keep_dated else (len(items) - dated, "no dates")
    reason = f"some lines have a date and some have none; give all or none a date ({count} of {len(items)} have {rest})"
    kept: Spool[Item] = Spool()
    for item in items:
        if (item.date is not None) == keep_dated:
            kept.add(item)
        else:
            rejects.add(path, item.line, reason, {"user_id": item.user_id, "input": item.input, "date": item.date})
    return kept.rows()

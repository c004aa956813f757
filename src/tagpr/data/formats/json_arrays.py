"""Records of JSON files that are one list (LaMP, PGraphRAG): each with the line where it starts, so errors name it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tagpr.data.formats.jsonl import Rejects, json_lines, text_of
from tagpr.errors import DataError
from tagpr.tasks import Interaction

MOST_ITEMS = 1_000_000
"""Profile entries of one record; more is a damaged file."""


def json_records(path: Path, rejects: Rejects) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, object) of every element of the list in `path`; a file of one object a line gives its lines."""
    if path.suffix == ".jsonl":
        yield from json_lines(path, rejects)
        return
    text = read_utf8(path)
    decoder = json.JSONDecoder()
    position = _skip(text, 0)
    if position >= len(text):
        raise DataError(f"{path}: the file is empty")
    if text[position] == "{":  # many a .json file is JSONL
        yield from json_lines(path, rejects)
        return
    if text[position] != "[":
        raise DataError(f"{path}:1: must be a JSON list of records, or one object a line")
    position, line, counted = _skip(text, position + 1), 1, 0
    while position < len(text) and text[position] != "]":
        line += text.count("\n", counted, position)
        counted = position
        try:
            value, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            # Nothing after a broken record can be trusted to start where it seems to.
            rejects.add(
                path, error.lineno, f"not JSON ({error.msg}); the file may be cut off", text[position : position + 300]
            )
            return
        except (RecursionError, ValueError):
            rejects.add(path, line, "nested too deep or a number too long", text[position : position + 300])
            return
        if isinstance(value, dict):
            yield line, value
        else:
            rejects.add(path, line, "must be an object with id, input and profile", value)
        position = _skip(text, position)
        if position < len(text) and text[position] == ",":
            position = _skip(text, position + 1)
        elif position >= len(text) or text[position] != "]":
            rejects.add(path, line, "a ',' or ']' is missing after this record; the file may be cut off")
            return
    if position >= len(text):
        rejects.add(path, line, "the list is not closed; the file may be cut off")


def read_utf8(path: Path) -> str:
    """The text of a file. Raises DataError."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path in the recipe") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from None


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def record_text(record: dict[str, Any], key: str) -> str:
    """A required text of a record. Raises ValueError."""
    if record.get(key) is None:
        raise ValueError(f"field {key!r} is missing (found: {', '.join(list(map(str, record))[:8])})")
    try:
        text = text_of(record[key])
    except (TypeError, ValueError) as error:
        raise ValueError(f"field {key!r} {error}") from None
    if not text.strip():
        raise ValueError(f"field {key!r} is empty")
    return text


def profile_of(record: dict[str, Any], needed: tuple[str, ...]) -> list[dict[str, Any]]:
    """The list under `profile`, every entry an object with the needed fields. Raises ValueError."""
    profile = record.get("profile")
    if not isinstance(profile, list):
        raise ValueError("field 'profile' must be a list of past items")
    if len(profile) > MOST_ITEMS:
        raise ValueError(f"field 'profile' has {len(profile):,} items; at most {MOST_ITEMS:,} are taken")
    for position, entry in enumerate(profile):
        if not isinstance(entry, dict):
            raise ValueError(f"profile item {position} must be an object")
        for name in needed:
            if entry.get(name) is None:
                raise ValueError(f"profile item {position}: field {name!r} is missing")
    return profile


def interaction(entry: dict[str, Any], position: int, id_key: str, date: str | None) -> Interaction:
    """One profile entry as an Interaction: its scalar fields as text."""
    fields = {}
    for key, value in entry.items():
        if key in (id_key, "date") or value is None or isinstance(value, list | dict):
            continue
        try:
            fields[str(key)] = text_of(int(value) if isinstance(value, float) and value.is_integer() else value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"profile item {position}: field {key!r} {error}") from None
    identifier = entry.get(id_key)
    return Interaction(str(position if identifier in (None, "") else identifier), fields, date)

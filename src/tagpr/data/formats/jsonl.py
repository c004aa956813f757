"""Rows of JSON Lines: one object per line, each with its line number."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from tagpr.data.formats.text import open_text, undecodable
from tagpr.data.rejects import Rejects
from tagpr.errors import DataError

Row: TypeAlias = tuple[int, Mapping[str, object]]
"""(line, from 1; the record's fields)."""


class RepeatedKey(ValueError):
    """An object has a duplicate key; JSON would silently keep the last."""


def one_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """`object_pairs_hook` for `json`: the object. Raises RepeatedKey."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        duplicate = next(name for name in names if names.count(name) > 1)
        raise RepeatedKey(f"duplicate key {duplicate[:40]!r} in one object; rename or remove one")
    return found


def json_lines(path: Path, rejects: Rejects) -> Iterator[Row]:
    """The object of every line but trailing blank ones. Raises DataError for an unreadable or empty file."""
    empty, blank = True, 0
    with open_text(path) as stream:
        for number, raw in enumerate(stream, 1):
            if not raw.strip():
                blank = blank or number
                continue
            if blank:  # only trailing blank lines are nothing; one in the middle may be lost data
                rejects.add(path, blank, "the line is empty; remove it", record=False)
                blank = 0
            empty = False
            try:
                value = _value(raw)
            except ValueError as error:
                rejects.add(path, number, str(error), raw)
                continue
            if isinstance(value, dict):
                yield number, value
            else:
                rejects.add(path, number, 'must be an object like {"user_id": ..., "input": ..., "output": ...}', raw)
    if empty:
        raise DataError(f"{path}: the file is empty; give one JSON object per line with user_id, input and output")


def _value(raw: str) -> object:
    if column := undecodable(raw):
        raise ValueError(f"not UTF-8 at column {column}; save the file as UTF-8")
    try:
        return json.loads(raw, object_pairs_hook=one_object)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"not JSON ({error.msg.removesuffix(' at')} at column {error.colno}); one object per line"
        ) from None
    except RepeatedKey:
        raise
    except (RecursionError, ValueError):
        raise ValueError("nested too deep or a number too long; one flat object per line") from None

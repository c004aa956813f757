"""Rows of a JSON file that is one list (LaMP, PGraphRAG, pandas' records) or pretty-printed objects one after another:
each with the line where it starts, so errors name it. A record that is not JSON goes alone (`json_recovery`).
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from tagpr.data.formats.json_recovery import RecordShape, after_broken, next_start
from tagpr.data.formats.jsonl import RepeatedKey, Row, one_object
from tagpr.data.formats.text import open_text, undecodable
from tagpr.data.rejects import Rejects
from tagpr.data.values import named
from tagpr.errors import DataError

MOST_BROKEN = 200
"""So many broken records in a row, and the file is something else."""
REST = "nothing after it is read"
"""Ends a complaint after which the rest of the file is not read."""


def json_records(path: Path, rejects: Rejects) -> Iterator[Row]:
    """Every object of the list, or of the sequence of objects, in `path`. Raises DataError if it is neither."""
    with open_text(path) as stream:
        text = stream.read()
    position = _skip(text, 0)
    if position >= len(text):
        raise DataError(f"{path}: the file is empty")
    if text[position] not in "[{":
        raise DataError(f"{path}:1: must be a JSON list of records, or one object per line")
    records = _Records(path, text, position, rejects)
    yield from records.of_list() if text[position] == "[" else records.of_sequence()


def read_text(path: Path) -> str:
    """The whole text of a file. Raises DataError."""
    with open_text(path) as stream:
        text = stream.read()
    if column := undecodable(text):
        line = text.count("\n", 0, column) + 1
        raise DataError(f"{path}:{line}: not UTF-8; save the file as UTF-8")
    return text


class _Records:
    """Decodes one value after another and knows the line of each."""

    def __init__(self, path: Path, text: str, position: int, rejects: Rejects) -> None:
        self.path, self.text, self.position, self.rejects = path, text, position, rejects
        self.line, self._counted = 1, 0
        self._read = self._broken = 0  # sound records so far, and broken ones since the last of them
        self._shape = RecordShape()
        self._lost = False  # no place after here is sure to start a record
        self._decoder = json.JSONDecoder(object_pairs_hook=one_object)

    def of_list(self) -> Iterator[Row]:
        self.position, empty = _skip(self.text, self.position + 1), True
        self._commas(0)
        while not self._at_end() and not self._lost:
            if self.text[self.position] == "]":
                self.position = _skip(self.text, self.position + 1)
                if self._at_end() and empty:
                    raise DataError(f"{self.path}: the list is empty; give one object per interaction")
                if self._at_end():
                    return
                self._resume("the list ends before this")
                continue
            empty = False
            yield from self._record()
            follows = "]{" if self._broken else "]"  # a broken record's end is not looked for beyond the next one
            if (
                not self._lost
                and not self._commas(1)
                and not self._at_end()
                and self.text[self.position] not in follows
            ):
                self._resume("a ',' or ']' is missing after this record")
        if not self._lost:
            self._refuse("the list is not closed; the file may be cut off", record=False)

    def of_sequence(self) -> Iterator[Row]:
        first = True
        while not self._at_end() and not self._lost:
            for row in self._record():
                if first and self._at_end():
                    _need_record(self.path, row[1])
                yield row
            first = False
            if not self._lost and not self._commas(1) and not self._at_end() and self.text[self.position] != "{":
                self._resume("this is no record")

    def _record(self) -> Iterator[Row]:
        """The value at `position`, if it is a record; `position` moves behind it."""
        self._count_lines()
        start = self.position
        try:
            value, end = self._decoder.raw_decode(self.text, start)
        except RepeatedKey as error:
            self._give_up(str(error))
            return
        except json.JSONDecodeError as error:
            self._give_up(f"not JSON ({error.msg.removesuffix(' at')} at line {error.lineno}, column {error.colno})")
            return
        except (RecursionError, ValueError):
            self._give_up("nested too deep or a number too long")
            return
        self.position = _skip(self.text, end)
        if not isinstance(value, dict):
            self.rejects.add(self.path, self.line, "must be an object with named fields", value)
        elif undecodable(self.text[start:end]):
            self.rejects.add(self.path, self.line, "not UTF-8; save the file as UTF-8", self.text[start:end])
        else:
            self._shape = RecordShape.of(value)
            self._read, self._broken = self._read + 1, 0
            yield self.line, value

    def _give_up(self, reason: str) -> None:
        """Refuse the record at `position` and go on behind it, if its end can be told."""
        self._broken += 1
        at = after_broken(self.text, self.position, self._shape) if self._broken < MOST_BROKEN else None
        self._go_on(at, reason if at is not None else f"{reason}; the file may be cut off")

    def _resume(self, reason: str) -> None:
        """Refuse what stands between two records and go on at the next one."""
        self._count_lines()
        starts = self.text[self.position] == "{"
        self._go_on(
            self.position if starts else next_start(self.text, self.position, self._shape), reason, record=False
        )

    def _go_on(self, at: int | None, reason: str, *, record: bool = True) -> None:
        rest = f"; {REST} ({self._read} records before it were)" if at is None else ""
        self._refuse(f"{reason}{rest}", record=record)
        self._lost = at is None
        self.position = _skip(self.text, len(self.text) if at is None else at)

    def _commas(self, expected: int) -> int:
        """How many commas are here; `position` moves behind them. More than `expected` are noted."""
        count = 0
        while not self._at_end() and self.text[self.position] == ",":
            if count == expected:
                self._count_lines()
                self._refuse("a ',' too many: a record may be missing here", record=False)
            count += 1
            self.position = _skip(self.text, self.position + 1)
        return count

    def _count_lines(self) -> None:
        self.line += self.text.count("\n", self._counted, self.position)
        self._counted = self.position

    def _at_end(self) -> bool:
        return self.position >= len(self.text)

    def _refuse(self, reason: str, *, record: bool = True) -> None:
        raw = self.text[self.position : self.position + 300]
        self.rejects.add(self.path, self.line, reason, raw, record=record)


def _need_record(path: Path, value: Mapping[str, object]) -> None:
    """One object as the whole file is seldom a record. Raises DataError naming what it is instead."""
    lists = [key for key, part in value.items() if isinstance(part, list) and key != "profile"]
    rows = [key for key in lists if _objects(value[key])]
    if len(rows) == 1 or len(value) == len(lists) == 1:
        raise DataError(f"{path}:1: one object with a list under {(rows or lists)[0][:40]!r}; save the list itself")
    if rows:
        raise DataError(f"{path}:1: one object with lists of records ({named(rows)}); save them as one list")
    if len(value) > 1 and all(isinstance(part, dict | list) for part in value.values()):
        raise DataError(f"{path}:1: written by columns (pandas' default); save it with orient='records'")


def _objects(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(part, dict) for part in value)


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position

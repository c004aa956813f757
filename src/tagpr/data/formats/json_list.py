"""Rows of a JSON file that is one list (LaMP, PGraphRAG, pandas' records) or pretty-printed objects one after another:
each with the line where it starts, so errors name it.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from tagpr.data.formats.jsonl import RepeatedKey, Row, one_object
from tagpr.data.formats.text import open_text, undecodable
from tagpr.data.rejects import Rejects
from tagpr.errors import DataError

REST = "nothing after it is read"
"""Ends a complaint after which the rest of the file is not looked at."""


def json_records(path: Path, rejects: Rejects) -> Iterator[Row]:
    """Every object of the list, or of the sequence of objects, in `path`. Raises DataError if it is neither."""
    text = read_text(path)
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
        self._broken = False  # nothing after here is sure to start where it seems to
        self._decoder = json.JSONDecoder(object_pairs_hook=one_object)

    def of_list(self) -> Iterator[Row]:
        self.position, empty = _skip(self.text, self.position + 1), True
        while not self._at_end() and self.text[self.position] != "]":
            empty = False
            yield from self._record()
            if self._broken:
                return
            if not self._comma() and (self._at_end() or self.text[self.position] != "]"):
                self._refuse(
                    f"a ',' or ']' is missing after this record; the file may be cut off; {REST}", record=False
                )
                return
        if self._at_end():
            self._refuse(f"the list is not closed; the file may be cut off; {REST}", record=False)
            return
        end = self.position
        self.position = _skip(self.text, end + 1)
        if not self._at_end():
            self.line = self.text.count("\n", 0, self.position) + 1
            self._refuse(f"the list ends before this; {REST}", record=False)
        elif empty:
            raise DataError(f"{self.path}: the list is empty; give one object per interaction")

    def of_sequence(self) -> Iterator[Row]:
        first = True
        while not self._at_end() and not self._broken:
            for row in self._record():
                if first and self._at_end():
                    _need_record(self.path, row[1])
                yield row
            first = False
            self._comma()

    def _record(self) -> Iterator[Row]:
        """The value at `position`, if it is a record; `position` moves behind it."""
        self.line += self.text.count("\n", self._counted, self.position)
        self._counted = self.position
        try:
            value, end = self._decoder.raw_decode(self.text, self.position)
        except RepeatedKey as error:
            self._refuse(str(error))
            _, end = json.JSONDecoder().raw_decode(self.text, self.position)
            self.position = _skip(self.text, end)
            return
        except json.JSONDecodeError as error:
            self.line, self._broken = error.lineno, True
            self._refuse(f"not JSON ({error.msg}); the file may be cut off; {REST}")
            return
        except (RecursionError, ValueError):
            self._broken = True
            self._refuse(f"nested too deep or a number too long; {REST}")
            return
        self.position = _skip(self.text, end)
        if isinstance(value, dict):
            yield self.line, value
        else:
            self.rejects.add(self.path, self.line, "must be an object with named fields", value)

    def _comma(self) -> bool:
        """Whether there was a comma here; `position` moves behind it."""
        found = not self._at_end() and self.text[self.position] == ","
        if found:
            self.position = _skip(self.text, self.position + 1)
        return found

    def _at_end(self) -> bool:
        return self.position >= len(self.text)

    def _refuse(self, reason: str, *, record: bool = True) -> None:
        raw = self.text[self.position : self.position + 300]
        self.rejects.add(self.path, self.line, reason, raw, record=record)


def _need_record(path: Path, value: Mapping[str, object]) -> None:
    """One object as the whole file is seldom a record. Raises DataError naming what it is instead."""
    lists = [key for key, part in value.items() if isinstance(part, list) and key != "profile"]
    if len(value) == len(lists) == 1:
        raise DataError(f"{path}:1: one object with a list under {lists[0][:40]!r}; save the list itself")
    if len(value) > 1 and all(isinstance(part, dict | list) for part in value.values()):
        raise DataError(f"{path}:1: written by columns (pandas' default); save it with orient='records'")


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position

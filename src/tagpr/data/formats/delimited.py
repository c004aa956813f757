"""Rows of CSV and TSV files with a header line, numbered as an editor shows them."""

import csv
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from tagpr.data.formats.text import open_text, undecodable
from tagpr.data.rejects import Rejects
from tagpr.data.values import LONGEST_FIELD
from tagpr.errors import DataError

_DELIMITERS = ",;\t|"


def csv_rows(path: Path, rejects: Rejects, delimiter: str = "") -> Iterator[tuple[int, dict[str, str]]]:
    """Rows by column name; the delimiter is read off the header. Raises DataError for a file without header or rows.

    A quote that never closes costs its own line, not the rest of the file.
    """
    csv.field_size_limit(LONGEST_FIELD * 2)
    with open_text(path) as stream:
        lines = _Lines(stream)
        header = next(lines, "")
        if not header.strip():
            raise DataError(f"{path}: the file is empty; the first line must name the columns")
        if found := re.fullmatch(r"sep=(.)\s*", header):  # Excel's first line
            delimiter, header = found[1], next(lines, "")
            lines.taken.pop(0)
        mark = delimiter or max(_DELIMITERS, key=header.count)
        lines.give_back(0)
        records = _Records(lines, mark)
        names = _names(path, records)
        found = False
        for line, row in records.rows(len(names)):
            found = True
            if isinstance(row, str):
                rejects.add(path, line, row, records.raw)
            elif len(row) != len(names):
                fix = (
                    f"quote fields that hold {mark!r}"
                    if len(row) > len(names)
                    else f"put {mark!r} for fields that are empty, and quote a field with a line break"
                )
                reason = f"has {len(row)} columns, the header has {len(names)}; {fix}"
                rejects.add(path, line, reason, records.raw)
            elif any(undecodable(field) for field in row):
                rejects.add(path, line, "not UTF-8; save the file as UTF-8", records.raw)
            else:
                yield line, dict(zip(names, row, strict=True))
    if not found:
        raise DataError(f"{path}: has a header and no rows; give one row per interaction")


def _names(path: Path, records: "_Records") -> list[str]:
    try:
        names = [name.strip() for name in records.next()]
    except csv.Error as error:
        raise DataError(f"{path}:1: the header is not readable as CSV ({error}); correct its quotes") from None
    duplicate = next((name for i, name in enumerate(names) if name and name in names[:i]), None)
    if duplicate is not None:
        places = [str(i) for i, name in enumerate(names, 1) if name == duplicate]
        raise DataError(f"{path}:1: columns {' and '.join(places)} are both named {duplicate[:40]!r}; rename one")
    return names


class _Lines(Iterator[str]):
    """Lines of a file, of which those of the record just read can be given back."""

    def __init__(self, stream: Iterator[str]) -> None:
        self._stream, self._waiting = stream, deque[str]()
        self.taken: list[str] = []  # of the record just read
        self.number = 0  # of the last line taken

    def __next__(self) -> str:
        line = self._waiting.popleft() if self._waiting else next(self._stream)
        self.taken.append(line)
        self.number += 1
        return line

    def give_back(self, keep: int) -> None:
        """Put back all lines taken but the first `keep`."""
        self._waiting.extendleft(reversed(self.taken[keep:]))
        self.number -= len(self.taken) - keep
        del self.taken[keep:]


class _Records:
    """CSV records over `_Lines`, strict about quotes, and able to go on after a record that is not one."""

    def __init__(self, lines: _Lines, delimiter: str) -> None:
        self._lines, self._delimiter = lines, delimiter
        self._reader: Iterator[list[str]] = self._new_reader(lines)

    @property
    def raw(self) -> str:
        """The text of the record just read."""
        return "".join(self._lines.taken)

    def next(self) -> list[str]:
        """The next record. Raises csv.Error, StopIteration."""
        self._lines.taken.clear()
        return next(self._reader)

    def rows(self, width: int) -> Iterator[tuple[int, list[str] | str]]:
        """(first line, fields or what is wrong with them) of every record but blank lines."""
        while True:
            try:
                row = self.next()
                problem = self._swallowed(width)
            except StopIteration:
                return
            except csv.Error as error:
                row, problem = [], str(error)
            first = self._lines.number - len(self._lines.taken) + 1
            if problem:
                yield first, self._mended(problem, width)
            elif row:
                yield first, row

    def _mended(self, problem: str, width: int) -> list[str] | str:
        """After a record that failed: its first line read alone and loosely, or what is wrong; later lines go back."""
        self._lines.give_back(1)
        self._reader = self._new_reader(self._lines)
        line = self._lines.taken[0]
        if '\\"' in line and (escaped := self._with_escapes(line, width)):
            return escaped
        if line.count('"') % 2:
            return "a quote opens here and never closes; close it, or double the quotes inside a field"
        try:
            row = next(csv.reader([line], delimiter=self._delimiter))
        except csv.Error as error:
            return f"not readable as CSV ({error})"
        return row if len(row) == width else f"not readable as CSV ({problem}); double the quotes inside a field"

    def _with_escapes(self, line: str, width: int) -> list[str]:
        """The fields of a line whose inner quotes are escaped, not doubled (MySQL's way); [] if it is no such line."""
        try:
            row = next(csv.reader([line], delimiter=self._delimiter, doublequote=False, escapechar="\\", strict=True))
        except csv.Error:
            return []
        return row if len(row) == width else []

    def _swallowed(self, width: int) -> str:
        """Whether a field over several lines is rather an open quote: every line inside is a whole record by itself."""
        inside = self._lines.taken[1:-1]
        if len(inside) < 2 or width < 2:
            return ""
        try:
            widths = [len(next(self._new_reader(iter([line])), [])) for line in inside]
        except csv.Error:
            return ""
        return "a quote is open over whole records" if set(widths) == {width} else ""

    def _new_reader(self, lines: Iterator[str]) -> Iterator[list[str]]:
        return csv.reader(lines, delimiter=self._delimiter, strict=True)

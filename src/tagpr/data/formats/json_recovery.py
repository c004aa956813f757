"""Where reading goes on in a list of JSON records after one that is not JSON: a broken record costs itself alone.

Its end is where its brackets close. If they never do, or close over other records (a brace or a quote is missing), the
next record is the next object that begins with a key of its neighbours and has half of them. Nothing is repaired: a
record is read as it stands or refused.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},]', re.DOTALL)
_FIRST_KEY = re.compile(r'\{\s*("(?:[^"\\]|\\.)*")\s*:', re.DOTALL)
_TURNED_OUT = re.compile(r'"[\s:,\[\]{}]*[:,][\s:,\[\]{}]*"')
"""A text of nothing but JSON's marks: since a quote is missing, what stands between two texts is taken for one."""
_DEEPEST = 100
"""Brackets within brackets that a record may have."""
_PATIENCE = 4
"""Characters that are decoded in search of a start, per character that is left."""


@dataclass(frozen=True)
class RecordShape:
    """Which keys the records of a file have; none: not known yet."""

    keys: frozenset[str] = frozenset()

    @classmethod
    def of(cls, record: Mapping[str, object]) -> "RecordShape":
        """The shape of a sound record."""
        return cls(frozenset(record))

    def fits(self, value: object) -> bool:
        """Whether `value` is an object with at least half of the keys."""
        return isinstance(value, dict) and 2 * len(self.keys & value.keys()) >= len(self.keys)


def after_broken(text: str, position: int, shape: RecordShape) -> int | None:
    """Where reading goes on after the record at `position`, which is not JSON; None if no place is sure."""
    if not shape.keys and (own := _FIRST_KEY.match(text, position)):
        shape = RecordShape(frozenset([own[1][1:-1]]))
    end = _closing(text, position)
    for start, sound in _starts(text, position + 1, shape):
        if end is not None and start >= end:
            return end
        if sound or end is None:
            return start
    return end


def next_start(text: str, position: int, shape: RecordShape) -> int | None:
    """The first place from `position` on where a record begins, sound or not; None if there is none."""
    return next((start for start, _ in _starts(text, position, shape)), None)


def _closing(text: str, position: int) -> int | None:
    """Behind the value at `position`: where its brackets are closed, or before the next comma if it has none.

    If a brace is missing, at the next record. None if a quote is, so that brackets mean nothing, or they never close.
    """
    open_: list[str] = []
    comma = False  # whether the last mark was one
    for found in _STRUCTURE.finditer(text, position):
        mark = found[0]
        if mark[0] == '"':
            if _TURNED_OUT.fullmatch(mark):
                return None
        elif mark in "[{":
            if mark == "{" and comma and open_ and open_[-1] == "{":
                return found.start()  # an object where a key must stand: the next record
            open_.append(mark)
            if len(open_) > _DEEPEST:
                return None
        elif not open_:
            return found.start() if found.start() > position else None
        elif mark != ",":
            open_.pop()
            if not open_:
                return found.end()
        comma = mark == ","
    return None


def _starts(text: str, position: int, shape: RecordShape) -> Iterator[tuple[int, bool]]:
    """Objects that begin like a record: (place, whether it is sound). Sound ones of another shape are left out."""
    key = "|".join(map(re.escape, sorted(shape.keys))) or r'(?:[^"\\]|\\.)*'
    decoder, patience = json.JSONDecoder(), _PATIENCE * (len(text) - position)
    for found in re.compile(rf'\{{\s*"(?:{key})"\s*:').finditer(text, position):
        start = found.start()
        try:
            value, end = decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            cut = error.msg.startswith("Unterminated string")  # which is known only at the end of the text
            patience -= (len(text) if cut else error.pos) - start
            yield start, False
        except (RecursionError, ValueError):
            patience -= len(text)
            yield start, False
        else:
            patience -= end - start
            if shape.fits(value):
                yield start, True
        if patience < 0:
            return

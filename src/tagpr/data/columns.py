"""What the columns of a file hold: enough of each to tell users from texts, labels, numbers and dates."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from tagpr.data.dates import iso_date
from tagpr.data.values import absent, text_of

LOOKED_AT = 5000
"""Rows that are read to tell what a column holds."""
_MOST = 0.95
"""Share of a column's values that must be dates, or ids, for the column to be."""
_ID_LENGTH = 64
"""Longest user id that is guessed by its content."""


@dataclass(frozen=True)
class Column:
    """One column's values in the rows that were read, absent ones left out."""

    name: str
    values: tuple[object, ...]

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """The values as text; empty if one is a list, an object or true/false."""
        try:
            return tuple(text_of(value).strip() for value in self.values)
        except (TypeError, ValueError):
            return ()

    @property
    def nested(self) -> bool:
        """Whether a value is no text and no number."""
        return bool(self.values) and not self.texts

    @cached_property
    def distinct(self) -> int:
        """How many different values there are."""
        return len(set(self.texts))

    @property
    def constant(self) -> bool:
        """Whether there is nothing to choose from."""
        return self.distinct < 2

    @property
    def repeats(self) -> bool:
        """Whether a value stands twice, as a user's id must."""
        return self.distinct < len(self.texts)

    @cached_property
    def length(self) -> float:
        """Mean length of a value in characters."""
        return sum(map(len, self.texts)) / max(1, len(self.texts))

    @property
    def sentences(self) -> bool:
        """Whether its values are texts of several words."""
        return self.length >= 20 and sum(" " in text for text in self.texts) > len(self.texts) / 2

    @cached_property
    def whole_numbers(self) -> bool:
        """Whether every value is a whole number, `4.0` included."""
        return bool(self.texts) and all(_is_whole(text) for text in self.texts)

    @cached_property
    def dates(self) -> bool:
        """Whether its values read as dates; a few that do not are a damaged file's."""
        return bool(self.values) and sum(map(_is_date, self.values)) >= _MOST * len(self.values)

    @property
    def written_dates(self) -> bool:
        """Whether they are dates that no number could be mistaken for."""
        return self.dates and all("-" in text or ":" in text for text in self.texts)

    @cached_property
    def ids(self) -> bool:
        """Whether its values look like ids of users: without spaces, with digits, each of them twice on average."""
        if not self.texts or self.written_dates or 2 * self.distinct > len(self.texts) or self.constant:
            return False
        if max(map(len, self.texts)) > _ID_LENGTH or any(" " in text or "." in text for text in self.texts):
            return False
        digits = sum(any(letter.isdigit() for letter in text) for text in self.texts)
        return self.length >= 5 and digits >= _MOST * len(self.texts)

    @property
    def keys(self) -> bool:
        """Whether its values name rows or places and say nothing: all different and without a space, or addresses."""
        different = self.distinct == len(self.texts) > 20 and not any(" " in text for text in self.texts)
        return different or all(text.startswith(("http://", "https://")) for text in self.texts)


def survey(rows: Iterable[Mapping[str, object]]) -> list[Column]:
    """The columns of `rows`, in the order of their first appearance."""
    found: dict[str, list[object]] = {}
    for row in rows:
        for name, value in row.items():
            values = found.setdefault(name, [])
            if not absent(value):
                values.append(value)
    return [Column(name, tuple(values)) for name, values in found.items()]


def _is_date(value: object) -> bool:
    try:
        return bool(iso_date(value))
    except (ValueError, OverflowError, OSError):
        return False


def _is_whole(text: str) -> bool:
    try:
        return float(text).is_integer()
    except (ValueError, OverflowError):
        return False

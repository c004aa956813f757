"""Which kind of task a column of outputs makes: labels, ratings on a scale, or text."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from tagpr.errors import DataError
from tagpr.tasks.types import Kind

MOST_LABELS = 60
"""Different outputs from which on they are text, not labels."""
ROWS_PER_LABEL = 4
"""Rows that a label has on average, at least."""
LONGEST_LABEL = 40
"""Characters."""
WIDEST_SCALE = 20
"""Largest minus smallest rating."""


@dataclass(frozen=True)
class OutputKind:
    """The kind of task, and what it chooses from; text has no labels."""

    kind: Kind
    labels: tuple[str, ...] = ()


def kind_of(outputs: Mapping[str, int]) -> OutputKind:
    """The kind by how often each output stands in the file.

    Raises DataError if they are whole numbers too far apart for a scale, or all the same.
    """
    counts = Counter(outputs)
    rows = counts.total()
    if len(counts) < 2:
        raise DataError("every row has the same output, so there is nothing to learn; name another --output")
    wholes = [number for text in counts if (number := _whole(text)) is not None]
    if len(wholes) == len(counts):
        low, high = min(wholes), max(wholes)
        if high - low <= WIDEST_SCALE:
            return OutputKind(Kind.RATING, tuple(str(number) for number in range(low, high + 1)))
        raise DataError(
            f"the outputs are whole numbers from {low} to {high}; a rating's scale has at most {WIDEST_SCALE + 1} "
            "steps: write them as steps or as words, or name another --output"
        )
    few = len(counts) <= MOST_LABELS and len(counts) * ROWS_PER_LABEL <= rows
    if few and max(map(len, counts)) <= LONGEST_LABEL:
        return OutputKind(Kind.LABEL, tuple(sorted(counts)))
    return OutputKind(Kind.TEXT)


def _whole(text: str) -> int | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None

"""Fields that say `nan`, `None` or `null`: how programs write that nothing is there, which a reader takes for text."""

from collections.abc import Iterable
from dataclasses import dataclass

from tagpr.data.split import Item
from tagpr.tasks import Task

WORDS = frozenset({"nan", "none", "null", "nat", "<na>", "n/a", "#n/a", "undefined"})
"""In lower case. Users of that name are one user, who is nobody."""


@dataclass(frozen=True)
class MissingWord:
    """One such field."""

    line: int
    field: str
    value: str


class MissingCount:
    """Counts such fields of a task's items as they come."""

    def __init__(self, task: Task) -> None:
        self.task, self.count = task, 0
        self.first: MissingWord | None = None
        """The first of the file."""

    def add(self, items: Iterable[Item]) -> None:
        """Some more items."""
        for found in missing_words(items, self.task):
            self.count += 1
            if self.first is None or found.line < self.first.line:
                self.first = found


def missing_words(items: Iterable[Item], task: Task) -> list[MissingWord]:
    """The fields of items that are nothing but such a word, labels of the task apart."""
    return [
        MissingWord(item.line, field, value)
        for item in items
        for field, value in (("user_id", item.user_id), ("input", item.input), ("output", item.output))
        if len(value) <= 12 and value.strip().casefold() in WORDS and value not in task.labels
    ]

"""`Reader`: what turns a file into interactions or questions. One per format; a user's own is one more.

    class MyReader:
        name = "mine"
        says = "our export, one interaction per line"

        def guess(self, path):
            return 1.0 if path.suffix == ".mine" else 0.0

        def read(self, path, source):
            lines = path.read_text().splitlines()
            rows = ((n, dict(zip(("user_id", "input", "output"), line.split("|")))) for n, line in enumerate(lines, 1))
            return source.items(rows, path)

A recipe names it: `sources: [{task: ..., path: ..., format: my_reader.py:MyReader}]`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

from tagpr.data.formats.interactions import items_of_rows
from tagpr.data.formats.jsonl import Row
from tagpr.data.rejects import Rejects
from tagpr.data.settings import History
from tagpr.data.split import Item
from tagpr.tasks import Example, Task

Records: TypeAlias = Sequence[Item] | Sequence[Example]
"""Single interactions, which are split here; or questions that bring their histories along."""


@dataclass(frozen=True)
class Source:
    """What a reader is told besides the path."""

    task: Task
    rejects: Rejects = field(default_factory=Rejects)
    """Where a bad record goes: `rejects.add(path, line, reason, raw)` raises, or notes it under `on_error: skip`."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Our field name -> the file's."""
    history: History = "own"
    max_history: int = 500

    def items(self, rows: Iterable[Row], path: Path) -> Sequence[Item]:
        """Rows with user_id, input, output (date, id, work) as checked items; bad ones go to `rejects`."""
        return items_of_rows(rows, path, self.task, self.fields, self.rejects)


@runtime_checkable
class Reader(Protocol):
    """One format."""

    @property
    def name(self) -> str:
        """What a recipe's `format:` calls it."""
        ...

    @property
    def says(self) -> str:
        """What the format is, in a few words."""
        ...

    def guess(self, path: Path) -> float:
        """How sure the reader is that `path` is its own: 0 not at all, 1 without doubt."""
        ...

    def read(self, path: Path, source: Source) -> Records:
        """Everything in `path`; what is wrong goes to `source.rejects`. Raises DataError if it is no such file."""
        ...


@runtime_checkable
class ReadsMore(Protocol):
    """A reader that reads other files than `path` too."""

    def also_reads(self, path: Path) -> Sequence[Path]:
        """Those that are there: an edit of one makes the data stage again, as one of `path` does. Raises nothing."""
        ...

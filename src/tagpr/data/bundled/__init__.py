"""The bundled samples as items of the bundled tasks: the package index of Debian, and the wording of its changelogs.

The index has no dates: the order of a user's packages is a seeded shuffle made when the file was built. Change notes
are dated.
"""

import gzip
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from tagpr.data.formats.protocol import Source
from tagpr.data.split import Item
from tagpr.errors import DataError


@dataclass(frozen=True)
class _Shape:
    """Which fields of which file are the question and the answer of a task."""

    file: str
    given: str
    asked: str
    history: tuple[str, ...]  # fields that a history entry shows


_SHAPES = {
    "package-section": _Shape("debian.jsonl.gz", "synopsis", "section", ("synopsis", "section")),
    "package-synopsis": _Shape("debian.jsonl.gz", "description", "synopsis", ("description", "synopsis")),
    "package-changelog": _Shape("changelogs.jsonl.gz", "neutral", "note", ("note",)),
}


def bundled_items(task_name: str) -> list[Item]:
    """Items of one of the bundled tasks, in the file's order. Raises DataError for other tasks."""
    shape = _SHAPES.get(task_name)
    if shape is None:
        raise DataError(
            f"data.sources: task {task_name!r} has no bundled data (only {', '.join(_SHAPES)}); give its path"
        )
    packed = (resources.files("tagpr.data.bundled") / shape.file).read_bytes()
    items: list[Item] = []
    for line in gzip.decompress(packed).decode("utf-8").splitlines():
        user = json.loads(line)
        for position, item in enumerate(user["items"]):
            given, asked = item[shape.given], item[shape.asked]
            fields = {name: item[name] for name in shape.history}
            question = {shape.given: given}
            date = item.get("date")
            items.append(Item(user["user_id"], given, asked, fields, question, date, id=str(position)))
    return items


class BundledReader:
    """The sample that comes with the package, for a source without a path."""

    name = "bundled"
    says = "the bundled sample"

    def guess(self, path: Path) -> float:
        """Never: it is no file of a user's."""
        return 0.0

    def read(self, path: Path, source: Source) -> list[Item]:
        """The items of the card whose target the sample holds. Raises DataError for any other card."""
        task = source.task
        names = {(shape.given, shape.asked): name for name, shape in _SHAPES.items()}
        return bundled_items(names.get((task.input_name, task.output_name), task.name))

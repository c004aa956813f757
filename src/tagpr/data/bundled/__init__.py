"""The bundled sample: which maintainer files what where in the Debian archive, as items of the two package tasks.

The index has no dates: the order of a user's items is a seeded shuffle made when the file was built.
"""

import gzip
import json
from importlib import resources

from tagpr.data.split import Item
from tagpr.errors import DataError

_SHAPES = {"package-section": ("synopsis", "section"), "package-synopsis": ("description", "synopsis")}


def bundled_items(task_name: str) -> list[Item]:
    """Items of one of the two bundled tasks, in the file's order."""
    if task_name not in _SHAPES:
        raise DataError(
            f"data.sources: task {task_name!r} has no bundled data (only {', '.join(_SHAPES)}); give its path"
        )
    given, asked = _SHAPES[task_name]
    packed = (resources.files("tagpr.data.bundled") / "debian.jsonl.gz").read_bytes()
    items: list[Item] = []
    for line in gzip.decompress(packed).decode("utf-8").splitlines():
        user = json.loads(line)
        for position, item in enumerate(user["items"]):
            fields = {given: item[given], asked: item[asked]}
            items.append(
                Item(user["user_id"], item[given], item[asked], fields, {given: item[given]}, id=str(position))
            )
    return items

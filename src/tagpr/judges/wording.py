"""What judges are asked, from the templates in files, and what is read out of their replies."""

import re

from tagpr.clients.json_objects import json_objects
from tagpr.clients.types import Request
from tagpr.tasks.templates import packaged, unfenced


def worded(template: str, **values: object) -> Request:
    """A request of one user message from a template; texts cannot end the fence they stand in."""
    safe = {name: unfenced(value) if isinstance(value, str) else value for name, value in values.items()}
    return Request(({"role": "user", "content": packaged("tagpr.judges", template).render(**safe).strip()},))


def read_mark(reply: str, points: int, key: str = "score") -> int | None:
    """The whole number from 0 to `points` that a reply ends on: in the last JSON object that has `key`, in code fences
    or after prose, as number, digit in a string or "1/2"; else after the word itself. None if there is none.
    """
    for value in reversed(list(json_objects(reply))):
        if key in value:
            return _whole(value[key], points)
    found = re.findall(rf"\b{key}\b\W{{0,6}}(\d+(?:\.0+)?(?:\s*/\s*\d+)?)", reply, re.IGNORECASE)
    return _whole(found[-1], points) if found else None


def _whole(value: object, points: int) -> int | None:
    if isinstance(value, str):
        match = re.fullmatch(rf"\s*(\d{{1,3}})(?:\.0+)?\s*(?:/\s*{points})?\s*", value)
        value = int(match[1]) if match else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= points or value != int(value):
        return None
    return int(value)

"""What judges are asked, from the templates in files, and what is read out of their replies."""

import re
from functools import lru_cache
from importlib import resources

from jinja2 import Environment, StrictUndefined, Template

from tagpr.clients.json_objects import json_objects
from tagpr.clients.types import Request


@lru_cache
def _template(name: str) -> Template:
    source = (resources.files("tagpr.judges") / "templates" / f"{name}.jinja").read_text(encoding="utf-8")
    return Environment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined).from_string(source)


def worded(template: str, **values: object) -> Request:
    """A request of one user message from a template; texts cannot end the fence they stand in."""
    safe = {name: unfenced(value) if isinstance(value, str) else value for name, value in values.items()}
    return Request(({"role": "user", "content": _template(template).render(**safe).strip()},))


def unfenced(text: str) -> str:
    """`text` in which the marks that fence it off are taken apart."""
    return re.sub(r"<(?=<<)|>(?=>>)", lambda mark: mark[0] + " ", text)


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
        match = re.fullmatch(rf"\s*(\d+)(?:\.0+)?\s*(?:/\s*{points})?\s*", value)
        value = int(match[1]) if match else None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value) or not 0 <= value <= points:
        return None
    return int(value)

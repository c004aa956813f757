"""Requests to language models from our own Jinja prompts; what model text a chain's prompt quotes stays data."""

from functools import lru_cache
from importlib import resources

from jinja2 import Environment, StrictUndefined, Template

from tagpr.clients.types import Request


@lru_cache
def _template(name: str) -> Template:
    source = (resources.files("tagpr.chains") / "templates" / f"{name}.jinja").read_text(encoding="utf-8")
    return Environment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined).from_string(source)


def fill(name: str, **values: object) -> str:
    """The text of prompt `name`."""
    return _template(name).render(**values).strip()


def ask(text: str, sample: int = 0) -> Request:
    """A request of one user message."""
    return Request(({"role": "user", "content": text},), sample)

"""Requests to language models from our own Jinja prompts; what model text a chain's prompt quotes stays data."""

from tagpr.clients.types import Request
from tagpr.tasks.templates import packaged


def fill(name: str, **values: object) -> str:
    """The text of prompt `name`."""
    return packaged("tagpr.chains", name).render(**values).strip()


def ask(text: str, sample: int = 0) -> Request:
    """A request of one user message."""
    return Request(({"role": "user", "content": text},), sample)

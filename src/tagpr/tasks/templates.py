"""Rendering of the Jinja templates that cards and prompts hold: sandboxed, strict about unknown names.

One filter of our own: `lead(n)`, the first n words of a text (n characters if the script has no spaces).
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from typing import Literal

from jinja2 import StrictUndefined, Template, TemplateError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tagpr.errors import RecipeError
from tagpr.tasks.types import Task


def lead(text: str, words: int) -> str:
    """The first `words` words, ` ...` if something was cut; of text without spaces twice as many characters."""
    cut = text.split()
    if len(cut) > words:
        return " ".join(cut[:words]) + " ..."
    longest = words * 12  # longer than any such run of spaced words: Chinese, Japanese, Thai, or one endless token
    return text if len(text) <= longest else text[: words * 2] + " ..."


@lru_cache(maxsize=1024)
def template(source: str) -> Template:
    """A compiled template, kept."""
    return _environment().from_string(source)


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=False
    )
    environment.filters["lead"] = lead
    return environment


@lru_cache
def packaged(package: str, name: str) -> Template:
    """A prompt of our own, kept: `templates/NAME.jinja` of the package."""
    return template((resources.files(package) / "templates" / f"{name}.jinja").read_text(encoding="utf-8"))


def unfenced(text: str) -> str:
    """`text` in which the marks that fence texts off in our prompts are taken apart: it cannot end its own fence."""
    return re.sub(r"<(?=<<)|>(?=>>)", lambda mark: mark[0] + " ", text)


@lru_cache(maxsize=1024)
def names_in(source: str) -> tuple[str, ...]:
    """The names that a template reads, sorted. Raises RecipeError for one that does not parse."""
    try:
        return tuple(sorted(meta.find_undeclared_variables(_environment().parse(source))))
    except TemplateError as error:
        raise RecipeError(f"template {' '.join(source.split())[:60]!r}: {error}") from None


def render(source: str, values: Mapping[str, object]) -> str:
    """Render `source`. Raises RecipeError naming the template and what it misses or raises."""
    try:
        return template(source).render(values)
    except Exception as error:  # an expression is code: {{ input + 1 }} is a TypeError
        kind = "" if isinstance(error, TemplateError) else f"{type(error).__name__}: "
        short = " ".join(source.split())[:60]
        known = ", ".join(sorted(values))
        raise RecipeError(f"template {short!r}: {kind}{' '.join(str(error).split())}; it may use: {known}") from None


def render_card(task: Task, key: Literal["question", "entry", "query"], values: Mapping[str, object]) -> str:
    """Render a template of the task's card. Raises RecipeError naming the card and the key."""
    try:
        return render(getattr(task, key), values)
    except RecipeError as error:
        raise RecipeError(f"task card {task.name}, key {key}: {error}") from None

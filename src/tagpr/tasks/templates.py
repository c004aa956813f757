"""Rendering of the Jinja templates that cards and prompts hold: sandboxed, strict about unknown names.

One filter of our own: `lead(n)`, the first n words of a text (n characters if the script has no spaces).
"""

from collections.abc import Mapping
from functools import lru_cache

from jinja2 import StrictUndefined, Template, TemplateError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tagpr.errors import RecipeError


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


def names_in(source: str) -> list[str]:
    """The names that a template reads, sorted. Raises RecipeError for one that does not parse."""
    try:
        return sorted(meta.find_undeclared_variables(_environment().parse(source)))
    except TemplateError as error:
        raise RecipeError(f"template {' '.join(source.split())[:60]!r}: {error}") from None


def render(source: str, values: Mapping[str, object]) -> str:
    """Render `source`. Raises RecipeError naming the template and what it misses."""
    try:
        return template(source).render(values)
    except TemplateError as error:
        short = " ".join(source.split())[:60]
        known = ", ".join(sorted(values))
        raise RecipeError(f"template {short!r}: {' '.join(str(error).split())}; it may use: {known}") from None

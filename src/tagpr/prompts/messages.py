"""From an example and its sub-profile to chat messages, within a token budget.

The system message holds what is the same for every example of a task (so that a server can keep it), the user message
the history and the question. Over budget, the longest input field of the history is shortened first, again and again,
down to a few words; then a summary of it is cut, then the least relevant entries go; the question is shortened last. An
entry's output (its label) is never cut.
Not here: choosing the history (`tagpr.profiles`) and token ids (`ids.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from pathlib import Path

from tagpr.errors import RecipeError
from tagpr.prompts.cuts import QUESTION, Cuts, Seen, shortened
from tagpr.prompts.escape import escape, restore
from tagpr.prompts.lamp_prompts import official_prompt
from tagpr.prompts.settings import PromptSettings
from tagpr.tasks import Example, Interaction, Task
from tagpr.tasks.templates import names_in, render, render_card

_SHORTEST = 24  # characters to which a history field may be cut before whole entries are dropped


@dataclass(frozen=True)
class Prompt:
    """Chat messages, and the interactions p_u that the budget let in, best first."""

    messages: list[dict[str, str]]
    entries: tuple[Interaction, ...]
    """As the history has them, whole."""
    cuts: Cuts = field(default_factory=dict)
    """What the messages show of the texts that they cut, the question's among them."""

    @property
    def seen(self) -> Seen:
        """What the messages show, in names and numbers."""
        return Seen(tuple(entry.id for entry in self.entries), self.cuts)


def build_prompt(
    task: Task,
    example: Example,
    entries: Sequence[Interaction],
    settings: PromptSettings,
    count_tokens: Callable[[str], int],
    tags: Sequence[str],
    summary: str = "",
) -> Prompt:
    """The prompt of `example` with the history `entries` (best first).

    `count_tokens` counts the tokens of a text without special tokens; `tags` are the names of the vocabulary: without
    any, the prompt is for the answer alone. `summary` (of the history, already escaped) comes before it. Raises
    RecipeError if a template fails or the budget cannot even hold the instruction.
    """
    if settings.style == "official":
        return _official(task, example, entries, settings.max_prompt_tokens, count_tokens, summary)
    system_source, user_source = prompt_templates(settings.templates)
    system = render(system_source, {"task": task, "tags": list(tags)}).strip()
    # The tags' instruction is not counted: with and without tags a prompt shows the same history.
    room = settings.max_prompt_tokens - count_tokens(render(system_source, {"task": task, "tags": []}).strip())
    kept = list(entries)
    fields = [dict(entry.fields) for entry in kept]
    whole = {**example.fields, "input": example.input}
    question, asked_for = dict(whole), names_in(task.question)
    displayed = [name for name in question if name in asked_for] or list(question)

    def user_text() -> str:
        shown = [render_card(task, "entry", _inert(values)) for values in fields]
        values = _inert(question)
        asked = render_card(task, "question", values)
        values = {"task": task, "summary": summary, "entries": shown, "question": asked}
        return render(user_source, values).strip()

    user = user_text()
    # Each round removes at least the surplus it measured, in characters, so few rounds are needed.
    while (surplus := count_tokens(user) - room) > 0:
        if not _shorten_history(task, fields, surplus):
            if summary:
                summary = _cut(summary, max(0, len(summary) - surplus))
            elif kept:
                kept.pop()
                fields.pop()
            elif not _shorten_question(question, displayed, surplus):
                raise RecipeError(
                    f"prompt.max_prompt_tokens: {settings.max_prompt_tokens} cannot hold task {task.name}'s "
                    "instruction; raise it"
                )
        user = user_text()
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    cuts = _cuts_of(kept, fields)
    if shortened(whole, question):
        cuts[QUESTION] = {name: len(question[name]) for name in displayed}
    return Prompt(messages, tuple(kept), cuts)


def _official(
    task: Task,
    example: Example,
    entries: Sequence[Interaction],
    budget: int,
    count_tokens: Callable[[str], int],
    summary: str,
) -> Prompt:
    """The benchmark's own prompt: one message, a summary before it."""
    whole = [_inert(entry.fields) for entry in entries]
    room = budget - (count_tokens(summary) if summary else 0)
    text, cut = official_prompt(task.name, escape(example.input), whole, room, count_tokens)
    shown = [{name: restore(part) for name, part in parts.items()} for parts in cut]
    messages = [{"role": "user", "content": f"{summary}\n{text}" if summary else text}]
    return Prompt(messages, tuple(entries), _cuts_of(entries, shown))


def _cuts_of(entries: Sequence[Interaction], shown: Sequence[Mapping[str, str]]) -> dict[str, Mapping[str, int]]:
    """Which texts of past items are cut; shown: the fields of each as the prompt shows them."""
    return {
        entry.id: lengths
        for entry, fields in zip(entries, shown, strict=True)
        if (lengths := shortened(entry.fields, fields))
    }


def _inert(values: Mapping[str, str]) -> dict[str, str]:
    return {name: escape(value) for name, value in values.items()}


def _shorten_history(task: Task, fields: list[dict[str, str]], surplus: int) -> bool:
    """Cut the longest input field of the history towards the others' length; False if none is long enough."""
    places = [
        (len(values[name]), i, name) for i, values in enumerate(fields) for name in task.input_fields if name in values
    ]
    if not places:
        return False
    length, i, name = max(places)
    if length <= _SHORTEST:
        return False
    shorter = max(_SHORTEST, length - max(surplus, length // 4))
    fields[i][name] = _cut(fields[i][name], shorter)
    return True


def _shorten_question(question: dict[str, str], displayed: Sequence[str], surplus: int) -> bool:
    name = max(displayed, key=lambda key: len(question[key]))
    if len(question[name]) <= 1:
        return False
    question[name] = _cut(question[name], max(1, len(question[name]) - max(surplus, 1)))
    return True


def _cut(text: str, length: int) -> str:
    """At most `length` characters, at a space if one is near, always shorter than before."""
    short = text[:length]
    head, space, _ = short.rpartition(" ")
    return head if space and len(head) > length // 2 else short


@lru_cache(maxsize=16)
def prompt_templates(folder: Path | None) -> tuple[str, str]:
    """Sources of `system.jinja` and `user.jinja`, from `folder` or the bundled ones."""
    names = ("system.jinja", "user.jinja")
    if folder is None:
        base = resources.files("tagpr.prompts") / "templates"
        return tuple((base / name).read_text(encoding="utf-8") for name in names)  # type: ignore[return-value]
    try:
        return tuple((folder / name).read_text(encoding="utf-8") for name in names)  # type: ignore[return-value]
    except OSError as error:
        raise RecipeError(
            f"prompt.templates: {error.filename} cannot be read; give a folder with {' and '.join(names)}"
        ) from None

"""LaMP's own (non-chat) prompts, byte for byte: entries joined with `, and `, then the official input text.

Long fields are cut so that k entries share what the input leaves free; what one entry does not use, the next may. The
share is counted in the model's tokens through `count_tokens`; a field is cut at the longest prefix that fits. The
tagged chat prompt (`messages.py`) serves a chat model better; this one is for comparison with published baselines.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tagpr.errors import RecipeError


@dataclass(frozen=True)
class Form:
    """One task's official form: an entry is `before + cut field + after`; `ending` goes between entries and input."""

    field: str
    before: str
    after: str
    ending: str = ". "


FORMS: dict[str, Form] = {
    "lamp-1": Form("title", '"', '"', ""),
    "lamp-2": Form("description", 'the tag for the movie: "', '" is "{tag}" '),
    "lamp-3": Form("text", '{score} is the score for "', '" '),
    "lamp-4": Form("text", '"{title}" is the title for "', '" '),
    "lamp-5": Form("abstract", '"{title}" is a title for "', '" ', ". Following the given patterns "),
    "lamp-7": Form("text", '"', '" ', " are written by a person. Following the given patterns "),
}


def official_prompt(
    task_name: str,
    text: str,
    entries: Sequence[Mapping[str, str]],
    budget: int,
    count_tokens: Callable[[str], int],
) -> tuple[str, list[dict[str, str]]]:
    """The official prompt of `text` with history `entries` in `budget` tokens, and each entry's field as it was cut.

    Raises RecipeError for other tasks.
    """
    if task_name not in FORMS:
        known = ", ".join(FORMS)
        raise RecipeError(f"prompt.style: task {task_name} has no official LaMP prompt (only {known}); use tagged")
    if not entries:
        return text, []
    form = FORMS[task_name]
    share = (budget - count_tokens(text) - 2 * (len(entries) - 1)) // len(entries)
    saved = 0
    shown: list[str] = []
    fields: list[dict[str, str]] = []
    for entry in entries:
        before, after = _filled(form.before, entry), _filled(form.after, entry)
        room = share + saved - count_tokens(before + after)
        cut = fitting_prefix(entry[form.field], room, count_tokens)
        saved = room - count_tokens(cut)
        shown.append(before + cut + after)
        fields.append({form.field: cut})
    joined = ", and ".join(shown)
    if task_name == "lamp-1":  # the author's titles go behind the first word "title" of the input
        place = text.find("title") + len("title")
        return f"{text[:place]}, and {joined}{text[place:]}", fields
    return f"{joined}{form.ending}{text}", fields


def _filled(pattern: str, entry: Mapping[str, str]) -> str:
    for name in ("tag", "score", "title"):
        pattern = pattern.replace("{" + name + "}", entry.get(name, "")) if "{" + name + "}" in pattern else pattern
    return pattern


def fitting_prefix(text: str, room: int, count_tokens: Callable[[str], int]) -> str:
    """The longest prefix of `text` with at most `room` tokens (by bisection), cut at a word if one is near."""
    if room <= 0:
        return ""
    if count_tokens(text) <= room:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count_tokens(text[:middle]) <= room else (low, middle - 1)
    head, space, _ = text[:low].rpartition(" ")
    return head if space and len(head) > low // 2 else text[:low]

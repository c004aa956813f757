"""Duplicate interactions: one as a held-out question and its duplicate in the history, the answer is in the prompt.

Two interactions are the same if user, question and answer are, spaces around them aside and however their accents are
coded (NFC); ids and dates may differ.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from unicodedata import normalize

from tagpr.data.report import Leaks
from tagpr.data.split import Item
from tagpr.tasks import Example, Interaction, Kind, Task


@dataclass(frozen=True)
class Repeat:
    """An item that repeats an earlier one of the same user."""

    item: Item
    first: Item


def drop_duplicates(items: Iterable[Item]) -> tuple[list[Item], list[Repeat]]:
    """(items without exact repeats, the repeats); the first of the file stays."""
    seen: dict[tuple[str, str, tuple[tuple[str, str], ...], str], Item] = {}
    kept: list[Item] = []
    repeats: list[Repeat] = []
    for item in items:
        question = tuple(sorted((name, _plain(value)) for name, value in item.question.items()))
        key = item.user_id, _plain(item.input), question, _plain(item.output)
        first = seen.setdefault(key, item)
        if first is item:
            kept.append(item)
        else:
            repeats.append(Repeat(item, first))
    return kept, repeats


def without_leaks(
    task: Task, train: Sequence[Example], heldout: Sequence[Example], others: Sequence[Example] = ()
) -> tuple[list[Example], list[Example], Leaks]:
    """(train, heldout, what was taken out): no answer to a held-out question is in any history or training target
    of that user, and no example's own answer in its history. `others`: held-out questions of other sources.
    """
    seen = {_key(example) for example in (*heldout, *others)}
    kept = [example for example in train if _key(example) not in seen]
    asked: dict[str, dict[str, list[Example]]] = {}
    for example in (*heldout, *others):
        asked.setdefault(example.user_id, {}).setdefault(_plain(example.target or ""), []).append(example)
    cleaned: list[list[Example]] = []
    removed = 0
    for part in (kept, heldout):
        rows = []
        for example in part:
            held = asked.get(example.user_id, {})
            profile = tuple(item for item in example.profile if not _tells(task, item, example, held))
            removed += len(example.profile) - len(profile)
            rows.append(example if len(profile) == len(example.profile) else replace(example, profile=profile))
        cleaned.append(rows)
    return cleaned[0], cleaned[1], Leaks(len(train) - len(kept), removed)


def _key(example: Example) -> tuple[str, str, str]:
    return example.user_id, _plain(example.input), _plain(example.target or "")


def _plain(text: str) -> str:
    """A text as it is compared."""
    return (text if text.isascii() else normalize("NFC", text)).strip()


def _tells(task: Task, item: Interaction, example: Example, held: Mapping[str, Sequence[Example]]) -> bool:
    """Whether a history item is the example itself or one of the user's held-out questions, answer included."""
    answer = _plain(item.fields.get(task.output_name, ""))
    if not answer:
        return False
    return any(_asks(task, item, other) for other in _of_answer(answer, example, held))


def _of_answer(answer: str, example: Example, held: Mapping[str, Sequence[Example]]) -> Iterator[Example]:
    if example.target is not None and _plain(example.target) == answer:
        yield example
    yield from held.get(answer, ())


def _asks(task: Task, item: Interaction, example: Example) -> bool:
    """Whether the item's question is the example's. Official input texts wrap it in words; if a history item has no
    question (tweets), a free text that equals the answer is the same item.
    """
    question = _plain(item.fields.get(task.input_name, ""))
    if not question:
        return task.kind is Kind.TEXT
    own = {name: value for name, value in example.fields.items() if name in item.fields and name != task.output_name}
    if task.input_name in own and _plain(own[task.input_name]) == question:
        return all(_plain(item.fields[name]) == _plain(value) for name, value in own.items())
    return task.input_pattern is None and task.input_name in own and f'"{question}"' in _plain(example.input)

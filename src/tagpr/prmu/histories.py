"""Users' past items in token ids: what a profile-encoded reward model reads of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tagpr.prmu.human_pairs import human_histories
from tagpr.prmu.settings import PRMUSettings
from tagpr.prompts.escape import escape
from tagpr.tasks.templates import render_card
from tagpr.tasks.types import Example, Interaction, Task

if TYPE_CHECKING:
    from tagpr.prompts.prompt_builder import PromptBuilder


def histories_of(
    tasks: Mapping[str, Task], train: Mapping[str, Sequence[Example]], prompts: PromptBuilder
) -> dict[str, list[tuple[int, ...]]]:
    """Token ids of every user's past items, worded as in the prompts."""
    histories: dict[str, dict[str, tuple[int, ...]]] = {}
    for name in sorted(train):
        for example in train[name]:
            known = histories.setdefault(example.user_id, {})
            fresh = [item for item in example.profile if item.id not in known]
            known.update(zip((item.id for item in fresh), items_of(tasks[name], fresh, prompts), strict=True))
    return {user: list(items.values()) for user, items in histories.items()}


def user_histories(
    tasks: Mapping[str, Task], train: Mapping[str, Sequence[Example]], prompts: PromptBuilder, settings: PRMUSettings
) -> dict[str, list[tuple[int, ...]]] | None:
    """Past items of the examples' users and of those of human pairs, for profile-encoded; None otherwise."""
    if settings.user_option != "profile-encoded":
        return None
    of_pairs = human_histories(settings.pairs, prompts.tokenizer) if settings.pairs is not None else {}
    return histories_of(tasks, train, prompts) | of_pairs


def items_of(task: Task, interactions: Sequence[Interaction], prompts: PromptBuilder) -> tuple[tuple[int, ...], ...]:
    """Token ids of past items, worded as in the prompts."""
    fields = ({key: escape(value) for key, value in item.fields.items()} for item in interactions)
    worded = (render_card(task, "entry", values) for values in fields)
    return tuple(tuple(token_ids(prompts, text)) for text in worded)


def token_ids(prompts: PromptBuilder, text: str) -> list[int]:
    """A text in token ids, no special ones added."""
    return list(prompts.tokenizer(text, add_special_tokens=False)["input_ids"])

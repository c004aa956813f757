"""`Question`: an example with the history that is shown for it and its prompt in tokens; also with a changed history.

Which items are shown is `tagpr.profiles`' choice and how they are worded `tagpr.prompts`'; here only whose they are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tagpr.chains.vocabulary import Vocabulary
from tagpr.errors import DataError
from tagpr.profiles import choose
from tagpr.profiles.settings import ProfileSettings
from tagpr.prompts import build_prompt, prompt_ids
from tagpr.prompts.settings import PromptSettings
from tagpr.tasks.types import Example, Task


@dataclass(frozen=True)
class Question:
    """One example as it is put to a model."""

    example: Example
    prompt_ids: tuple[int, ...]
    entries: tuple[str, ...]  # ids of the history items that are in the prompt
    history: str = "own"  # own, none, or other:USER


def ask(
    task: Task,
    examples: Sequence[Example],
    profile: ProfileSettings,
    prompt: PromptSettings,
    tokenizer: Any,
    vocabulary: Vocabulary,
    seed: int,
    history: Callable[[Example], str] = lambda example: "own",
) -> list[Question]:
    """Choose history items, build prompts and tokenise them. `history` names whose history each example shows."""

    def count(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    questions = []
    for example in examples:
        entries = choose(task, example, profile, seed)
        built = build_prompt(task, example, entries, prompt, count, vocabulary.names)
        ids = tuple(prompt_ids(built, tokenizer))
        questions.append(Question(example, ids, tuple(entry.id for entry in built.entries), history(example)))
    return questions


def with_other_history(examples: Sequence[Example], seed: int) -> tuple[list[Example], dict[str, str]]:
    """The same questions, each with the whole profile of another user of the list.

    Returns the examples and, by example id, the donor's user id. Seeded: a random order of the users, each of whom gets
    the profile of the next. Raises DataError where all examples are one user's.
    """
    profiles = {example.user_id: example.profile for example in examples}
    users = sorted(profiles)
    if len(users) < 2:
        raise DataError("another user's history needs at least two users; add users or switch it off")
    order = [users[i] for i in np.random.default_rng(seed).permutation(len(users))]
    donor = {user: order[(i + 1) % len(order)] for i, user in enumerate(order)}
    changed = [replace(example, profile=profiles[donor[example.user_id]]) for example in examples]
    return changed, {example.id: donor[example.user_id] for example in examples}


def without_history(examples: Sequence[Example]) -> list[Example]:
    """The same questions with an empty profile."""
    return [replace(example, profile=()) for example in examples]

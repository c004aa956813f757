"""`Question`: an example with the history that is shown for it and its prompt in tokens; also with a changed history.

Which items are shown is `tagpr.profiles`' choice and how they are worded `tagpr.prompts`'; here only whose they are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tagpr.errors import DataError
from tagpr.on_disk import Mapped
from tagpr.prompts.prompt_builder import PromptBuilder
from tagpr.tasks.types import Example, Task

OTHER_HISTORY = "final-other-history"
"""The final model given another user's history: does it read the user?"""


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
    prompts: PromptBuilder,
    history: Callable[[Example], str] = lambda example: "own",
) -> list[Question]:
    """The questions as `prompts` words them. `history` names whose history each example shows."""
    questions = []
    for example in examples:
        entries = tuple(entry.id for entry in prompts.build(task, example).entries)
        questions.append(Question(example, tuple(prompts.ids(task, example)), entries, history(example)))
    return questions


def with_other_history(examples: Sequence[Example], seed: int) -> tuple[Sequence[Example], dict[str, str]]:
    """The same questions, each with the whole profile of another user of the list.

    Returns the examples and, by example id, the donor's user id. Seeded: a random order of the users, each of whom gets
    the profile of the next. Raises DataError if all examples are one user's.
    """
    latest = {example.user_id: place for place, example in enumerate(examples)}
    users = sorted(latest)
    if len(users) < 2:
        raise DataError("another user's history needs at least two users; add users or switch it off")
    order = [users[i] for i in np.random.default_rng(seed).permutation(len(users))]
    donor = {user: order[(i + 1) % len(order)] for i, user in enumerate(order)}

    def swapped(_: int, example: Example) -> Example:
        return replace(example, profile=examples[latest[donor[example.user_id]]].profile)

    return Mapped(examples, swapped), {example.id: donor[example.user_id] for example in examples}


def without_history(examples: Sequence[Example]) -> list[Example]:
    """The same questions with an empty profile."""
    return [replace(example, profile=()) for example in examples]

"""`Question`: an example with the history that is shown for it and its prompt in tokens; also with a changed history.

Which items are shown is `tagpr.profiles`' choice and how they are worded `tagpr.prompts`'; here only whose they are.
"""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter

import numpy as np

from tagpr.errors import DataError
from tagpr.on_disk import Mapped
from tagpr.prompts.cuts import Seen
from tagpr.prompts.prompt_builder import PromptBuilder
from tagpr.sorting import Sorter
from tagpr.tasks.types import Example, Task

OTHER_HISTORY = "final-other-history"
"""The final model given another user's history: does it read the user?"""


@dataclass(frozen=True)
class Question:
    """One example as it is put to a model."""

    example: Example
    prompt_ids: tuple[int, ...]
    seen: Seen  # what the prompt shows of the history and of texts that it cuts
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
        seen = prompts.build(task, example).seen
        questions.append(Question(example, tuple(prompts.ids(task, example)), seen, history(example)))
    return questions


def with_other_history(examples: Sequence[Example], seed: int) -> tuple[Sequence[Example], Sequence[str]]:
    """The same questions, each with the whole profile of another user of the list.

    Returns the examples and each one's donor's user id. Seeded: a random order of the users, each of whom gets the
    profile of the next. Raises DataError if all examples are one user's.
    """
    by_user = Sorter[tuple[str, int]]()
    for place, example in enumerate(examples):
        by_user.add((example.user_id, place))
    user_N, latest_U = np.empty(len(examples), np.int64), array("q")  # users are numbered by their ids' order
    for number, (_, own) in enumerate(groupby(by_user, itemgetter(0))):
        latest = 0
        for _, latest in own:
            user_N[latest] = number
        latest_U.append(latest)
    if len(latest_U) < 2:
        raise DataError("another user's history needs at least two users; add users or switch it off")
    order_U = np.random.default_rng(seed).permutation(len(latest_U))
    donor_U = np.empty_like(order_U)
    donor_U[order_U] = np.roll(order_U, -1)

    def donor(place: int) -> Example:
        return examples[latest_U[donor_U[user_N[place]]]]

    swapped = Mapped(examples, lambda place, example: replace(example, profile=donor(place).profile))
    return swapped, Mapped(examples, lambda place, _: donor(place).user_id)


def without_history(examples: Sequence[Example]) -> list[Example]:
    """The same questions with an empty profile."""
    return [replace(example, profile=()) for example in examples]

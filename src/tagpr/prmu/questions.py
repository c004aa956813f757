"""The questions that preference pairs are made of: training examples by lot, with their history and without it.

Here alone the examples of a run become token ids; what follows (rollouts, pairs, training) gets these rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from tagpr.prmu.settings import PRMUSettings
from tagpr.tasks.types import Example, Task

if TYPE_CHECKING:
    from tagpr.prompts.prompt_builder import PromptBuilder


@dataclass(frozen=True)
class PairQuestion:
    """A training question as the policy is asked it for preference pairs."""

    example_id: str
    user_id: str
    task: Task
    target: str
    with_history: tuple[int, ...]  # the prompt in token ids; what the reward model reads
    without_history: tuple[int, ...]  # the zero-shot prompt of the same question
    history_length: int  # items of the user's profile
    date: str | None = None  # ISO 8601


def pair_questions(
    tasks: Mapping[str, Task],
    train: Mapping[str, Sequence[Example]],
    prompts: PromptBuilder,
    settings: PRMUSettings,
    seed: int,
) -> list[PairQuestion]:
    """`settings.prompts` questions of the training examples (by task name), as `prompts` words them."""
    if settings.prompts_per_user is None:
        chosen = choose_examples(train, settings.prompts, seed)
    else:
        chosen = choose_users(train, settings.prompts, settings.prompts_per_user, seed)
    return [
        PairQuestion(
            example_id=example.id,
            user_id=example.user_id,
            task=tasks[example.task],
            target=example.target or "",
            with_history=tuple(prompts.ids(tasks[example.task], example)),
            without_history=tuple(prompts.ids(tasks[example.task], example, with_profile=False)),
            history_length=len(example.profile),
            date=example.date,
        )
        for example in chosen
    ]


def choose_examples(examples: Mapping[str, Sequence[Example]], count: int, seed: int) -> list[Example]:
    """`count` training examples, as evenly over the tasks as their numbers allow, drawn by lot."""
    random = Random(f"prmu-examples-{seed}")
    queues = []
    for task in sorted(examples):
        queue = [example for example in examples[task] if example.target is not None]
        random.shuffle(queue)
        queues.append(queue)
    chosen: list[Example] = []
    for rank in range(max(map(len, queues), default=0)):
        chosen += [queue[rank] for queue in queues if rank < len(queue)]
    return chosen[:count]


def choose_users(examples: Mapping[str, Sequence[Example]], count: int, per_user: int, seed: int) -> list[Example]:
    """`count` training examples of as few users as that takes: users by lot, each with up to `per_user` examples.

    Users who have `per_user` examples or more come before those with fewer; a user's examples are drawn by lot over all
    tasks.
    """
    random = Random(f"prmu-users-{seed}")
    of_user: dict[str, list[Example]] = {}
    for task in sorted(examples):
        for example in examples[task]:
            if example.target is not None:
                of_user.setdefault(example.user_id, []).append(example)
    users = sorted(of_user)
    random.shuffle(users)
    users.sort(key=lambda user: -min(per_user, len(of_user[user])))
    chosen = [example for user in users for example in random.sample(of_user[user], min(per_user, len(of_user[user])))]
    return chosen[:count]

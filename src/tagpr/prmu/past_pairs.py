"""What a reward model learns a new user from: that user's past items, and preference pairs made of them.

    past = past_of(task, "ann", interactions, prompts, seed=0)
    prmu.fit_user("ann", past)

At each past question the user's own answer is preferred to another one: another label or rating of the card, or the
question's own opening words, as many as the answer has. These are answers without reasoning. Where the policy is at
hand, pairs of its rollouts on the user's past questions (`make_rollouts`, `build_pairs`) are nearer to what the model
will judge: `Past(tuple(build_pairs(...).pairs))`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from tagpr.errors import DataError
from tagpr.prmu.data import Pair
from tagpr.prmu.histories import items_of, token_ids
from tagpr.profiles.past import past_questions
from tagpr.tasks.types import Interaction, Kind, Task

if TYPE_CHECKING:
    from tagpr.prompts.prompt_builder import PromptBuilder


@dataclass(frozen=True)
class Past:
    """A user's past as a reward model takes it."""

    pairs: tuple[Pair, ...]  # eq. 2's x+ and x-, fitted by o_u
    items: tuple[tuple[int, ...], ...] = ()  # token ids of past items, oldest first; read by profile-encoded only


def past_of(
    task: Task,
    user_id: str,
    interactions: Sequence[Interaction],
    prompts: PromptBuilder,
    seed: int = 0,
    most: int = 32,
) -> Past:
    """Pairs from the latest `most` of a user's interactions (oldest first), and all items in tokens.

    The question at an interaction shows the items before it; undated items show all others. Raises DataError if no
    interaction has both a question and an answer of the card (LaMP-1's histories have none).
    """
    pairs = []
    for example in past_questions(task, user_id, interactions, most):
        own = example.target or ""
        other = _another_answer(task, example.input, own, Random(f"{seed}-{user_id}-{example.id}"))
        if not other:
            continue
        prompt = tuple(prompts.ids(task, example))
        chosen, rejected = (tuple(token_ids(prompts, answer)) for answer in (own, other))
        shown = len(example.profile)
        pairs.append(Pair("PQP", "train", example.id, user_id, task.name, prompt, chosen, rejected, shown))
    if not pairs:
        raise DataError(
            f"prmu: user {user_id!r}: none of {len(interactions)} past items has both {task.input_name!r} and "
            f"{task.output_name!r} (task {task.name}); give items with both, or pairs of rollouts"
        )
    return Past(tuple(pairs), items_of(task, interactions, prompts))


def _another_answer(task: Task, question: str, own: str, random: Random) -> str:
    """What someone else might answer; empty if there is nothing to choose from."""
    if task.kind is not Kind.TEXT:
        return random.choice([label for label in task.labels if label != own])
    spaced = question.split()
    opening = " ".join(spaced[: len(own.split())]) if len(spaced) > 1 else question[: len(own)]
    return opening if opening != own else ""

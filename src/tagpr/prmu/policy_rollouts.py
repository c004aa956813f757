"""Rollouts for preference pairs: the policy answers each question with and without the profile, and is scored.

It samples through a callable, so any engine will do; turning rollouts into pairs is `tagpr.prmu.pairs`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random

from tagpr.chains.grammar import parse_response
from tagpr.chains.vocabulary import Vocabulary
from tagpr.engine.types import Completion
from tagpr.prmu.data import Rollout
from tagpr.prmu.settings import PRMUSettings
from tagpr.tasks.metrics import correctness
from tagpr.tasks.types import Example, Task

Sample = Callable[[list[list[int]], int, int], list[list[Completion]]]
"""(prompts as token ids, completions per prompt, seed) -> the completions of each prompt."""


def make_rollouts(
    sample: Sample,
    tasks: Mapping[str, Task],
    examples: Sequence[Example],
    prompts_with: Sequence[Sequence[int]],
    prompts_without: Sequence[Sequence[int]],
    vocabulary: Vocabulary,
    settings: PRMUSettings,
    seed: int,
) -> list[Rollout]:
    """Sample `rollouts_with` completions with and `rollouts_without` without the profile for each example; score them.

    `prompts_with`/`prompts_without` are the examples' prompts as token ids; every rollout carries the one with the
    profile, which is what the reward model reads. Examples need their target.
    """
    with_profile = sample([list(ids) for ids in prompts_with], settings.rollouts_with, seed)
    without: list[list[Completion]] = [[] for _ in examples]
    if settings.rollouts_without:
        without = sample([list(ids) for ids in prompts_without], settings.rollouts_without, seed + 1)
    rollouts = []
    for row, example in enumerate(examples):
        for made_with, completions in ((True, with_profile[row]), (False, without[row])):
            for completion in completions:
                answer = parse_response(completion.text, vocabulary).answer
                rollouts.append(
                    Rollout(
                        example_id=example.id,
                        user_id=example.user_id,
                        task=example.task,
                        prompt_ids=tuple(prompts_with[row]),
                        completion_ids=tuple(completion.token_ids),
                        score=correctness(tasks[example.task], answer, example.target or ""),
                        made_with_profile=made_with,
                        date=example.date,
                        history_length=len(example.profile),
                    )
                )
    return rollouts


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

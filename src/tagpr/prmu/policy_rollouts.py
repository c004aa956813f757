"""Rollouts for preference pairs: the policy answers each question with and without the profile, and is scored.

It samples through a callable, so any engine will do; turning rollouts into pairs is `tagpr.prmu.pairs`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tagpr.chains.grammar import parse_response
from tagpr.chains.vocabulary import Vocabulary
from tagpr.engine.types import Completion
from tagpr.prmu.data import Rollout
from tagpr.prmu.questions import PairQuestion
from tagpr.prmu.settings import PRMUSettings
from tagpr.tasks.metrics import correctness

Sample = Callable[[list[list[int]], int, int], list[list[Completion]]]
"""(prompts as token ids, completions per prompt, number of the call) -> the completions of each prompt; another number,
other draws.
"""


def make_rollouts(
    sample: Sample, questions: Sequence[PairQuestion], vocabulary: Vocabulary, settings: PRMUSettings
) -> list[Rollout]:
    """Sample `rollouts_with` completions with and `rollouts_without` without the profile for each question; score them.

    Every rollout carries the prompt with the profile, which is what the reward model reads.
    """
    with_history = sample([list(question.with_history) for question in questions], settings.rollouts_with, 0)
    without: list[list[Completion]] = [[] for _ in questions]
    if settings.rollouts_without:
        prompts = [list(question.without_history) for question in questions]
        without = sample(prompts, settings.rollouts_without, 1)
    rollouts = []
    for row, question in enumerate(questions):
        for made_with, completions in ((True, with_history[row]), (False, without[row])):
            for completion in completions:
                answer = parse_response(completion.text, vocabulary).answer
                rollouts.append(
                    Rollout(
                        example_id=question.example_id,
                        user_id=question.user_id,
                        task=question.task.name,
                        prompt_ids=question.with_history,
                        completion_ids=tuple(completion.token_ids),
                        score=correctness(question.task, answer, question.target),
                        made_with_profile=made_with,
                        date=question.date,
                        history_length=question.history_length,
                    )
                )
    return rollouts

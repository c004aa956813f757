"""The best of N sampled answers, chosen in three ways: by PRMU, by the policy's own likelihood, by majority vote.

All three choose among the same samples, so that a difference between the rows is the chooser's.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tagpr.chains.grammar import parse_response
from tagpr.chains.vocabulary import Vocabulary
from tagpr.engine.types import Completion, Sampling
from tagpr.evaluation.heldout import Heldout, answer, token_count
from tagpr.evaluation.predictions import Prediction
from tagpr.evaluation.settings import EvaluationSettings
from tagpr.progress import Progress
from tagpr.systems.prompted import Prompted
from tagpr.systems.protocol import Answer, NoOptions
from tagpr.tasks.answers import normalise_answer
from tagpr.tasks.types import Example, Task

PersonalScore = Callable[[Sequence[str], Sequence[Sequence[int]], Sequence[Sequence[int]]], Sequence[float]]
"""R_PRMU (eq. 3): (user ids, prompts in token ids, completions in token ids) -> one number in (0, 1) each."""


@dataclass(frozen=True)
class Candidates:
    """N completions of one question; PRMU reads the tokens, the vote the answers."""

    example: Example
    prompt: Sequence[int]
    completions: Sequence[Completion]


Choose = Callable[[Sequence[Candidates]], list[int]]
"""For each question the place of the completion that is taken."""


class BestOf:
    """A checkpoint that answers `settings.best_of` times; the samples are drawn once and kept for all rows."""

    def __init__(self, system: Prompted[NoOptions], settings: EvaluationSettings) -> None:
        self.system, self.settings = system, settings
        self._drawn: dict[str, Candidates] = {}

    def rows(self, prmu: PersonalScore) -> dict[str, Choose]:
        """Row of the table -> how it chooses."""
        name, vocabulary = f"best-of-{self.settings.best_of}", self.system.context.vocabulary
        tasks = self.system.context.tasks
        return {
            f"{name}-prmu": lambda drawn: by_reward(drawn, prmu),
            f"{name}-likelihood": lambda drawn: [by_likelihood(one) for one in drawn],
            f"{name}-majority": lambda drawn: [
                by_vote(one, lambda text, task=tasks[one.example.task]: _answer(text, task, vocabulary))
                for one in drawn
            ],
        }

    def answer(self, heldout: Heldout, picked: Sequence[int], choose: Choose, progress: Progress) -> list[Prediction]:
        """Scored predictions of the examples at the positions `picked`."""
        drawn = self._draw([heldout.asked[i] for i in picked], progress)
        answers = []
        for one, place in zip(drawn, choose(drawn), strict=True):
            best = one.completions[place]
            answers.append(Answer(best.text, len(best.body), best.finished, self.system.entries(one.example)))
        count = token_count(self.system.context.tokenizer)
        return answer(lambda examples: answers, heldout, self.system.context.vocabulary, count, picked)

    def _draw(self, examples: Sequence[Example], progress: Progress) -> list[Candidates]:
        new = [example for example in examples if _key(example) not in self._drawn]
        if new:
            decoding = self.system.context.decoding
            limit = decoding.max_new_tokens if self.system.reasons else decoding.answer_tokens
            sampling = Sampling(
                limit, self.settings.best_of, self.settings.best_of_temperature, seed=self.system.context.seed,
                logprobs=True,
            )  # fmt: skip
            prompts = [self.system.prompt_ids(example) for example in new]
            drawn = self.system.backbone.text_model.generate(prompts, sampling, progress)
            for example, prompt, completions in zip(new, prompts, drawn, strict=True):
                self._drawn[_key(example)] = Candidates(example, prompt, completions)
        return [self._drawn[_key(example)] for example in examples]


def by_reward(drawn: Sequence[Candidates], prmu: PersonalScore) -> list[int]:
    """The completion with the highest R_PRMU for its user."""
    flat = [(one, completion) for one in drawn for completion in one.completions]
    users, prompts = [one.example.user_id for one, _ in flat], [one.prompt for one, _ in flat]
    rewards = iter(prmu(users, prompts, [completion.token_ids for _, completion in flat]))
    return [_best([next(rewards) for _ in one.completions]) for one in drawn]


def by_likelihood(one: Candidates) -> int:
    """The completion whose tokens the policy found likeliest on average."""
    return _best([_mean_logprob(completion) for completion in one.completions])


def by_vote(one: Candidates, answer_of: Callable[[str], str]) -> int:
    """The likeliest completion among those with the commonest answer; completions without an answer have no vote."""
    answers = [answer_of(completion.text) for completion in one.completions]
    counts = Counter(text for text in answers if text)
    votes = [counts.get(text, 0) if text else 0 for text in answers]
    most = max(votes)
    return _best(
        [
            _mean_logprob(completion) if count == most else float("-inf")
            for completion, count in zip(one.completions, votes, strict=True)
        ]
    )


def _answer(text: str, task: Task, vocabulary: Vocabulary) -> str:
    return normalise_answer(task, parse_response(text, vocabulary).answer)


def _mean_logprob(completion: Completion) -> float:
    values = completion.logprobs or [float("-inf")]
    return sum(values) / len(values)


def _best(values: Sequence[float]) -> int:
    """The place of the largest; the first of equals."""
    return max(range(len(values)), key=lambda place: (values[place], -place))


def _key(example: Example) -> str:
    return f"{example.task} {example.id}"

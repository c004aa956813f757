"""The best of N sampled answers: by PRMU, by the policy's own likelihood, by majority vote, by vote and evidence.

All choose among the same samples, so that a difference between the rows is the chooser's. A majority vote over chains
is self-consistency (Wang et al. 2022, arXiv 2203.11171). By evidence an answer counts for the share of its claims that
are true of what its prompt showed; no reference is read. A row's `extra` says how many samples agree with its answer.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tagpr.chains.evidence import Shown, check_evidence
from tagpr.chains.grammar import parse_response
from tagpr.chains.vocabulary import Vocabulary
from tagpr.engine.types import Completion, Sampling
from tagpr.evaluation.draws import kept_draws
from tagpr.evaluation.heldout import Heldout, answer, token_count
from tagpr.evaluation.predictions import Prediction, shown_to
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
    """N completions of one question; PRMU reads the tokens, the votes the texts."""

    example: Example
    prompt: Sequence[int]
    completions: Sequence[Completion]


Choose = Callable[[Sequence[Candidates]], list[int]]
"""For each question the place of the completion that is taken."""


class BestOf:
    """A checkpoint that answers `settings.best_of` times; the samples are drawn once and kept for all rows."""

    def __init__(self, system: Prompted[NoOptions], key: str, settings: EvaluationSettings, folder: Path) -> None:
        """key: names the checkpoint's content. folder: where the samples are, until the caller deletes it."""
        self.system, self.key, self.settings, self.folder = system, key, settings, folder

    def rows(self, prmu: PersonalScore | None) -> dict[str, Choose]:
        """Row of the table -> how it chooses. A system that does not reason has nothing to check and no PRMU."""
        tasks, vocabulary = self.system.context.tasks, self.system.context.vocabulary

        def answer_of(one: Candidates) -> Callable[[str], str]:
            return answer_reader(tasks[one.example.task], vocabulary)

        def truth_of(one: Candidates) -> Callable[[str], float]:
            seen = self.system.seen(one.example)
            return truth_reader(shown_to(tasks[one.example.task], one.example, seen), vocabulary)

        ways: dict[str, Choose] = {
            "likelihood": lambda drawn: [by_likelihood(one.completions) for one in drawn],
            "majority": lambda drawn: [by_vote(one.completions, answer_of(one)) for one in drawn],
        }
        if self.system.reasons:
            ways["evidence"] = lambda drawn: [
                by_evidence(one.completions, answer_of(one), truth_of(one)) for one in drawn
            ]
            if prmu is not None:
                ways["prmu"] = lambda drawn: by_reward(drawn, prmu)
        return {way: ways[way] for way in self.settings.best_of_by if way in ways}

    def answer(self, heldout: Heldout, picked: Sequence[int], choose: Choose, progress: Progress) -> list[Prediction]:
        """Scored predictions of the examples at the positions `picked`."""
        drawn = self._draw([heldout.asked[i] for i in picked], progress)
        answer_of = answer_reader(heldout.task, self.system.context.vocabulary)
        answers, shares = [], []
        for one, place in zip(drawn, choose(drawn), strict=True):
            best = one.completions[place]
            answers.append(Answer(best.text, len(best.body), best.finished, self.system.seen(one.example)))
            shares.append(agreement(one.completions, place, answer_of))
        count = token_count(self.system.context.tokenizer)
        rows = answer(lambda examples: answers, heldout, self.system.context.vocabulary, count, picked)
        return [replace(row, extra={"agreement": share}) for row, share in zip(rows, shares, strict=True)]

    def _draw(self, examples: Sequence[Example], progress: Progress) -> list[Candidates]:
        decoding, settings = self.system.context.decoding, self.settings
        limit = decoding.max_new_tokens if self.system.reasons else decoding.answer_tokens
        sampling = Sampling(
            limit, settings.best_of, settings.best_of_temperature, seed=self.system.context.seed, logprobs=True
        )
        prompts = [self.system.prompt_ids(example) for example in examples]
        drawn = kept_draws(
            self.folder, self.key, prompts, sampling,
            lambda asked, how: self.system.backbone.text_model.generate(asked, how, progress),
        )  # fmt: skip
        return [Candidates(*one) for one in zip(examples, prompts, drawn, strict=True)]


def answer_reader(task: Task, vocabulary: Vocabulary) -> Callable[[str], str]:
    """What a completion answers, in the form in which two answers are the same; "" if it has none."""
    return lambda text: normalise_answer(task, parse_response(text, vocabulary).answer)


def truth_reader(shown: Shown, vocabulary: Vocabulary) -> Callable[[str], float]:
    """The share of a completion's claims that are true of what its prompt showed, 0 if it claims nothing."""
    return lambda text: check_evidence(parse_response(text, vocabulary), shown).precision or 0.0


def by_reward(drawn: Sequence[Candidates], prmu: PersonalScore) -> list[int]:
    """The completion with the highest R_PRMU for its user."""
    flat = [(one, completion) for one in drawn for completion in one.completions]
    users, prompts = [one.example.user_id for one, _ in flat], [one.prompt for one, _ in flat]
    rewards = iter(prmu(users, prompts, [completion.token_ids for _, completion in flat]))
    return [_best([next(rewards) for _ in one.completions]) for one in drawn]


def by_likelihood(completions: Sequence[Completion]) -> int:
    """The completion whose tokens the policy found likeliest on average."""
    return _best([_mean_logprob(completion) for completion in completions])


def by_vote(completions: Sequence[Completion], answer_of: Callable[[str], str]) -> int:
    """The likeliest completion among those with the commonest answer; completions without an answer have no vote."""
    answers = [answer_of(completion.text) for completion in completions]
    counts = Counter(text for text in answers if text)
    return _best(
        [(counts[text], _mean_logprob(completion)) for text, completion in zip(answers, completions, strict=True)]
    )


def by_evidence(
    completions: Sequence[Completion], answer_of: Callable[[str], str], truth_of: Callable[[str], float]
) -> int:
    """Of the completions with the answer whose chains are truest together, the truest; of equals the likeliest.

    truth_of: the share of a completion's claims that are true, 0 if it claims nothing. Answers of equal truth, so those
    of chains without claims too, go by their number.
    """
    answers = [answer_of(completion.text) for completion in completions]
    truths = [truth_of(completion.text) for completion in completions]
    votes: dict[str, tuple[float, int]] = {"": (0.0, 0)}
    for text, truth in zip(answers, truths, strict=True):
        if text:
            weight, count = votes.get(text, (0.0, 0))
            votes[text] = (weight + truth, count + 1)
    return _best(
        [
            (votes[text], truth, _mean_logprob(completion))
            for text, truth, completion in zip(answers, truths, completions, strict=True)
        ]
    )


def agreement(completions: Sequence[Completion], place: int, answer_of: Callable[[str], str]) -> float:
    """The share of the completions that answer as the one at `place`; 0 if that one has no answer."""
    said = answer_of(completions[place].text)
    return sum(answer_of(one.text) == said for one in completions) / len(completions) if said else 0.0


def _mean_logprob(completion: Completion) -> float:
    values = completion.logprobs or [float("-inf")]
    return sum(values) / len(values)


def _best(values: Sequence[Any]) -> int:
    """The place of the largest; the first of equals."""
    return max(range(len(values)), key=lambda place: (values[place], -place))

"""`Metric`: one way to score answers, registered once; `correctness`: the one answer to "how good is this answer?".

Everything that asks how good an answer is asks `correctness`: the filter of chains, R_v (eq. 6), the order of PQP
pairs, scores per user, HYDRA's labels, PrLM's reward. A card chooses it (`correctness:`), else it is the kind's own:

- choice, label: `accuracy`, 1 iff the answer is the target; an answer outside the label list is wrong;
- rating: `closeness`, 1 - |error| / (largest possible error), 0 beyond the scale;
- text: `rouge`, the card's mix of ROUGE-1 and ROUGE-L F over its `rouge_tokens`.

Accuracy, F1, MAE and RMSE are LaMP's official evaluator's. Not here: significance (`tagpr.evaluation`).
"""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz.distance import Levenshtein

from tagpr.tasks.aggregate import MACRO_F1, MEAN, POSITIVE_F1, ROOT_MEAN_SQUARE, Aggregate
from tagpr.tasks.answers import label_set, normalise_answer, parse_rating
from tagpr.tasks.meteor import meteor
from tagpr.tasks.rouge import rouge
from tagpr.tasks.types import Kind, Task

Score = Callable[[Task, str, str], float]
"""(task, answer, target), both normalised by the card's rules -> the metric of this one answer."""


@dataclass(frozen=True)
class Metric:
    """One metric. A user's own needs a name, a direction and `score`; its value over a set is then the mean."""

    name: str
    """As cards, tables and files call it."""
    higher_is_better: bool
    score: Score | None
    """Of one answer; None: a metric of a set of answers only (F1)."""
    kinds: frozenset[Kind] = frozenset(Kind)
    """Kinds of task it can score."""
    aggregate: Aggregate = MEAN
    """From single answers to a set."""
    unit: bool = True
    """Whether `score` is in [0, 1], larger better: what `correctness` may be."""
    label: str = ""
    """As printed for readers; empty: the name."""

    def over(self, task: Task, answers: Sequence[str], targets: Sequence[str]) -> np.ndarray:
        """The aggregate's columns of these answers, shape (n, c)."""
        scores = [0.0 if self.score is None else answer_score(self, task, a, t) for a, t in zip(answers, targets)]
        return self.aggregate.columns(np.asarray(scores, np.float64), task, answers, targets)


def _accuracy(task: Task, answer: str, target: str) -> float:
    return float(answer == target and answer in label_set(task))


def _error(task: Task, answer: str, target: str) -> float:
    return abs(parse_rating(task, answer, float(target)) - float(target))


def _squared_error(task: Task, answer: str, target: str) -> float:
    return _error(task, answer, target) ** 2


def _closeness(task: Task, answer: str, target: str) -> float:
    largest = float(task.labels[-1]) - float(task.labels[0])
    return max(0.0, 1 - _error(task, answer, target) / largest)


def _rouge1(task: Task, answer: str, target: str) -> float:
    return rouge(answer, target, task.rouge_tokens)[0]


def _rouge_l(task: Task, answer: str, target: str) -> float:
    return rouge(answer, target, task.rouge_tokens)[1]


def _rouge_mix(task: Task, answer: str, target: str) -> float:
    rouge1, rouge_l = rouge(answer, target, task.rouge_tokens)
    return task.rouge_mix * rouge1 + (1 - task.rouge_mix) * rouge_l


def _meteor(task: Task, answer: str, target: str) -> float:
    return meteor(answer, target, task.rouge_tokens)


def _exact(task: Task, answer: str, target: str) -> float:
    return float(_error(task, answer, target) == 0) if task.kind is Kind.RATING else float(answer == target)


def _edit(task: Task, answer: str, target: str) -> float:
    """1 - Levenshtein distance / the longer length, in characters: sees case and punctuation, as ROUGE does not."""
    return Levenshtein.normalized_similarity(answer, target)

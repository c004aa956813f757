"""`Metric`: one way to score answers, registered once; `correctness`: the one answer to "how good is this answer?".

Whatever needs to know how good an answer is calls `correctness`: the filter of chains, R_v (eq. 6), the order of PQP
pairs, scores per user, HYDRA's labels, PrLM's reward. A card chooses it (`correctness:`), else it is the kind's own:

- choice, label: `accuracy`, 1 iff the answer is the target; an answer outside the label list is wrong;
- rating: `closeness`, 1 - |error| / (largest possible error), 0 for what is off the scale or no number;
- text: `rouge`, the card's mix of ROUGE-1 and ROUGE-L F over its `rouge_tokens`.

Accuracy, F1, MAE and RMSE are LaMP's official evaluator's. Not here: significance (`tagpr.evaluation`).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import wraps

import numpy as np
from rapidfuzz.distance import Levenshtein

from tagpr.errors import RecipeError, RunError
from tagpr.plugins import load_own, number_of, own_code
from tagpr.statistics import Floats
from tagpr.tasks.aggregate import MACRO_F1, MEAN, POSITIVE_F1, ROOT_MEAN_SQUARE, Aggregate
from tagpr.tasks.answers import label_set, normalise_answer, number_in, parse_rating
from tagpr.tasks.meteor import meteor
from tagpr.tasks.rouge import rouge
from tagpr.tasks.rubric_target import RUBRIC
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
    title: str = ""
    """As printed for readers; empty: the name."""

    @property
    def label(self) -> str:
        """The metric for readers."""
        return self.title or self.name

    def over(self, task: Task, answers: Sequence[str], targets: Sequence[str]) -> Floats:
        """The aggregate's columns of these answers, shape (n, c)."""
        pairs = zip(answers, targets, strict=True)
        scores = [0.0 if self.score is None else self.of(task, answer, target) for answer, target in pairs]
        return self.aggregate.columns(np.asarray(scores, np.float64), task, answers, targets)

    def of(self, task: Task, answer: str, target: str) -> float:
        """The metric of one answer as the model wrote it. Raises ValueError for a metric of sets only."""
        if self.score is None:
            raise ValueError(f"{self.name} is a metric of a set of answers, not of one")
        return self.score(task, normalise_answer(task, answer), normalise_answer(task, target))


def _accuracy(task: Task, answer: str, target: str) -> float:
    return float(answer == target and answer in label_set(task))


def _error(task: Task, answer: str, target: str) -> float:
    return abs(parse_rating(task, answer, float(target)) - float(target))


def _squared_error(task: Task, answer: str, target: str) -> float:
    error = _error(task, answer, target)
    return error * error


def _closeness(task: Task, answer: str, target: str) -> float:
    low, high, value = float(task.labels[0]), float(task.labels[-1]), number_in(answer)
    return max(0.0, 1 - abs(value - float(target)) / (high - low)) if low <= value <= high else 0.0


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


_FIXED = frozenset({Kind.CHOICE, Kind.LABEL})
_RATING, _TEXT = frozenset({Kind.RATING}), frozenset({Kind.TEXT})

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", True, _accuracy, _FIXED),
        Metric("f1", True, None, _FIXED, MACRO_F1, title="macro-F1"),
        Metric("f1_positive", True, None, frozenset({Kind.CHOICE}), POSITIVE_F1, title="F1 of the second option"),
        Metric("mae", False, _error, _RATING, title="MAE"),
        Metric("rmse", False, _error, _RATING, ROOT_MEAN_SQUARE, title="RMSE"),
        Metric("mse", False, _squared_error, _RATING, title="MSE"),
        Metric("closeness", True, _closeness, _RATING),
        Metric("rouge1", True, _rouge1, _TEXT, title="ROUGE-1"),
        Metric("rougeL", True, _rouge_l, _TEXT, title="ROUGE-L"),
        Metric("rouge", True, _rouge_mix, _TEXT, title="ROUGE"),
        Metric("meteor", True, _meteor, _TEXT, title="METEOR"),
        Metric("exact", True, _exact, _RATING | _TEXT, title="exact match"),
        Metric("edit", True, _edit, _TEXT, title="edit similarity"),
        Metric(RUBRIC, True, None, _TEXT),  # given by judges (tagpr.judges), not computed
    )
}
"""Every metric known in this process, by name: these, and users' own once a card has named them."""

_KIND_CORRECTNESS = {Kind.CHOICE: "accuracy", Kind.LABEL: "accuracy", Kind.RATING: "closeness", Kind.TEXT: "rouge"}


def register(metric: Metric) -> Metric:
    """Make a user's metric known under its name. Raises RecipeError if the name is another metric's."""
    known = METRICS.setdefault(metric.name, metric)
    if known != metric and (known.score is None or known.score.__module__.startswith("tagpr.")):
        raise RecipeError(f"metrics: the name '{metric.name}' is taken by a metric of this package; choose another")
    METRICS[metric.name] = metric
    return metric


def own_metric(spec: str) -> Metric:
    """The user's metric at `path/file.py:NAME`, `module:NAME` or an entry point's name, registered.

    Raises RecipeError if it is none. Its score raises RunError for whatever the user's code raises.
    """
    found = load_own(spec, "metrics")
    if not isinstance(found, Metric):
        raise RecipeError(f"metrics: {spec}: is {type(found).__name__}, not a tagpr.tasks.metrics.Metric")
    return register(found if found.score is None else replace(found, score=_guarded(found.score, f"metrics: {spec}")))


def need_own_names(tasks: Iterable[Task]) -> None:
    """Raise RecipeError if two tasks bring metrics of their own under one name: the later would score both."""
    places: dict[str, str] = {}
    for task in tasks:
        for spec in task.own_metrics:
            name = own_metric(spec).name
            if places.setdefault(name, spec) != spec:
                raise RecipeError(f"metrics: {places[name]} and {spec} are both called '{name}'; rename one")


def _guarded(score: Score, origin: str) -> Score:
    """The user's own score, whose errors are one line and whose values are numbers."""

    @wraps(score)
    def guarded(task: Task, answer: str, target: str) -> float:
        with own_code(origin, RunError):
            value = score(task, answer, target)
        return number_of(value, origin)

    return guarded


def higher_is_better(name: str) -> bool:
    """The direction of a metric in a file of results; True for names that are no metric of answers (rates, counts)."""
    return name not in METRICS or METRICS[name].higher_is_better


def score_one(task: Task, answer: str, target: str) -> dict[str, float]:
    """The card's metrics of one answer, by name; those of sets only (F1) are left out."""
    answer, target = normalise_answer(task, answer), normalise_answer(task, target)
    metrics = [METRICS[name] for name in task.metrics]
    return {metric.name: metric.score(task, answer, target) for metric in metrics if metric.score is not None}


def score_all(task: Task, answers: Sequence[str], targets: Sequence[str]) -> dict[str, float]:
    """The card's metrics of a set of answers, by name. Raises ValueError on empty or unequal lists."""
    if len(answers) != len(targets) or not targets:
        raise ValueError(f"{len(answers)} answers for {len(targets)} targets; both must be the same number, at least 1")
    found: dict[str, float] = {}
    for name in task.metrics:
        columns = METRICS[name].over(task, answers, targets)
        found[name] = float(METRICS[name].aggregate.value(columns.sum(0), np.asarray(float(len(columns)))))
    return found


def correctness_metric(task: Task) -> Metric:
    """The metric that says how good an answer to `task` is."""
    return METRICS[task.correctness or _KIND_CORRECTNESS[task.kind]]


def correctness(task: Task, answer: str, target: str) -> float:
    """How good an answer is, in [0, 1]; 0 for an empty one. Raises RecipeError if a user's metric leaves [0, 1]."""
    if not answer.strip():
        return 0.0
    metric = correctness_metric(task)
    value = metric.of(task, answer, target)
    if not 0 <= value <= 1:
        raise RecipeError(f"task {task.name}, correctness {metric.name}: {value} is not in [0, 1]")
    return value

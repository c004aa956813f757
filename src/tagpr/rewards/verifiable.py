"""R_v, the verifiable reward (eq. 6): how good the answer is, by the card's measure, by judges or by own code."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

from tagpr.errors import RecipeError, RunError
from tagpr.judges.marking import Judges, Marker, Submission
from tagpr.judges.settings import JudgeSettings
from tagpr.plugins import load_own, number_of, own_code
from tagpr.rewards.settings import RUBRIC_PREFIX, RewardSettings
from tagpr.tasks.metrics import METRICS, correctness, higher_is_better, score_one
from tagpr.tasks.types import Kind, Task

Verifiable = Callable[[Task, str, str], float]
"""R_v: (task, answer, target) -> how good the answer is, best in [0, 1]."""


@runtime_checkable
class ManyVerifiable(Protocol):
    """An R_v that judges many answers at once, because each takes a call."""

    def many(self, tasks: Sequence[Task], answers: Sequence[str], targets: Sequence[str]) -> list[float]:
        """R_v of each answer."""
        ...


class RubricReward:
    """R_v by judges on text tasks, the card's measure on others. An answer without a readable verdict earns 0."""

    def __init__(self, judges: Marker, others: Verifiable) -> None:
        self.judges, self.others = judges, others

    def __call__(self, task: Task, answer: str, target: str) -> float:
        """R_v of one answer."""
        return self.many([task], [answer], [target])[0]

    def many(self, tasks: Sequence[Task], answers: Sequence[str], targets: Sequence[str]) -> list[float]:
        """R_v of each answer, the text ones marked side by side. Raises RunError at a cap of the judges."""
        texts = [i for i, task in enumerate(tasks) if task.kind is Kind.TEXT]
        judged = self.judges.mark([Submission.of(tasks[i].instruction, answers[i], targets[i]) for i in texts])
        values = dict(zip(texts, (one.score or 0.0 for one in judged), strict=True))
        return [values[i] if i in values else self.others(task, answers[i], targets[i]) for i, task in enumerate(tasks)]


def verify_all(
    verifiable: Verifiable, tasks: Sequence[Task], answers: Sequence[str], targets: Sequence[str]
) -> list[float]:
    """R_v of each answer, at once where that is possible."""
    if isinstance(verifiable, ManyVerifiable):
        return verifiable.many(tasks, answers, targets)
    return [verifiable(*row) for row in zip(tasks, answers, targets, strict=True)]


def verifiable_reward(task: Task, answer: str, target: str, settings: RewardSettings | None = None) -> float:
    """Eq. 6: R_v(y, y*) in [0, 1], by `tagpr.tasks.metrics.correctness`; `settings.rating` may choose exact ratings.

    The paper says accuracy for classification, its ratings among them, and ROUGE for texts, not which ROUGE.
    """
    if settings is not None and settings.verifiable == "rouge" and task.kind is Kind.TEXT:
        return METRICS["rouge"].of(task, answer, target) if answer.strip() else 0.0
    value = correctness(task, answer, target)
    exact = task.kind is Kind.RATING and settings is not None and settings.rating == "exact"
    return float(value == 1) if exact else value


def metrics_reward(task: Task, answer: str, target: str) -> float:
    """R_v in [0, 1] of a card with several metrics: their mean, of those that are best at 1 (0 for an empty answer).

    Exact match alone does not tell a near miss from nonsense; with edit similarity beside it, it does.
    """
    values = [value for name, value in score_one(task, answer, target).items() if higher_is_better(name)]
    return sum(values) / len(values) if values and answer.strip() else 0.0


def find_verifiable(settings: RewardSettings, folder: Path = Path(), judge: JudgeSettings | None = None) -> Verifiable:
    """The R_v that a recipe names; a user's own file is relative to `folder`, the recipe's. judge: its judges.

    Raises RecipeError if it cannot be loaded, is no function, or needs judges and there are none. What a user's own
    code raises while it judges is RunError.
    """
    by_card = partial(verifiable_reward, settings=settings)
    if settings.verifiable in ("correctness", "rouge"):
        return by_card
    if settings.verifiable == "metrics":
        return metrics_reward
    if settings.verifiable.startswith(RUBRIC_PREFIX):
        if judge is None:
            raise RecipeError(
                f"rewards.verifiable: {settings.verifiable} needs judges; add judge: {{judges: [{{model: ...}}]}}"
            )
        return RubricReward(Judges.load(judge, folder, settings.verifiable.removeprefix(RUBRIC_PREFIX)), by_card)
    own = load_own(settings.verifiable, "rewards", folder)
    origin = f"rewards: {settings.verifiable}"
    if isinstance(own, type):
        raise RecipeError(f"{origin}: is a class; name an instance of it, or a function of (task, answer, target)")
    if not callable(own):
        raise RecipeError(f"{origin}: no function; write one of (task, answer, target)")
    function = cast(Verifiable, own)
    return _OwnMany(function, own, origin) if isinstance(own, ManyVerifiable) else _Own(function, origin)


class _Own:
    """A user's own R_v, whose errors are one line and whose values are numbers."""

    def __init__(self, function: Verifiable, origin: str) -> None:
        self.function, self.origin = function, origin

    def __call__(self, task: Task, answer: str, target: str) -> float:
        with own_code(self.origin, RunError):
            value = self.function(task, answer, target)
        return number_of(value, self.origin)


class _OwnMany(_Own):
    """One that also judges many answers at once."""

    def __init__(self, function: Verifiable, at_once: ManyVerifiable, origin: str) -> None:
        super().__init__(function, origin)
        self.at_once = at_once

    def many(self, tasks: Sequence[Task], answers: Sequence[str], targets: Sequence[str]) -> list[float]:
        with own_code(self.origin, RunError):
            values = list(self.at_once.many(tasks, answers, targets))
        if len(values) != len(answers):
            raise RunError(f"{self.origin}: many gave {len(values)} values for {len(answers)} answers; give one each")
        return [number_of(value, self.origin) for value in values]

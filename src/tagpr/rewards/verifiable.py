"""R_v, the verifiable reward (eq. 6): how good the answer is, by the card's own measure."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

from tagpr.errors import RecipeError
from tagpr.plugins import load_own
from tagpr.rewards.settings import RewardSettings
from tagpr.tasks.metrics import correctness, higher_is_better, score_one
from tagpr.tasks.types import Kind, Task

Verifiable = Callable[[Task, str, str], float]
"""R_v: (task, answer, target) -> how good the answer is, best in [0, 1]."""


def verifiable_reward(task: Task, answer: str, target: str, settings: RewardSettings | None = None) -> float:
    """Eq. 6: R_v(y, y*) in [0, 1], by `tagpr.tasks.metrics.correctness`; `settings.rating` may choose exact ratings.

    The paper says accuracy for classification, its ratings among them, and ROUGE for texts, not which ROUGE.
    """
    value = correctness(task, answer, target)
    exact = task.kind is Kind.RATING and settings is not None and settings.rating == "exact"
    return float(value == 1) if exact else value


def metrics_reward(task: Task, answer: str, target: str) -> float:
    """R_v in [0, 1] of a card with several metrics: their mean, of those that are best at 1 (0 for an empty answer).

    Exact match alone does not tell a near miss from nonsense; with edit similarity beside it, it does.
    """
    values = [value for name, value in score_one(task, answer, target).items() if higher_is_better(name)]
    return sum(values) / len(values) if values and answer.strip() else 0.0


def find_verifiable(settings: RewardSettings, folder: Path = Path()) -> Verifiable:
    """The R_v that a recipe names; a user's own file is relative to `folder`, the recipe's.

    Raises RecipeError if it cannot be loaded or is no function.
    """
    if settings.verifiable == "correctness":
        return partial(verifiable_reward, settings=settings)
    if settings.verifiable == "metrics":
        return metrics_reward
    own = load_own(settings.verifiable, "rewards", folder)
    if not callable(own):
        raise RecipeError(f"rewards: {settings.verifiable}: no function; write one of (task, answer, target)")
    return cast(Verifiable, own)

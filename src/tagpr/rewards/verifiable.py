"""R_v, the verifiable reward (eq. 6): how good the answer is, by the card's own measure."""

from tagpr.rewards.settings import RewardSettings
from tagpr.tasks.metrics import correctness
from tagpr.tasks.types import Kind, Task


def verifiable_reward(task: Task, answer: str, target: str, settings: RewardSettings | None = None) -> float:
    """R_v(y, y*) in [0, 1]: `tagpr.tasks.metrics.correctness`; of ratings, `settings.rating` may ask for exact hits.

    The paper says accuracy for classification, its ratings among them, and ROUGE for texts, not which ROUGE.
    """
    value = correctness(task, answer, target)
    exact = task.kind is Kind.RATING and settings is not None and settings.rating == "exact"
    return float(value == 1) if exact else value

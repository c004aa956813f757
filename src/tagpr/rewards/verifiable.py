"""R_v, the verifiable reward (eq. 6): accuracy for choices and labels, ROUGE for text, a stated choice for ratings."""

from tagpr.rewards.settings import RewardSettings
from tagpr.tasks.metrics import mean_rouge, score_one
from tagpr.tasks.types import Kind, Task


def verifiable_reward(task: Task, answer: str, target: str, settings: RewardSettings | None = None) -> float:
    """R_v(y, y*) in [0, 1].

    Choice, label: 1 iff the answer is the target. Text: the card's mean of ROUGE-1 and ROUGE-L F, over its tokens (the
    paper says ROUGE, not which). Rating: `settings.rating`; an answer that is no number counts as the extreme farther
    from the target, as in LaMP's evaluator, and answers beyond the scale earn 0 at least.
    """
    if not answer.strip():
        return 0.0
    if task.kind is Kind.TEXT:
        return mean_rouge(task, answer, target)
    scores = score_one(task, answer, target)
    if task.kind is Kind.RATING:
        graded = settings is None or settings.rating == "graded"
        largest = float(task.labels[-1]) - float(task.labels[0])
        return max(0.0, 1 - scores["mae"] / largest) if graded else float(scores["mae"] == 0)
    return scores["accuracy"]

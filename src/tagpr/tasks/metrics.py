"""Scores of answers, by the rules of LaMP's official evaluator.

Answers and targets are stripped. Choice and label: exact, case-sensitive; an answer outside the label list is class -1,
hence wrong; F1 is macro over the fixed label list. Rating: `float()`; what does not parse counts as the extreme of the
scale farther from the target (a tie goes to the upper one); no clipping. Text: ROUGE F without stemmer, one reference.
A card may add `answer_rules` (quotes, final stop, case), which LaMP's own cards do not. Not here: significance
(`tagpr.evaluation`) and the RL reward (`tagpr.rewards`).
"""

import math
from collections.abc import Sequence

from tagpr.tasks.meteor import meteor
from tagpr.tasks.rouge import rouge
from tagpr.tasks.types import Kind, Task

_QUOTES = "\"'`\u201c\u201d\u2018\u2019"
_LARGEST_RATING = 1e6  # beyond this a "rating" is noise (and its square would swamp every mean)


def normalise_answer(task: Task, answer: str) -> str:
    """Strip `answer` and apply the task's `answer_rules` in order."""
    answer = answer.strip()
    for rule in task.answer_rules:
        if rule == "unquote":
            answer = answer.strip(_QUOTES).strip()
        elif rule == "final_stop":
            answer = answer.rstrip(".").rstrip()
        elif rule == "casefold":
            answer = answer.casefold()
    return answer


def parse_rating(task: Task, answer: str, target: float) -> float:
    """`answer` as a number; what is no finite number counts as the end of the scale farther from `target`."""
    try:
        value = float(answer)
    except ValueError:
        value = math.nan
    if math.isfinite(value) and abs(value) <= _LARGEST_RATING:
        return value
    low, high = float(task.labels[0]), float(task.labels[-1])
    return low if abs(target - low) > abs(target - high) else high


def score_one(task: Task, answer: str, target: str) -> dict[str, float]:
    """Scores of one answer: choice and label `{"accuracy"}`, rating `{"mae", "mse"}`, text `{"rouge1", "rougeL"}` and
    `meteor` where the card lists it."""
    answer = normalise_answer(task, answer)
    target = normalise_answer(task, target)
    if task.kind is Kind.TEXT:
        rouge1, rouge_l = rouge(answer, target, task.rouge_tokens)
        scores = {"rouge1": rouge1, "rougeL": rouge_l}
        if "meteor" in task.metrics:
            scores["meteor"] = meteor(answer, target, task.rouge_tokens)
        return scores
    if task.kind is Kind.RATING:
        error = parse_rating(task, answer, float(target)) - float(target)
        return {"mae": abs(error), "mse": error * error}
    return {"accuracy": float(answer == target and answer in label_set(task))}


def mean_rouge(task: Task, answer: str, target: str) -> float:
    """The one number of a text: `rouge_mix` ROUGE-1 F + (1 - `rouge_mix`) ROUGE-L F over the card's `rouge_tokens`."""
    rouge1, rouge_l = rouge(normalise_answer(task, answer), normalise_answer(task, target), task.rouge_tokens)
    return task.rouge_mix * rouge1 + (1 - task.rouge_mix) * rouge_l


def score_all(task: Task, answers: Sequence[str], targets: Sequence[str]) -> dict[str, float]:
    """Corpus metrics: choice and label accuracy, f1 (macro) and for choice f1_positive; rating mae, rmse, mse; text the
    means of `score_one`. Raises ValueError on empty or unequal lists."""
    if len(answers) != len(targets) or not targets:
        raise ValueError(f"{len(answers)} answers for {len(targets)} targets; both must be the same number, at least 1")
    rows = [score_one(task, answer, target) for answer, target in zip(answers, targets, strict=True)]
    means = {name: math.fsum(row[name] for row in rows) / len(rows) for name in rows[0]}
    if task.kind is Kind.RATING:
        return {"mae": means["mae"], "rmse": math.sqrt(means["mse"]), "mse": means["mse"]}
    if task.kind in (Kind.LABEL, Kind.CHOICE):
        per_label = label_f1(task, answers, targets)
        means["f1"] = math.fsum(per_label.values()) / len(per_label)
        if task.kind is Kind.CHOICE:
            # LaMP's evaluator numbers [1], [2] as classes 0, 1; the positive class of a binary F1 is class 1.
            means["f1_positive"] = list(per_label.values())[1]
    return means


def label_set(task: Task) -> set[str]:
    """The task's labels, normalised like answers."""
    return {normalise_answer(task, label) for label in task.labels}


def label_f1(task: Task, answers: Sequence[str], targets: Sequence[str]) -> dict[str, float]:
    """F1 of each label of the card, 0 for one that is neither predicted nor asked (sklearn's `zero_division=0`)."""
    scores: dict[str, float] = {}
    pairs = [
        (normalise_answer(task, answer), normalise_answer(task, target))
        for answer, target in zip(answers, targets, strict=True)
    ]
    for label in task.labels:
        name = normalise_answer(task, label)
        hits = sum(answer == name and target == name for answer, target in pairs)
        predicted = sum(answer == name for answer, _ in pairs)
        asked = sum(target == name for _, target in pairs)
        scores[label] = 2 * hits / (predicted + asked) if predicted + asked else 0.0
    return scores

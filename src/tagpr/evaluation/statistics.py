"""Metrics as functions of sums of per-example numbers, so that a resample is one weighted sum.

accuracy = Σ hit / n; macro-F1 = mean over labels of 2 Σ hit_l / (Σ predicted_l + Σ asked_l); RMSE = √(Σ e² / n).
The definitions are `tagpr.tasks.metrics`'; a test holds the two equal.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tagpr.statistics import Floats
from tagpr.tasks.metrics import normalise_answer, score_one
from tagpr.tasks.types import Kind, Task

LOWER_IS_BETTER = frozenset({"mae", "rmse", "mse"})


@dataclass(frozen=True)
class Statistic:
    """One metric: per-example columns (n, c) and how their sums (…, c) over N (…) examples give its value (…)."""

    columns: Floats
    value: Callable[[Floats, Floats], Floats]


def mean(values: Sequence[float] | Floats) -> Statistic:
    """The plain mean of one number an example."""
    return Statistic(np.asarray(values, dtype=np.float64)[:, None], lambda sums, count: sums[..., 0] / count)


def task_statistics(task: Task, answers: Sequence[str], targets: Sequence[str]) -> dict[str, Statistic]:
    """Every metric of `tagpr.tasks.metrics.score_all` for these answers, as statistics, in the same order."""
    rows = [score_one(task, answer, target) for answer, target in zip(answers, targets, strict=True)]
    found = {name: mean([row[name] for row in rows]) for name in rows[0]}
    if task.kind is Kind.RATING:
        mse = found.pop("mse")
        root = Statistic(mse.columns, lambda sums, count: np.sqrt(sums[..., 0] / count))
        return {**found, "rmse": root, "mse": mse}
    if task.kind in (Kind.LABEL, Kind.CHOICE):
        hits_NL, asked_NL = _label_counts(task, answers, targets)
        columns = np.hstack([hits_NL, asked_NL])
        found["f1"] = Statistic(columns, lambda sums, count: _label_f1(sums).mean(-1))
        if task.kind is Kind.CHOICE:
            found["f1_positive"] = Statistic(columns, lambda sums, count: _label_f1(sums)[..., 1])
    return found


def _label_counts(task: Task, answers: Sequence[str], targets: Sequence[str]) -> tuple[Floats, Floats]:
    """(n, labels): is it a hit of the label; how often the label is predicted or asked (0, 1, 2)."""
    labels = [normalise_answer(task, label) for label in task.labels]
    answered = np.array([[normalise_answer(task, answer) == label for label in labels] for answer in answers])
    asked = np.array([[normalise_answer(task, target) == label for label in labels] for target in targets])
    return (answered & asked).astype(np.float64), answered.astype(np.float64) + asked


def _label_f1(sums: Floats) -> Floats:
    """(…, 2L) sums -> (…, L) F1 of each label, 0 where it is neither predicted nor asked."""
    hits, either = np.split(sums, 2, axis=-1)
    return np.divide(2 * hits, either, out=np.zeros_like(hits), where=either > 0)


def values(statistics: Mapping[str, Statistic]) -> dict[str, float]:
    """The metrics on the examples themselves."""
    return {
        name: float(statistic.value(statistic.columns.sum(0), np.float64(len(statistic.columns))))
        for name, statistic in statistics.items()
    }

"""From scores of single answers to the metric of a set: functions of sums, so that a resample is one weighted sum.

mean = Σ x / n; RMSE = √(Σ x² / n); macro-F1 = mean over labels of 2 Σ hit_l / (Σ predicted_l + Σ asked_l).

An `Aggregate` makes columns (n, c), one row an answer, and gives the metric's value (…) from the columns' sums (…, c)
and the number of answers (…).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tagpr.statistics import Floats
from tagpr.tasks.answers import normalise_answer
from tagpr.tasks.types import Task


@dataclass(frozen=True)
class Aggregate:
    """How a metric of many answers follows from them; see the module's docstring for the shapes."""

    columns: Callable[[Floats, Task, Sequence[str], Sequence[str]], Floats]
    """(scores of the single answers (n,), task, answers, targets) -> columns (n, c)."""
    value: Callable[[Floats, Floats], Floats]
    """(sums (…, c), count (…)) -> the metric (…)."""


def _label_counts(_: Floats, task: Task, answers: Sequence[str], targets: Sequence[str]) -> Floats:
    """(n, 2 labels): is it a hit of the label (0, 1); how often the label is predicted or the target (0, 1, 2)."""
    labels_L = np.array([normalise_answer(task, label) for label in task.labels], dtype=object)
    answered_NL = np.array([normalise_answer(task, answer) for answer in answers], dtype=object)[:, None] == labels_L
    asked_NL = np.array([normalise_answer(task, target) for target in targets], dtype=object)[:, None] == labels_L
    return np.hstack([answered_NL & asked_NL, answered_NL.astype(np.float64) + asked_NL]).astype(np.float64)


def _label_f1(sums: Floats) -> Floats:
    """(…, 2L) sums -> (…, L) F1 of each label, 0 for one that is neither predicted nor right (as `zero_division=0`)."""
    hits, either = np.split(sums, 2, axis=-1)
    return np.divide(2 * hits, either, out=np.zeros_like(hits), where=either > 0)


MEAN = Aggregate(lambda scores, *_: scores[:, None], lambda sums, count: sums[..., 0] / count)
ROOT_MEAN_SQUARE = Aggregate(lambda scores, *_: scores[:, None] ** 2, lambda sums, count: np.sqrt(sums[..., 0] / count))
MACRO_F1 = Aggregate(_label_counts, lambda sums, _: _label_f1(sums).mean(-1))
# LaMP's evaluator numbers [1], [2] as classes 0, 1; the positive class of a binary F1 is class 1.
POSITIVE_F1 = Aggregate(_label_counts, lambda sums, _: _label_f1(sums)[..., 1])

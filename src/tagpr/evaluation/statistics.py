"""Metrics as functions of sums of per-example numbers, so that a resample is one weighted sum.

The metrics are `tagpr.tasks.metrics`', their sums and values `tagpr.tasks.aggregate`'s.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tagpr.statistics import Floats
from tagpr.tasks.metrics import METRICS
from tagpr.tasks.types import Task


@dataclass(frozen=True)
class Statistic:
    """One metric: per-example columns (n, c) and how their sums (…, c) over N (…) examples give its value (…)."""

    columns: Floats
    value: Callable[[Floats, Floats], Floats]


def mean(values: Sequence[float] | Floats) -> Statistic:
    """The plain mean of one number per example."""
    return Statistic(np.asarray(values, dtype=np.float64)[:, None], lambda sums, count: sums[..., 0] / count)


def share(parts: Sequence[float], wholes: Sequence[float]) -> Statistic:
    """The sum of the parts over the sum of the wholes; 0 if a resample has none."""
    columns = np.column_stack([np.asarray(parts, np.float64), np.asarray(wholes, np.float64)])
    return Statistic(columns, lambda sums, count: sums[..., 0] / np.maximum(sums[..., 1], 1))


def task_statistics(task: Task, answers: Sequence[str], targets: Sequence[str]) -> dict[str, Statistic]:
    """The card's metrics of these answers as statistics, in the card's order."""
    metrics = [METRICS[name] for name in task.metrics]
    return {metric.name: Statistic(metric.over(task, answers, targets), metric.aggregate.value) for metric in metrics}

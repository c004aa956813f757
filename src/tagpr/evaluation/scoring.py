"""One task's block of `metrics.json`: every system's scores, with bootstrap intervals of every difference.

    {"n", "users", "metric", "kind", "systems": {SYSTEM: {METRIC: value, "format_rate", "chain_tokens"}},
     "intervals": {SYSTEM: {METRIC: {"mean", "low", "high"}}},
     "difference_to_base": {SYSTEM: {METRIC: {"mean", "low", "high"}}},
     "differences": {"A - B": {METRIC: {"mean", "low", "high"}}},
     "sanity": {ROW: {METRIC: value}}}
A run's `metrics.json` adds "by_history_length": {SYSTEM: rows of `tagpr.evaluation.analyses.by_history_length`}.

Works on predictions alone: no model, no prompt. Users are what is resampled (`tagpr.statistics`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tagpr.errors import RunError
from tagpr.evaluation.predictions import Prediction
from tagpr.evaluation.settings import EvaluationSettings
from tagpr.evaluation.statistics import Statistic, mean, task_statistics, values
from tagpr.statistics import Floats, bootstrap_sums, percentile_interval
from tagpr.tasks.types import Task

OTHER_HISTORY = "final-other-history"
PAIRS = (("final", "sft"), ("final", "guided"), ("guided", "sft"), ("final", OTHER_HISTORY))
"""Differences reported besides those to base, where both systems are there."""


def score_task(
    task: Task,
    predictions: Mapping[str, Sequence[Prediction]],
    sanity: Mapping[str, Sequence[str]] | None = None,
    settings: EvaluationSettings | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """One task's block of metrics.json. All systems must answer the same examples, in the same order.

    Raises RunError where they do not.
    """
    scores = Scores(task, predictions, sanity or {}, settings or EvaluationSettings(), seed)
    pairs = [(a, b) for a, b in PAIRS if a in predictions and b in predictions]
    pairs += [("final", row) for row in sanity or {} if "final" in predictions]
    return {
        **scores.about(),
        "systems": {name: scores.points[name] for name in predictions},
        "intervals": {name: scores.intervals(name) for name in scores.points},
        "difference_to_base": {
            name: scores.difference(name, "base") for name in predictions if name != "base" and "base" in predictions
        },
        "differences": {f"{a} - {b}": scores.difference(a, b) for a, b in pairs},
        "sanity": {name: scores.points[name] for name in sanity or {}},
    }


class Scores:
    """Every metric of several systems on the same examples: `points`, and all on the same resamples of users."""

    def __init__(
        self,
        task: Task,
        predictions: Mapping[str, Sequence[Prediction]],
        answers: Mapping[str, Sequence[str]],
        settings: EvaluationSettings,
        seed: int,
    ) -> None:
        """answers: further systems by their bare answers. Raises RunError where systems answered other examples."""
        first_name = next(iter(predictions))
        first = predictions[first_name]
        for name, rows in predictions.items():
            if [row.id for row in rows] != [row.id for row in first]:
                raise RunError(
                    f"predictions of '{name}' and '{first_name}' on {task.name} are about different examples"
                )
        targets, self.users = [row.target for row in first], [row.user_id for row in first]
        statistics = {name: _system_statistics(task, rows, targets) for name, rows in predictions.items()}
        statistics |= {name: task_statistics(task, row, targets) for name, row in answers.items()}
        self.task, self.level = task, settings.level
        self.points = {name: values(columns) for name, columns in statistics.items()}
        self.samples = _resampled(statistics, self.users, settings.resamples, seed)

    def about(self) -> dict[str, Any]:
        """What the scores are of: number of examples and users, main metric, kind of task."""
        users = self.users
        return {
            "n": len(users),
            "users": len(set(users)),
            "metric": self.task.metrics[0],
            "kind": str(self.task.kind),
        }

    def intervals(self, name: str) -> dict[str, dict[str, float]]:
        """Each metric of a system with its interval."""
        return {
            metric: percentile_interval(self.points[name][metric], sample, self.level).as_dict()
            for metric, sample in self.samples[name].items()
        }

    def difference(self, a: str, b: str) -> dict[str, dict[str, float]]:
        """Each metric of `a` minus that of `b`, with the paired interval."""
        points, samples = self.points, self.samples
        return {
            metric: percentile_interval(
                points[a][metric] - points[b][metric], samples[a][metric] - samples[b][metric], self.level
            ).as_dict()
            for metric in points[a]
            if metric in points[b]
        }


def _system_statistics(task: Task, rows: Sequence[Prediction], targets: Sequence[str]) -> dict[str, Statistic]:
    return {
        **task_statistics(task, [row.answer for row in rows], targets),
        "format_rate": mean([float(row.format_ok) for row in rows]),
        "chain_tokens": mean([row.chain_tokens for row in rows]),
    }


def _resampled(
    statistics: Mapping[str, Mapping[str, Statistic]], users: Sequence[str], resamples: int, seed: int
) -> dict[str, dict[str, Floats]]:
    """Every metric of every system on every resample: {system: {metric: (resamples,)}}, all on the same draws."""
    blocks = [statistic.columns for metrics in statistics.values() for statistic in metrics.values()]
    sums = bootstrap_sums(np.hstack([np.ones((len(users), 1)), *blocks]), users, resamples, seed)
    count, position = sums[:, 0], 1
    found: dict[str, dict[str, Floats]] = {}
    for name, metrics in statistics.items():
        found[name] = {}
        for metric, statistic in metrics.items():
            width = statistic.columns.shape[1]
            found[name][metric] = statistic.value(sums[:, position : position + width], count)
            position += width
    return found

"""One task's block of `metrics.json`: every system's scores, with bootstrap intervals of every difference.

    {"n", "users", "metric", "kind", "systems": {SYSTEM: {METRIC: value, "format_rate", "chain_tokens"}},
     "intervals": {SYSTEM: {METRIC: {"mean", "low", "high"}}},
     "difference_to_base": {SYSTEM: {METRIC: {"mean", "low", "high"}}},
     "differences": {"A - B": {METRIC: {"mean", "low", "high"}}},
     "sanity": {ROW: {METRIC: value}}}

Works on predictions alone: no model, no prompt. Users are what is resampled (`tagpr.evaluation.bootstrap`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tagpr.errors import RunError
from tagpr.evaluation.bootstrap import Floats, bootstrap_sums, percentile_interval
from tagpr.evaluation.predictions import Prediction
from tagpr.evaluation.settings import EvaluationSettings
from tagpr.evaluation.statistics import Statistic, mean, task_statistics, values
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
    settings = settings or EvaluationSettings()
    systems = list(predictions)
    first = predictions[systems[0]]
    for name in systems:
        if [row.id for row in predictions[name]] != [row.id for row in first]:
            raise RunError(f"predictions of '{name}' and '{systems[0]}' on {task.name} are about different examples")
    targets = [row.target for row in first]
    statistics = {name: _system_statistics(task, rows, targets) for name, rows in predictions.items()}
    sanity_statistics = {name: task_statistics(task, row, targets) for name, row in (sanity or {}).items()}
    users = [row.user_id for row in first]
    everyone = {**statistics, **sanity_statistics}
    samples = _resampled(everyone, users, settings.resamples, seed)
    points = {name: values(columns) for name, columns in everyone.items()}

    def difference(a: str, b: str) -> dict[str, dict[str, float]]:
        return {
            metric: percentile_interval(
                points[a][metric] - points[b][metric], samples[a][metric] - samples[b][metric], settings.level
            ).as_dict()
            for metric in points[a]
            if metric in points[b]
        }

    pairs = [(a, b) for a, b in PAIRS if a in statistics and b in statistics]
    pairs += [("final", row) for row in sanity_statistics if "final" in statistics]
    return {
        "n": len(first),
        "users": len(set(users)),
        "metric": task.metrics[0],
        "kind": str(task.kind),
        "systems": {name: points[name] for name in statistics},
        "intervals": {
            name: {
                m: percentile_interval(points[name][m], s, settings.level).as_dict() for m, s in samples[name].items()
            }
            for name in everyone
        },
        "difference_to_base": {
            name: difference(name, "base") for name in statistics if name != "base" and "base" in statistics
        },
        "differences": {f"{a} - {b}": difference(a, b) for a, b in pairs},
        "sanity": {name: points[name] for name in sanity_statistics},
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

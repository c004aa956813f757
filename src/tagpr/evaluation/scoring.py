"""Answers -> `Results`: every system's metrics with intervals, and its differences to the references.

Works on predictions alone: no model, no prompt. Users are what is resampled (`tagpr.statistics`); all systems and
metrics of a task are read off the same resamples.
"""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from tagpr.errors import RunError
from tagpr.evaluation.breakdown import by_history_length
from tagpr.evaluation.groups import group_of, published_as
from tagpr.evaluation.predictions import Prediction
from tagpr.evaluation.published import published
from tagpr.evaluation.results import (
    CHAIN_TOKENS,
    EVIDENCE_PRECISION,
    FORMAT_RATE,
    Results,
    SystemRow,
    SystemScores,
    TaskResults,
)
from tagpr.evaluation.settings import EvaluationSettings
from tagpr.evaluation.statistics import Statistic, mean, share, task_statistics, values
from tagpr.statistics import Bootstrap, Floats, bootstrap_sums, percentile_intervals
from tagpr.systems.cost import Cost
from tagpr.tasks.metrics import higher_is_better
from tagpr.tasks.rubric_target import RUBRIC, WIN_RATE
from tagpr.tasks.types import Example, Task


@dataclass
class SystemAnswers:
    """One system's answers to the held-out examples of the tasks it covers, and what they cost."""

    name: str
    system: str = ""  # its name in the registry, `api:MODEL`, `file.py:Class`; the row's name if empty
    reasons: bool = True
    predictions: dict[str, Sequence[Prediction]] = field(default_factory=dict)  # by task, complete ones only
    fit: Cost = field(default_factory=Cost)
    answer: dict[str, Cost] = field(default_factory=dict)  # by task
    notes: dict[str, dict[str, int]] = field(default_factory=dict)  # by task
    failure: str = ""  # one line; "" if all went well

    def row(self) -> SystemRow:
        """The system's row of a table."""
        spec = self.system or self.name
        return SystemRow(self.name, spec, group_of(spec), self.reasons, self.failure, Cost(**asdict(self.fit)))


def score(
    tasks: Mapping[str, Task],
    systems: Sequence[SystemAnswers],
    references: Sequence[str] = ("base",),
    settings: EvaluationSettings | None = None,
    seed: int = 0,
    heldout: Mapping[str, Sequence[Example]] | None = None,
) -> Results:
    """The results of `systems` on `tasks`, rows and tasks in the order given, without tasks that no system answered.

    references: rows that every other system is compared with, as far as they are there. heldout: the examples, for the
    breakdown by history length against the first reference. Raises RunError if two systems answered other examples.
    """
    settings = settings or EvaluationSettings()
    draws = Bootstrap(settings.resamples, seed, settings.level)
    found = {}
    for name, task in tasks.items():
        answered = [system for system in systems if name in system.predictions]
        if answered:
            examples = (heldout or {}).get(name, ())
            block = _score_task(task, answered, references, draws, examples)
            found[name] = replace(block, published=_published(name, systems))
    source = published().source if any(block.published for block in found.values()) else ""
    return Results(tuple(system.row() for system in systems), found, source)


def _score_task(
    task: Task,
    systems: Sequence[SystemAnswers],
    references: Sequence[str],
    draws: Bootstrap,
    heldout: Sequence[Example],
) -> TaskResults:
    predictions = {system.name: system.predictions[task.name] for system in systems}
    users = [row.user_id for row in next(iter(predictions.values()))]
    scores = _Scores(task, predictions, users, draws)
    against = [name for name in references if name in predictions]
    histories = {}
    if against and heldout:
        base = predictions[against[0]]
        histories = {
            name: by_history_length(rows, base, heldout) for name, rows in predictions.items() if name != against[0]
        }
    return TaskResults(
        n=len(users),
        users=len(set(users)),
        metric=task.metrics[0],
        kind=str(task.kind),
        metrics=tuple(task.metrics),
        lower_is_better=tuple(name for name in task.metrics if not higher_is_better(name)),
        systems={
            system.name: SystemScores(
                scores.points[system.name],
                percentile_intervals(scores.points[system.name], scores.samples[system.name], draws.level),
                system.answer.get(task.name, Cost()),
                system.notes.get(task.name, {}),
                histories.get(system.name, ()),
            )
            for system in systems
        },
        differences={
            reference: {
                name: percentile_intervals(*scores.minus(name, reference), draws.level)
                for name in predictions
                if name != reference
            }
            for reference in against
        },
    )


def _published(task: str, systems: Sequence[SystemAnswers]) -> dict[str, Mapping[str, float]]:
    """The paper's values of every row that its table has, failed ones included."""
    rows = {system.name: published().of(published_as(system.system or system.name), task) for system in systems}
    return {name: values for name, values in rows.items() if values}


class _Scores:
    """Every metric of several systems on the same examples: `points`, and all on the same resamples of users."""

    def __init__(
        self,
        task: Task,
        predictions: Mapping[str, Sequence[Prediction]],
        users: Sequence[str],
        draws: Bootstrap,
    ) -> None:
        first_name, first = next(iter(predictions.items()))
        asked, targets = [row.id for row in first], [row.target for row in first]
        statistics = {}
        for name, rows in predictions.items():
            columns = _Columns(rows)
            if len(rows) != len(asked) or not columns.about(asked):
                raise RunError(
                    f"predictions of '{name}' and '{first_name}' on {task.name} are about different examples; "
                    "answer both again with the same data and evaluate.limit"
                )
            statistics[name] = _statistics(task, columns, targets)
        self.points = {name: values(columns) for name, columns in statistics.items()}
        self.samples = _resampled(statistics, users, draws)

    def minus(self, a: str, b: str) -> tuple[dict[str, float], dict[str, Floats]]:
        """Points and samples of system `a` less those of `b`, of the metrics that both have."""
        points = {
            name: value - self.points[b][name] for name, value in self.points[a].items() if name in self.points[b]
        }
        return points, {name: self.samples[a][name] - self.samples[b][name] for name in points}


class _Columns:
    """What is counted of a system's predictions, read off them in one pass."""

    def __init__(self, rows: Sequence[Prediction]) -> None:
        self.ids: list[str] = []
        self.answers: list[str] = []
        self.well_formed, self.chain_tokens, self.claims, self.true_claims = (array("d") for _ in range(4))
        self.marks = {name: array("d") for name in (RUBRIC, WIN_RATE)}
        """Judges' scores, of a task that they have marked."""
        for row in rows:
            self.ids.append(row.id)
            self.answers.append(row.answer)
            self.well_formed.append(row.format_ok)
            self.chain_tokens.append(row.chain_tokens)
            self.claims.append(row.claims)
            self.true_claims.append(row.true_claims)
            for name, column in self.marks.items():
                if name in row.scores:
                    column.append(row.scores[name])

    def about(self, asked: Sequence[str]) -> bool:
        """Whether these are answers to the examples `asked`, in their order."""
        return self.ids == asked


def _statistics(task: Task, columns: _Columns, targets: Sequence[str]) -> dict[str, Statistic]:
    found = {
        **task_statistics(task, columns.answers, targets),
        FORMAT_RATE: mean(columns.well_formed),
        CHAIN_TOKENS: mean(columns.chain_tokens),
    }
    for name, column in columns.marks.items():
        if len(column) == len(columns.answers):
            found[name] = mean(column)
        elif name in task.metrics:
            raise RunError(f"answers to {task.name} are not marked by judges; add the block judge to the recipe")
    if any(columns.claims):
        found[EVIDENCE_PRECISION] = share(columns.true_claims, columns.claims)
    return found


def _resampled(
    statistics: Mapping[str, Mapping[str, Statistic]], users: Sequence[str], draws: Bootstrap
) -> dict[str, dict[str, Floats]]:
    """Every metric of every system on every resample: {system: {metric: (resamples,)}}, all on the same draws."""
    blocks = [statistic.columns for metrics in statistics.values() for statistic in metrics.values()]
    sums = bootstrap_sums(np.hstack([np.ones((len(users), 1)), *blocks]), users, draws)
    count, position = sums[:, 0], 1
    found: dict[str, dict[str, Floats]] = {}
    for name, metrics in statistics.items():
        found[name] = {}
        for metric, statistic in metrics.items():
            width = statistic.columns.shape[1]
            found[name][metric] = statistic.value(sums[:, position : position + width], count)
            position += width
    return found

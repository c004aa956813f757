"""The last systems of several runs, side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tagpr.evaluation.predictions import Prediction
from tagpr.evaluation.results import SystemScores, TaskResults
from tagpr.evaluation.scoring import SystemAnswers, score
from tagpr.report.tables.cells import label, readable, readable_interval
from tagpr.report.tables.table import Cell, Row, Table
from tagpr.statistics import Interval
from tagpr.tasks.types import Task

LAST = ("final", "guided", "sft", "base")
"""The system that represents a run: the first of these that it has."""


@dataclass(frozen=True)
class RunOnTask:
    """What one run has of a task."""

    name: str  # of the run
    results: TaskResults
    predictions: Mapping[str, Sequence[Prediction]]  # by system

    @property
    def last(self) -> str:
        """The system that represents the run."""
        return next((system for system in LAST if system in self.results.systems), next(iter(self.results.systems)))

    @property
    def answers(self) -> Sequence[Prediction]:
        """Its predictions."""
        return self.predictions.get(self.last, ())


def difference_to_first(task: Task | None, run: RunOnTask, first: RunOnTask) -> Interval | None:
    """The run's last system minus the first run's in the main metric; None if they answered other questions."""
    same = [row.id for row in run.answers] == [row.id for row in first.answers]
    if task is None or run is first or not run.answers or not same:
        return None
    answered = [SystemAnswers(name, predictions={task.name: one.answers}) for name, one in (("0", first), ("1", run))]
    return score({task.name: task}, answered, ("0",)).tasks[task.name].difference("1", "0")


def runs_table(name: str, runs: Sequence[RunOnTask], changes: Sequence[Interval | None]) -> Table:
    """One line per run: its last system, Base's main metric, every metric, and the difference to the first run."""
    metric, columns, rows = runs[0].results.metric, runs[0].results.columns(), []
    for run, change in zip(runs, changes, strict=True):
        base: SystemScores | None = run.results.systems.get("base")
        points = run.results.systems[run.last].points
        cells = [Cell(label(run.last)), Cell(readable(metric, base.points.get(metric) if base else None))]
        cells += [Cell(readable(column, points.get(column))) for column in columns]
        text = readable_interval(metric, change, signed=True)
        cells.append(Cell(text, better=run.results.better(change, metric)))
        rows.append(Row(run.name, tuple(cells), run.last))
    header = ("System", "Base", *(label(column) for column in columns), f"Δ {label(metric)}")
    return Table(name, "Run", header, tuple(rows))

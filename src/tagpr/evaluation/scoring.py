"""Answers -> `Results`: every system's metrics with intervals, and its differences to the references.

Works on predictions alone: no model, no prompt. Users are what is resampled (`tagpr.statistics`); all systems and
metrics of a task are read off the same resamples.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tagpr.errors import RunError
from tagpr.evaluation.breakdown import by_history_length
from tagpr.evaluation.columns import Part, packed_exactly, read_columns
from tagpr.evaluation.groups import group_of, published_as
from tagpr.evaluation.predictions import Prediction
from tagpr.evaluation.published import published
from tagpr.evaluation.results import CUT_OFF, Results, SystemRow, SystemScores, TaskResults
from tagpr.evaluation.settings import EvaluationSettings
from tagpr.sorting import numbered
from tagpr.statistics import Bootstrap, Floats, cluster_sums, percentile_intervals, resampled_sums
from tagpr.systems.cost import Cost
from tagpr.tasks.metrics import higher_is_better
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
    users = numbered(row.user_id for row in next(iter(predictions.values())))
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
        users=int(users.max()) + 1,
        metric=task.metrics[0],
        kind=str(task.kind),
        metrics=tuple(task.metrics),
        lower_is_better=tuple(name for name in task.metrics if not higher_is_better(name)),
        systems={
            system.name: SystemScores(
                scores.points[system.name],
                percentile_intervals(scores.points[system.name], scores.samples[system.name], draws.level),
                system.answer.get(task.name, Cost()),
                system.notes.get(task.name, {}) | scores.notes[system.name],
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
        users: NDArray[np.int64],
        draws: Bootstrap,
    ) -> None:
        """users: (n,) number of each example's user."""
        self.points: dict[str, dict[str, float]] = {}
        self.notes: dict[str, dict[str, int]] = {}
        parts: dict[str, tuple[Part, ...]] = {}
        waiting, asked = _SumsOnDisk(), ""
        waiting.add(counts_U1 := cluster_sums(np.ones((len(users), 1)), users))
        for name, rows in predictions.items():
            columns = read_columns(task, rows)
            asked = asked or columns.asked
            if len(rows) != len(users) or columns.asked != asked:
                raise RunError(
                    f"predictions of '{name}' and '{next(iter(predictions))}' on {task.name} are about different "
                    "examples; answer both again with the same data and evaluate.limit"
                )
            self.points[name], parts[name] = columns.points(), columns.parts
            self.notes[name] = {CUT_OFF: columns.cut_off} if columns.cut_off else {}
            for slab in columns.slabs():
                waiting.add(cluster_sums(slab, users))
        count, *sums = resampled_sums(waiting, len(counts_U1), draws)
        self.samples = _samples(parts, np.hstack(sums), count[:, 0])

    def minus(self, a: str, b: str) -> tuple[dict[str, float], dict[str, Floats]]:
        """Points and samples of system `a` less those of `b`, of the metrics that both have."""
        points = {
            name: value - self.points[b][name] for name, value in self.points[a].items() if name in self.points[b]
        }
        return points, {name: self.samples[a][name] - self.samples[b][name] for name in points}


def _samples(parts: Mapping[str, Sequence[Part]], sums: Floats, count: Floats) -> dict[str, dict[str, Floats]]:
    """Every metric on every resample: {system: {metric: (resamples,)}}. sums: (resamples, columns of all parts)."""
    found: dict[str, dict[str, Floats]] = {}
    first = 0
    for name, own in parts.items():
        found[name] = {}
        for part in own:
            found[name][part.metric] = part.value(sums[:, first : first + len(part.columns)], count)
            first += len(part.columns)
    return found


class _SumsOnDisk:
    """(U, c) sums by user, in a temporary file until they are resampled."""

    def __init__(self) -> None:
        self._file, self._places = tempfile.TemporaryFile(), list[int]()  # noqa: SIM115  # it goes with this object

    def add(self, sums_UC: Floats) -> None:
        """Some more columns."""
        self._places.append(self._file.tell())
        np.save(self._file, packed_exactly(sums_UC))

    def __iter__(self) -> Iterator[Floats]:
        for place in self._places:
            self._file.seek(place)
            yield np.load(self._file).astype(np.float64)

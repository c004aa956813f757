"""Scores below a task's: per user, by history length, by whether the user was trained on. From predictions alone.

`users.csv` (beside `results.json`): task, setting, user_id, questions, system, score; score is the mean of
`Prediction.correctness` over the user's questions, larger is better.
"""

import csv
import io
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from tagpr.evaluation.predictions import Prediction
from tagpr.evaluation.results import HistoryBin
from tagpr.files import write_parts
from tagpr.profiles.history_bins import HISTORY_BINS, history_bin
from tagpr.sorting import Numbering
from tagpr.statistics import Bootstrap, Interval, paired_bootstrap
from tagpr.tasks.types import Example

HEADER = ("task", "setting", "user_id", "questions", "system", "score")
Pairs = list[tuple[Prediction, Prediction]]
"""(of the system, of the reference) on the same question."""


@dataclass(frozen=True)
class Subset:
    """The difference between two systems on a part of the questions."""

    n: int
    difference: Interval


@dataclass(frozen=True)
class Loser:
    """A user whose mean score fell."""

    user_id: str
    change: float
    n: int  # questions
    cases: tuple[str, ...]  # ids of the examples that fell, the heaviest fall first


def by_history_length(
    rows: Sequence[Prediction], reference: Sequence[Prediction], examples: Sequence[Example]
) -> tuple[HistoryBin, ...]:
    """Cold start: mean score of both systems and their difference, by number of past items.

    All three in the same order. Raises ValueError if they are about other questions.
    """
    bins = {history_bin(low): _Scores() for low in HISTORY_BINS}
    for (a, b), example in zip(_both(rows, reference), examples, strict=True):
        if example.id != a.id:
            raise ValueError("examples must be those that were answered, in their order")
        bins[history_bin(len(example.profile))].add(a, b)
    return tuple(
        HistoryBin(items, n, sum(part.ours) / n, sum(part.theirs) / n, part.difference())
        for items, part in bins.items()
        if (n := len(part))
    )


def by_seen_user(
    rows: Sequence[Prediction], reference: Sequence[Prediction], trained_on: Collection[str]
) -> dict[str, Subset]:
    """The difference between two systems for `seen` users, who were in training, and `unseen` ones."""
    found = {}
    for name, inside in (("seen", True), ("unseen", False)):
        part = _Scores()
        for a, b in _both(rows, reference):
            if (a.user_id in trained_on) == inside:
                part.add(a, b)
        if len(part):
            found[name] = Subset(len(part), part.difference())
    return found


def who_loses(rows: Sequence[Prediction], reference: Sequence[Prediction]) -> tuple[Loser, ...]:
    """Users whose mean score fell against `reference`, the heaviest loss first."""
    changes: dict[str, list[tuple[float, str]]] = {}
    for a, b in paired(rows, reference):
        changes.setdefault(a.user_id, []).append((a.correctness - b.correctness, a.id))
    losers = [
        Loser(
            user,
            sum(change for change, _ in own) / len(own),
            len(own),
            tuple(case for change, case in sorted(own) if change < 0),
        )
        for user, own in changes.items()
        if sum(change for change, _ in own) < -1e-12
    ]
    return tuple(sorted(losers, key=lambda loser: (loser.change, loser.user_id)))


def write_users(path: Path, answered: Iterable[tuple[str, str, Mapping[str, Sequence[Prediction]]]]) -> None:
    """Write `users.csv` from (task, setting, {system: predictions}); the rows of a user's systems follow each other."""
    write_parts(path, chain([_csv(HEADER)], *(_user_rows(*one) for one in answered)))


def _user_rows(task: str, setting: str, systems: Mapping[str, Sequence[Prediction]]) -> Iterator[str]:
    every, scores = Numbering(), {system: array("d") for system in systems}
    for system, rows in systems.items():
        for row in rows:
            every.add(row.user_id)
            scores[system].append(row.correctness)
    numbers, means, first = every.numbers(), {}, 0
    for system, own in scores.items():
        part = numbers[first : first + len(own)]
        means[system] = np.bincount(part, own), np.bincount(part)
        first += len(own)
    seen, users = 0, int(numbers.max(initial=-1)) + 1
    for number, row in zip(numbers, chain.from_iterable(systems.values()), strict=True):
        if seen == users:
            break
        if number == seen:  # the user's first question
            seen += 1
            for system, (sums, counts) in means.items():
                if number < len(counts) and (n := counts[number]):
                    yield _csv((task, setting, row.user_id, n, system, f"{sums[number] / n:.6g}"))


def _csv(row: Sequence[object]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerow(row)
    return stream.getvalue()


def paired(rows: Sequence[Prediction], others: Sequence[Prediction]) -> Pairs:
    """Both systems' answers question by question. Raises ValueError if they answered other questions."""
    return list(_both(rows, others))


def _both(rows: Sequence[Prediction], others: Sequence[Prediction]) -> Iterator[tuple[Prediction, Prediction]]:
    if len(rows) != len(others):
        raise ValueError("both systems must answer the same questions in the same order")
    for a, b in zip(rows, others, strict=True):
        if a.id != b.id:
            raise ValueError("both systems must answer the same questions in the same order")
        yield a, b


class _Scores:
    """Two systems' scores on a part of the questions."""

    def __init__(self) -> None:
        self.ours, self.theirs = array("d"), array("d")
        self.users = Numbering()

    def __len__(self) -> int:
        return len(self.ours)

    def add(self, a: Prediction, b: Prediction) -> None:
        """One more question: the system's answer and the reference's."""
        self.ours.append(a.correctness)
        self.theirs.append(b.correctness)
        self.users.add(a.user_id)

    def difference(self) -> Interval:
        """The system's minus the reference's."""
        return paired_bootstrap(
            self.ours,
            self.theirs,
            self.users.numbers(),
            Bootstrap(2000),  # coarse: many subsets, each for orientation
        )

"""Scores below a task's: per user, by history length, by whether the user was trained on. From predictions alone.

`users.csv` (beside `results.json`): task, setting, user_id, questions, system, score; score is the mean of
`Prediction.correctness` over the user's questions, larger is better.
"""

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tagpr.evaluation.predictions import Prediction
from tagpr.evaluation.results import HistoryBin
from tagpr.files import write_text
from tagpr.profiles.history_bins import HISTORY_BINS, history_bin
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
    """Cold start: mean score of both systems and their difference, by number of past items."""
    bins: dict[str, Pairs] = {history_bin(low): [] for low in HISTORY_BINS}
    length = {example.id: len(example.profile) for example in examples}
    for pair in paired(rows, reference):
        bins[history_bin(length[pair[0].id])].append(pair)
    return tuple(
        HistoryBin(
            items,
            len(pairs),
            sum(a.correctness for a, _ in pairs) / len(pairs),
            sum(b.correctness for _, b in pairs) / len(pairs),
            _difference(pairs),
        )
        for items, pairs in bins.items()
        if pairs
    )


def by_seen_user(
    rows: Sequence[Prediction], reference: Sequence[Prediction], trained_on: Collection[str]
) -> dict[str, Subset]:
    """The difference between two systems for `seen` users, who were in training, and `unseen` ones."""
    found = {}
    for name, inside in (("seen", True), ("unseen", False)):
        pairs = [pair for pair in paired(rows, reference) if (pair[0].user_id in trained_on) == inside]
        if pairs:
            found[name] = Subset(len(pairs), _difference(pairs))
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


def per_user(rows: Sequence[Prediction]) -> dict[str, list[float]]:
    """A system's scores by user, users in the order of their first question."""
    scores: dict[str, list[float]] = {}
    for row in rows:
        scores.setdefault(row.user_id, []).append(row.correctness)
    return scores


def write_users(path: Path, answered: Iterable[tuple[str, str, Mapping[str, Sequence[Prediction]]]]) -> None:
    """Write `users.csv` from (task, setting, {system: predictions}); the rows of a user's systems follow each other."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(HEADER)
    for task, setting, systems in answered:
        scores = {system: per_user(rows) for system, rows in systems.items()}
        for user in dict.fromkeys(user for by_user in scores.values() for user in by_user):
            for system, by_user in scores.items():
                if own := by_user.get(user):
                    writer.writerow((task, setting, user, len(own), system, f"{sum(own) / len(own):.6g}"))
    write_text(path, stream.getvalue())


def paired(rows: Sequence[Prediction], others: Sequence[Prediction]) -> Pairs:
    """Both systems' answers question by question. Raises ValueError if they answered other questions."""
    if [row.id for row in rows] != [row.id for row in others]:
        raise ValueError("both systems must answer the same questions in the same order")
    return list(zip(rows, others, strict=True))


def _difference(pairs: Pairs) -> Interval:
    return paired_bootstrap(
        [a.correctness for a, _ in pairs],
        [b.correctness for _, b in pairs],
        [a.user_id for a, _ in pairs],
        Bootstrap(2000),  # coarse: many subsets, each for orientation
    )

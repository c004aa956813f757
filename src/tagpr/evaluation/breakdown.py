"""Scores below a task's: of every person, and by length of the history. From predictions alone; no model.

`users.csv` (beside `metrics.json`): task, setting, user_id, questions, system, score; score is the mean of
`Prediction.correctness` over the person's questions, larger is better.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tagpr.evaluation.analyses import by_history_length
from tagpr.evaluation.predictions import Prediction
from tagpr.files import write_text
from tagpr.tasks.types import Example

HEADER = ("task", "setting", "user_id", "questions", "system", "score")


def history_block(systems: Mapping[str, Sequence[Prediction]], examples: Sequence[Example]) -> dict[str, Any]:
    """By system: mean score by number of history items, Base's beside it, and the difference with its interval."""
    base = systems.get("base")
    if base is None:
        return {}
    return {name: by_history_length(rows, base, examples) for name, rows in systems.items() if name != "base"}


def by_user(systems: Mapping[str, Sequence[Prediction]]) -> dict[str, dict[str, Any]]:
    """{user: {"questions": n, "scores": {system: mean score}}}, users in the order of their first question."""
    found: dict[str, dict[str, Any]] = {}
    for system, rows in systems.items():
        scores: dict[str, list[float]] = {}
        for row in rows:
            scores.setdefault(row.user_id, []).append(row.correctness)
        for user, own in scores.items():
            block = found.setdefault(user, {"questions": len(own), "scores": {}})
            block["scores"][system] = sum(own) / len(own)
    return found


def write_users(path: Path, answered: Iterable[tuple[str, str, Mapping[str, Sequence[Prediction]]]]) -> None:
    """Write `users.csv` from (task, setting, {system: predictions})."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(HEADER)
    for task, setting, systems in answered:
        for user, block in by_user(systems).items():
            for system, score in block["scores"].items():
                writer.writerow((task, setting, user, block["questions"], system, f"{score:.6g}"))
    write_text(path, stream.getvalue())

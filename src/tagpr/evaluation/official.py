"""Predictions in the official LaMP output format, so that anybody can score them with the official evaluator.

    {"task": "LaMP_2", "golds": [{"id": "...", "output": "..."}]}

Answers are written as they were parsed, before any `answer_rules`; LaMP's own cards have none.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from tagpr.evaluation.predictions import Prediction
from tagpr.files import write_json
from tagpr.tasks.types import Task


def official_name(task_name: str) -> str:
    """`lamp-2` -> `LaMP_2`; other tasks keep their name."""
    return re.sub(r"^lamp-(\d)$", r"LaMP_\1", task_name)


def write_official(folder: Path, task: Task, rows: Sequence[Prediction]) -> Path:
    """Write `folder/LaMP_k.json` (or the task's own name) and return it."""
    name = official_name(task.name)
    path = folder / f"{name}.json"
    write_json(path, {"task": name, "golds": [{"id": row.id, "output": row.answer} for row in rows]})
    return path

"""How far does the shown history carry on package-changelog? A linear model over counted habits, the cheap rival.

    python benchmarks/changelog_linear.py        # a minute; writes benchmarks/results/changelog-linear.json

One logistic regression per habit (ending, first letter, verb, path, word for upstream): how often and how lately the
shown notes have each value, the first and last word of the question and its length. What it decides is applied to the
neutral text. Exact match on every held-out note, 95% intervals over users, by notes shown and labels learned from, with
the rule "the commonest value" beside it. The quickstart shows 5 notes and learns from 960 labels.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from results_file import write_results
from tagpr.chains.evidence.habits import habit_values
from tagpr.chains.evidence.notes import HABITS, KINDS, chances, render, split
from tagpr.data.load import choose_some, load_splits
from tagpr.data.settings import DataSettings, SourceSettings
from tagpr.statistics import mean_interval, paired_bootstrap
from tagpr.tasks.types import Example, Task

TASK = "package-changelog"
SHOWN, LABELS = (5, 8, 12), (960, 0)
"""Notes shown; labels learned from, 0: all."""


def notes_of(task: Task, example: Example, shown: int) -> list[str]:
    """The latest notes, the latest first."""
    return [entry.fields.get(task.output_name, "") for entry in example.profile[-shown:]][::-1]


def features(notes: Sequence[str], question: str, habit: str, kind: str) -> dict[str, float]:
    """What a habit's model sees of one question."""
    values, words = habit_values(notes, habit, kind), question.lower().split() or [""]
    found = {
        f"kind {kind}": 1.0,
        "unseen": float(not values),
        "words": len(words) / 20,
        "colon": float(":" in question),
    }
    found |= {f"first {words[0]}": 1.0, f"last {words[-1]}": 1.0}
    found |= {f"place {place} {value}": 1.0 for place, value in enumerate(values[:3])}
    for value, count in Counter(values).items():
        found |= {f"share {value}": count / len(values), f"count {value}": float(np.log1p(count))}
        found[f"share {kind} {value}"] = count / len(values)
    for other in KINDS:
        seen = habit_values(notes, habit, other) if habit == "end" and other != kind else ()
        found |= {f"other {other} {value}": count / len(seen) for value, count in Counter(seen).items()}
    return found


def fit(task: Task, train: Sequence[Example], shown: int) -> dict[str, Pipeline]:
    """A model per habit that has two values or more."""
    models = {}
    for habit in HABITS:
        rows, values = [], []
        for example in train:
            neutral, habits = split(example.target or "")
            expected = chances(neutral)
            if habit in expected and habit in habits:
                rows.append(features(notes_of(task, example, shown), example.input, habit, expected[habit]))
                values.append(habits[habit])
        if len(set(values)) > 1:
            models[habit] = make_pipeline(DictVectorizer(), LogisticRegression(C=0.3, max_iter=500)).fit(rows, values)
    return models


def notes(task: Task, models: dict[str, Pipeline], asked: Sequence[Example], shown: int) -> dict[str, list[str]]:
    """The linear model's notes and the rule's; the rule takes the model's word if no shown note has a habit."""
    written: dict[str, list[str]] = {"linear": [], "commonest": []}
    for example in asked:
        past, linear, commonest = notes_of(task, example, shown), {}, {}
        for habit, kind in chances(example.input).items():
            if habit not in models:
                continue
            linear[habit] = str(models[habit].predict([features(past, example.input, habit, kind)])[0])
            values = habit_values(past, habit, kind)
            commonest[habit] = Counter(values).most_common(1)[0][0] if values else linear[habit]
        for name, decided in (("linear", linear), ("commonest", commonest)):
            written[name].append(render(example.input, decided).strip())
    return written


def main() -> None:
    """Measure and write the file."""
    settings = DataSettings(sources=(SourceSettings(task=TASK, min_history=3),))
    splits = load_splits(settings, 0, Path())[TASK]
    task, users = splits.task, [example.user_id for example in splits.heldout]
    figures: dict[str, Any] = {"questions": len(users), "users": len(set(users)), "exact match": {}}
    for labels in LABELS:
        train = choose_some(splits.train, labels, 0)
        for shown in SHOWN:
            written = notes(task, fit(task, train, shown), splits.heldout, shown)
            scores = {
                name: [float(note == one.target) for note, one in zip(own, splits.heldout, strict=True)]
                for name, own in written.items()
            }
            figures["exact match"][f"{shown} notes, {len(train)} labels"] = {
                name: asdict(mean_interval(own, users)) for name, own in scores.items()
            } | {"linear minus commonest": asdict(paired_bootstrap(scores["linear"], scores["commonest"], users))}
    write_results("changelog-linear", "python benchmarks/changelog_linear.py", figures)


if __name__ == "__main__":
    main()

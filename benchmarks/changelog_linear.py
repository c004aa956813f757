"""How far does the shown history carry on package-changelog? A linear model over counted habits, the cheap rival.

    python benchmarks/changelog_linear.py        # a minute; writes benchmarks/results/changelog-linear.json

One logistic regression per habit (ending, first letter, verb, path, word for upstream): how often and how lately the
shown notes have each value, the first and last word of the question and its length. What it decides is applied to the
neutral text. Exact match on every held-out note, 95% intervals over users, by notes shown and labels learned from, with
the rule "the commonest value" and the teacher of the chains beside it, which takes of these models only values that a
shown note has. The quickstart shows 5 notes; until 2026-11-28 it learned from 960 labels.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from results_file import write_results
from tagpr.chains.evidence.habits import habit_values
from tagpr.chains.evidence.notes import chances, render
from tagpr.chains.heuristic.habit_model import HabitModels, latest_notes
from tagpr.chains.heuristic.habits import JudgedHabits
from tagpr.data.load import choose_some, load_splits
from tagpr.data.settings import DataSettings, SourceSettings
from tagpr.statistics import mean_interval, paired_bootstrap
from tagpr.tasks.types import Example, Task

TASK = "package-changelog"
SHOWN, LABELS = (5, 8, 12), (960, 0)
"""Notes shown; labels learned from, 0: all."""


def notes(task: Task, train: Sequence[Example], asked: Sequence[Example], shown: int) -> dict[str, list[str]]:
    """The linear model's notes and the rule's; the rule takes the model's word if no shown note has a habit."""
    models = HabitModels(task, train, shown)
    written: dict[str, list[str]] = {"linear": [], "commonest": []}
    for example in asked:
        past, linear, commonest = latest_notes(task, example, shown), {}, {}
        for habit, kind in chances(example.input).items():
            posterior = models.posterior(example, past, habit, kind)
            if not posterior:
                continue
            linear[habit] = max(posterior, key=posterior.__getitem__)
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
        teacher = JudgedHabits(task, train)
        for shown in SHOWN:
            written = notes(task, train, splits.heldout, shown)
            written["teacher"] = [
                render(one.input, teacher.of(one, one.profile[-shown:][::-1])).strip() for one in splits.heldout
            ]
            scores = {
                name: [float(note == one.target) for note, one in zip(own, splits.heldout, strict=True)]
                for name, own in written.items()
            }
            figures["exact match"][f"{shown} notes, {len(train)} labels"] = {
                name: asdict(mean_interval(own, users)) for name, own in scores.items()
            } | {
                f"{name} minus commonest": asdict(paired_bootstrap(scores[name], scores["commonest"], users))
                for name in ("linear", "teacher")
            }
    write_results("changelog-linear", "python benchmarks/changelog_linear.py", figures)


if __name__ == "__main__":
    main()

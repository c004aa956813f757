"""Trivial baselines of change notes: the neutral text, everybody's habits, the person's own."""

from pathlib import Path

from tagpr.data.load import load_splits
from tagpr.data.settings import DataSettings, SourceSettings
from tagpr.evaluation.evaluate import sanity_answers
from tagpr.tasks import load_task
from tagpr.tasks.metrics import score_all

ROWS = {"neutral-copy", "common-habits", "own-habits"}


def test_the_own_habits_say_most_and_another_persons_less_than_everybodys():
    source = SourceSettings(task="package-changelog", min_history=3)
    split = load_splits(DataSettings(sources=(source,)), 0, Path())["package-changelog"]
    answers = sanity_answers(split.task, split.train, split.heldout)
    targets = [example.target or "" for example in split.heldout]
    exact = {name: score_all(split.task, rows, targets)["exact"] for name, rows in answers.items()}
    assert set(exact) == ROWS
    assert exact["neutral-copy"] < 0.15 < 0.3 < exact["common-habits"] < 0.45 < 0.55 < exact["own-habits"]


def test_other_tasks_have_no_such_rows():
    for name in ("package-section", "package-synopsis", "lamp-5"):
        assert not ROWS & sanity_answers(load_task(name), [], []).keys()

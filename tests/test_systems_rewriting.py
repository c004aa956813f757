"""Trivial baselines of change notes: the neutral text, everybody's habits, the person's own."""

from pathlib import Path

from tagpr.data.load import load_splits
from tagpr.data.settings import DataSettings, SourceSettings
from tagpr.data.split import Splits
from tagpr.evaluation.evaluate import trivial_baselines
from tagpr.tasks import load_task

ROWS = {"neutral-copy", "common-habits", "own-habits"}


def test_the_own_habits_say_most_and_the_neutral_text_least():
    source = SourceSettings(task="package-changelog", min_history=3)
    splits = load_splits(DataSettings(sources=(source,)), 0, Path())["package-changelog"]
    exact = {
        baseline.name: [row.scores["exact"] for row in baseline.predictions["package-changelog"]]
        for baseline in trivial_baselines({"package-changelog": splits})
    }
    assert set(exact) == ROWS
    means = {name: sum(row) / len(row) for name, row in exact.items()}
    assert means["neutral-copy"] < 0.15 < 0.3 < means["common-habits"] < 0.45 < 0.55 < means["own-habits"]


def test_other_tasks_have_no_such_rows():
    for name in ("package-section", "package-synopsis", "lamp-5"):
        assert not ROWS & {baseline.name for baseline in trivial_baselines({name: Splits(load_task(name), [], [])})}

"""benchmarks/rl_over_sft.py: its test questions are strange to training, its groups are counted right."""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import rl_over_sft
from tagpr.pipeline import make
from tagpr.runs import Run

TASK = "package-changelog"
FEW = "data.sources=[{task: package-changelog, min_history: 3, max_train: 60, max_heldout: 8}]"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The quickstart's data with few labels, for a tiny model."""
    opened = Run.open("quickstart", ("model=random:tiny", FEW), tmp_path_factory.mktemp("runs"))
    make(opened, "data")
    return opened


def test_test_questions_are_neither_trained_on_nor_shown_in_training(run):
    splits = run.data[TASK]
    questions = rl_over_sft.test_questions(run, per_user=2)
    assert questions[:8] == list(splits.heldout)
    others = questions[8:]
    per_user = [sum(other.user_id == user for other in others) for user in {other.user_id for other in others}]
    assert max(per_user) == 2 and len(others) > 300
    ids = {question.id for question in questions}
    assert len(ids) == len(questions) and not ids & {example.id for example in splits.train}
    for example in splits.train:
        shown = {f"{example.user_id}-{entry.id}" for entry in run.prompts.build(splits.task, example).entries}
        assert len(shown) >= 3 and not shown & ids


def test_groups_by_thirds_of_the_steps(run, tmp_path):
    table = [
        *[(1, "a", text, text == "yes") for text in ("yes", "yes", "no")],
        *[(1, "b", text, False) for text in ("no", "no", "nay")],
        *[(2, "a", text, text == "yes") for text in ("no", "no", "yes")],
        *[(3, "c", "yes", True) for _ in range(3)],
    ]
    rows = [
        {"step": step, "example_id": name, "completion": f"<think></think>{answer}", "r_v": float(right)}
        for step, name, answer, right in table
    ]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "samples.parquet")
    first, second, third = rl_over_sft.groups(run, tmp_path / "samples.parquet")
    assert first == {
        **{"groups": 2, "right": pytest.approx(1 / 3), "majority": 0.5},
        **{"one right": 0.5, "all right": 0, "mixed": 0.5},
    }
    assert (second["majority"], second["one right"], second["mixed"]) == (0, 1, 1)
    assert (third["right"], third["all right"], third["mixed"]) == (1, 1, 0)

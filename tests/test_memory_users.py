"""Memory per added user of data and evaluate, in traced bytes: what stays in memory shows at two small sizes already.

A data stage that kept its examples' places would take more than 100 bytes per user, an evaluation that kept ids and
answers as texts 2,000.
"""

import gc
import json
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

import numpy as np
import pytest

from tagpr import on_disk, sorting, statistics
from tagpr.chains.vocabulary import load_vocabulary
from tagpr.data import DataSettings, SourceSettings, load_splits, read_examples, write_examples
from tagpr.data.split import Splits
from tagpr.evaluation import columns
from tagpr.evaluation.breakdown import write_users
from tagpr.evaluation.evaluate import trivial_baselines
from tagpr.evaluation.heldout import Heldout, answer, answer_and_keep
from tagpr.evaluation.questions import with_other_history
from tagpr.evaluation.scoring import SystemAnswers, score
from tagpr.evaluation.settings import EvaluationSettings
from tagpr.on_disk import Mapped
from tagpr.profiles.bm25 import BM25
from tagpr.systems import simple
from tagpr.systems.context import Context
from tagpr.systems.simple import LastLabel
from tagpr.tasks import load_task

P = ParamSpec("P")
TASK = load_task("package-section")
USERS = {"data": (400, 1200), "evaluate": (150, 450)}


@pytest.fixture(autouse=True)
def _small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is bounded is full at a few hundred users."""
    monkeypatch.setattr(on_disk, "KEPT", 32)
    monkeypatch.setattr(on_disk, "BLOCK", 8192)
    monkeypatch.setattr(sorting, "RUN", 512)
    monkeypatch.setattr(sorting, "PIECE", 128)
    monkeypatch.setattr(columns, "ROWS", 64)
    monkeypatch.setattr(statistics, "_CELLS", 10_000)
    monkeypatch.setattr(statistics, "_DRAWN", 1_000)
    monkeypatch.setattr(simple, "index_of", BM25)


def write_source(folder: Path, users: int) -> DataSettings:
    """Three interactions per user, those of a day after another."""
    rng = random.Random(0)
    folder.mkdir()
    with open(folder / "own.jsonl", "w", encoding="utf-8") as stream:
        for day in range(3):
            for user in range(users):
                row = {"user_id": f"user {user}", "input": f"package {user} {day}", "output": rng.choice(TASK.labels)}
                stream.write(json.dumps(row | {"date": f"2024-01-0{day + 1}"}) + "\n")
    return DataSettings(sources=(SourceSettings(task=TASK.name, path="own.jsonl"),))


def make_data(settings: DataSettings, folder: Path) -> None:
    """The data stage of one source."""
    (splits,) = load_splits(settings, 0, folder).values()
    write_examples(folder / "train.jsonl", splits.train)
    write_examples(folder / "heldout.jsonl", splits.heldout)


def evaluate(folder: Path) -> None:
    """The evaluate stage without a model: `last-label` answers in its place, the own history and another user's."""
    splits = Splits(TASK, read_examples(folder / "train.jsonl"), read_examples(folder / "heldout.jsonl"))
    vocabulary = load_vocabulary()
    system = LastLabel(Context(Path(), {TASK.name: TASK}, Path(), vocabulary))
    system.fit(splits.train)
    others, donors = with_other_history(splits.heldout, 0)
    answered = []
    for name, asked in (("base", Heldout(TASK, splits.heldout)), ("other", Heldout(TASK, others, donors))):

        def answer_chunk(picked: list[int], _: object, asked: Heldout = asked) -> list:
            return answer(system.predict, asked, vocabulary, len, picked)

        path = folder / name / "rows.jsonl"
        rows = answer_and_keep(system, asked, path, "made", 64, answer_chunk, order=range(len(asked.examples)))
        answered.append(SystemAnswers(name, predictions={TASK.name: rows}))
    write_users(folder / "users.csv", [(TASK.name, "own", {one.name: one.predictions[TASK.name] for one in answered})])
    answered += trivial_baselines({TASK.name: splits})
    results = score(
        {TASK.name: TASK}, answered, ["base"], EvaluationSettings(resamples=100), 0, {TASK.name: splits.heldout}
    )
    assert results.tasks[TASK.name].users == len(splits.heldout)
    assert (folder / "users.csv").read_text().count("\n") == 1 + 2 * len(splits.heldout)


def peak(work: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> int:
    """Bytes that Python and numpy held at most."""
    tracemalloc.start()
    try:
        work(*args, **kwargs)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("part", "most"), [("data", 40), ("evaluate", 600)])
def test_memory_per_added_user_is_bounded(part: str, most: int, tmp_path: Path) -> None:
    few, many = USERS[part]
    peaks = []
    gc.disable()  # a full collection empties Python's own lists of free objects, which the first turn fills
    try:
        for turn, users in enumerate((many, few, many)):
            folder = tmp_path / str(turn)
            settings = write_source(folder, users)
            if part == "evaluate":
                make_data(settings, folder)
            peaks.append(peak(make_data, settings, folder) if part == "data" else peak(evaluate, folder))
    finally:
        gc.enable()
    added = (peaks[2] - peaks[1]) / (many - few)
    assert added < most, peaks


def test_elements_on_disk_are_those_of_a_list(tmp_path: Path) -> None:
    rng = random.Random(1)
    elements = ["x" * rng.choice([0, 3, 200, 5000]) + str(number) for number in range(200)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in elements), encoding="utf-8")
    for rows in (on_disk.spooled(elements), on_disk.open_lines(tmp_path / "rows.jsonl", json.loads)):
        places = rng.sample(range(200), 200)
        assert list(rows) == elements and [rows[place] for place in places] == [elements[place] for place in places]
        assert list(rows[150:20:-7]) == elements[150:20:-7] and rows[-1] == elements[-1]
        assert list(on_disk.at(rows, places)[5:9]) == [elements[place] for place in places[5:9]]
        with pytest.raises(IndexError):
            rows[200]
    assert list(on_disk.spooled([])) == []
    assert list(Mapped(on_disk.spooled(elements), lambda place, one: (place, one)))[7] == (7, elements[7])


def test_a_line_that_was_cut_is_still_decoded(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'"one"\n"tw')
    rows = on_disk.open_lines(tmp_path / "rows.jsonl", bytes.decode)
    assert len(rows) == 2 and rows[1] == '"tw'


def test_sorted_runs_are_merged_into_one_order() -> None:
    rng = random.Random(2)
    for size in (0, 1, 512, 513, 3000):
        pairs = [(rng.randrange(50), place) for place in range(size)]
        sorter = sorting.Sorter[tuple[int, int]]()
        for pair in pairs:
            sorter.add(pair)
        assert list(sorter) == sorted(pairs) == list(sorter)
    keys = [rng.choice("abcdefgh") for _ in range(1000)]
    assert sorting.numbered(keys).tolist() == [list(dict.fromkeys(keys)).index(key) for key in keys]


def test_a_bootstrap_of_many_steps_is_that_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    columns_NC = np.random.default_rng(0).integers(0, 9, (500, 3)).astype(np.float64)
    users = [f"user {number % 120}" for number in range(500)]
    found = [statistics.bootstrap_sums(columns_NC, users, statistics.Bootstrap(333))]
    monkeypatch.setattr(statistics, "_CELLS", 10**9)
    monkeypatch.setattr(statistics, "_DRAWN", 10**9)
    for clusters in (users, sorting.numbered(users)):
        found.append(statistics.bootstrap_sums(columns_NC, clusters, statistics.Bootstrap(333)))
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[1], found[2])

"""After `tagpr forget` no file of the run holds the user's id or own text; everybody else's answers stay to the bit."""

import json
import sqlite3

import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

import tagpr
from serve_run import own_run, trained_run  # noqa: F401
from tagpr.cli import app
from tagpr.data import read_examples
from tagpr.errors import DataError
from tagpr.prmu.score import PRMU
from tagpr.serve.feedback import FeedbackStore, new_feedback
from tagpr.serve.forget import forget
from tagpr.serve.model import Query
from tagpr.serve.served_run import ServedRun
from tagpr.serve.store import feedback_path, open_store
from tagpr.serve.traces import find_traces
from tagpr.tasks import Interaction

TASK = "package-section"


def everything_in(folder) -> str:
    """All text of a folder's files, Parquet and SQLite read too."""
    texts = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        texts.append(path.read_bytes().decode("utf-8", "replace"))
        if path.suffix == ".parquet":
            texts.append(json.dumps(pq.read_table(path).to_pylist(), ensure_ascii=False, default=str))
        if path.suffix == ".sqlite":
            connection = sqlite3.connect(path)
            texts += list(connection.iterdump())
            connection.close()
    return "\n".join(texts)


@pytest.mark.parametrize("part", ["train", "heldout"])
def test_nothing_of_the_user_is_left_and_others_are_the_same(own_run, part):  # noqa: F811
    served = ServedRun.open(own_run)
    examples = read_examples(served.folder.train(TASK) if part == "train" else served.folder.heldout(TASK))
    rows = PRMU.from_pretrained(served.folder.model("prmu")).users
    user = next((e.user_id for e in examples if e.user_id in rows), examples[0].user_id)
    store = open_store(served)
    store.append(TASK, user, [Interaction("x1", {"synopsis": "an unmistakable secret zither", "section": "sound"})])
    with tagpr.load(own_run) as model:
        asked = model.put(Query(user, "sound mixer"))
        feedback = FeedbackStore(feedback_path(served))
        feedback.add(new_feedback(asked, "down", "net", "sound"))
        others = [one for one in model.users() if one != user][:5]
        before = [model.ask(one, "sound mixer") for one in others]
    stored = store.get(TASK, user)
    feedback.close()
    store.close()
    traces = find_traces(served.folder, served.tasks, user, stored)
    old = PRMU.from_pretrained(served.folder.model("prmu"))
    kept_rows = {one: old.model.users.offsets[row].clone() for one, row in old.users.items() if one != user}
    predictions = {
        path: [line for line in path.read_text().splitlines() if not traces.within(json.loads(line))]
        for path in served.folder.predictions.rglob("*.jsonl")
    }
    assert user in everything_in(own_run) and traces.texts

    done = forget(own_run, user)

    left = everything_in(own_run)
    assert user not in left
    assert [text for text in traces.texts if text in left] == []
    assert {removal.path.suffix for removal in done.removals} >= {".jsonl", ".sqlite", ".html"}
    assert bool(done.in_weights) <= (part == "train")
    with tagpr.load(own_run) as model:
        assert user not in model.users()
        assert [model.ask(one, "sound mixer") for one in others] == before
    new = PRMU.from_pretrained(served.folder.model("prmu"))
    assert set(new.users) == set(kept_rows)
    assert all(torch.equal(new.model.users.offsets[row], kept_rows[one]) for one, row in new.users.items())
    for name, value in old.model.state_dict().items():
        if name != "users.offsets":
            assert torch.equal(value, new.model.state_dict()[name]), name
    assert {path: path.read_text().splitlines() for path in predictions} == predictions
    with pytest.raises(DataError, match="knows no user"):
        forget(own_run, user)


def test_the_command_says_file_by_file(own_run):  # noqa: F811
    user = read_examples(ServedRun.open(own_run).folder.train(TASK))[0].user_id
    done = CliRunner().invoke(app, ["forget", user, str(own_run)])
    assert done.exit_code == 0, done.output
    assert "train.jsonl: " in done.stdout and " rows" in done.stdout

"""`tagpr update`: thumbs and corrections become pairs, a fitted row, and rows of the next training."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

import tagpr
from serve_run import SETTINGS, own_run, trained_run  # noqa: F401
from tagpr.cli import app
from tagpr.data import read_examples
from tagpr.data.corrections import PREFIX, with_corrections
from tagpr.data.split import Splits
from tagpr.engine.models import load_tokenizer
from tagpr.errors import DataError
from tagpr.files import read_json
from tagpr.pipeline import make
from tagpr.prmu.human_pairs import human_pairs
from tagpr.prmu.score import PRMU
from tagpr.runs import Run
from tagpr.serve.feedback import FeedbackStore, new_feedback
from tagpr.serve.model import Query
from tagpr.serve.served_run import ServedRun
from tagpr.serve.store import feedback_path
from tagpr.serve.update import preference_pairs, update

TASK = "package-section"
QUESTIONS = ["sound mixer", "violin tuner", "radio stream player", "drum machine", "audio cutter"]


@pytest.fixture
def judged(own_run):  # noqa: F811
    """A run with the feedback of two users: one corrects five answers, one gives two thumbs to one prompt."""
    served = ServedRun.open(own_run)
    store = FeedbackStore(feedback_path(served))
    with tagpr.load(own_run) as model:
        ada, bob = model.users()[:2]
        for question in QUESTIONS:
            store.add(new_feedback(model.put(Query(ada, question)), "down", "net", "sound"))
        asked = model.put(Query(bob, "log viewer"))
        store.add(new_feedback(asked, "up", "<think>\n<x>so</x>\n</think>\nutils", None))
        store.add(new_feedback(asked, "down", "net", None))
        store.add(new_feedback(model.put(Query(bob, "a parser")), "up", "libs", None))
        store.add(new_feedback(model.put(Query(bob, "a clock")), "down", "net", "no such section"))
    store.close()
    return own_run, ada, bob


def test_pairs_of_all_sides_of_a_prompt(judged):
    run, ada, bob = judged
    served = ServedRun.open(run)
    store = FeedbackStore(feedback_path(served))
    pairs = preference_pairs(served, store.all())
    store.close()
    own = [(pair.chosen, pair.rejected) for pair in pairs if pair.user_id == bob]
    assert own == [("utils", "net"), ("no such section", "net")]  # the chain of one side alone is left out
    assert [(pair.chosen, pair.rejected) for pair in pairs if pair.user_id == ada] == [("sound", "net")] * 5
    assert {pair.context[-1].role for pair in pairs} == {"user"}


def test_the_row_is_fitted_and_nobody_elses_score_changes(judged):
    run, ada, bob = judged
    folder = ServedRun.open(run).folder
    before = PRMU.from_pretrained(folder.model("prmu"))
    done = update(run)
    after = PRMU.from_pretrained(folder.model("prmu"))
    assert (done.judgements, done.pairs, done.single, done.corrections, len(done.refused)) == (9, 7, 1, 5, 1)
    fitted = {one.user: one for one in done.fitted}
    assert set(fitted) == {ada, bob}
    assert fitted[ada].fit_after.margin > fitted[ada].fit_before.margin
    assert fitted[ada].before.pairs >= 1 and fitted[ada].trained >= 4
    for user, row in before.users.items():
        same = torch.equal(before.model.users.offsets[row], after.model.users.offsets[after.users[user]])
        assert same == (user not in (ada, bob)), user
    for name, value in before.model.state_dict().items():
        if name != "users.offsets":
            assert torch.equal(value, after.model.state_dict()[name]), name
    again = update(run)
    assert [one.fit_before for one in again.fitted] == [one.fit_after for one in done.fitted]
    assert all(a.fit_after.margin >= b.fit_after.margin - 0.05 for a, b in zip(again.fitted, done.fitted, strict=True))
    assert PRMU.from_pretrained(folder.model("prmu")).users.keys() >= {ada, bob}


def test_the_next_training_reads_them_through_the_recipe(judged, tmp_path):
    run, ada, _ = judged
    done = update(run)
    keys = [f"prmu.pairs.path={done.pairs_file}", f"data.corrections={done.corrections_file}"]
    later = Run.open("smoke", [*SETTINGS, "chains.examples_per_task=3", *keys], tmp_path / "runs")
    make(later, "data", "chains")
    corrected = [one for one in later.train[TASK] if one.id.startswith(PREFIX)]
    assert [one.input for one in corrected] == QUESTIONS and {one.target for one in corrected} == {"sound"}
    assert corrected[0].user_id == ada
    store = FeedbackStore(feedback_path(ServedRun.open(run)))
    judged_first = next(store.all(ada))
    store.close()
    assert corrected[0].profile == judged_first.shown[::-1] != ()
    prompt = later.prompts.build(later.tasks[TASK], corrected[0])
    assert {entry.id for entry in prompt.entries} == set(judged_first.entries)  # the history that was shown
    assert read_json(later.folder.stage("data") / "report.json")[TASK]["corrections"] == 5
    drawn = pq.read_table(later.folder.stage("chains") / "steps" / "sample.parquet")["example_id"].to_pylist()
    assert len(drawn) == 3 + 5 and sum(name.startswith(PREFIX) for name in drawn) == 5  # beside examples_per_task
    pairs = human_pairs(later.recipe.prmu, load_tokenizer(ServedRun.open(run).folder.model("sft")), 0)
    assert len(pairs) == 7 and {pair.split for pair in pairs} == {"train", "seen"}
    assert later.recipe.prmu.uses_rollouts  # beside them


def test_a_correction_of_a_heldout_question_stays_out(judged, tmp_path):
    run, _, _ = judged
    folder, done = ServedRun.open(run).folder, update(run)
    task = ServedRun.open(run).tasks[TASK]
    examples = read_examples(done.corrections_file)
    heldout = [examples[0]]
    split = with_corrections({TASK: Splits(task, read_examples(folder.train(TASK)), heldout)}, done.corrections_file)
    assert [one.input for one in split[TASK].train if one.id.startswith(PREFIX)] == QUESTIONS[1:]
    with pytest.raises(DataError, match="a correction of task package-section; the recipe has other"):
        with_corrections({"other": split[TASK]}, done.corrections_file)


def test_the_commands(judged):
    run, ada, bob = judged
    listed = CliRunner().invoke(app, ["feedback", str(run), "--user", ada])
    assert listed.exit_code == 0 and listed.stdout.count("+: sound  -: net") == 5
    rows = CliRunner().invoke(app, ["feedback", str(run), "--json"]).stdout.splitlines()
    assert len(rows) == 9 and json.loads(rows[0])["messages"]
    done = CliRunner().invoke(app, ["update", str(run)])
    assert done.exit_code == 0, done.output
    assert "9 judgements: 7 pairs, 5 corrected answers, 1 without another side, 1 corrections refused" in done.stdout
    assert (
        f"  refused: {bob}  a clock  +: no such section  (the better answer is no label of task {TASK}; " in done.stdout
    )
    assert f"{ada}: row " in done.stdout and "ordered as the user did" in done.stdout
    for key in ("prmu.pairs.path", "data.corrections"):  # whole paths, which hold wherever the recipe is
        path = Path(done.stdout.partition(f"{key}=")[2].splitlines()[0])
        assert path.is_absolute() and path.is_file()


def test_no_feedback_is_said(own_run):  # noqa: F811
    with pytest.raises(DataError, match="no feedback yet"):
        update(own_run)

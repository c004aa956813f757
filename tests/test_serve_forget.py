"""After `tagpr forget` no file of the run holds the user's id or own text; everybody else's answers stay to the bit."""

import asyncio
import json
import pkgutil
import sqlite3
from dataclasses import replace

import httpx2
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

import tagpr
from serve_run import change_blocks, own_run, trained_run  # noqa: F401
from tagpr.cli import app
from tagpr.clients.cache import ReplyCache, default_cache
from tagpr.clients.types import Reply
from tagpr.data import read_examples, write_examples
from tagpr.errors import DataError, RunError
from tagpr.files import read_json, write_json, write_jsonl
from tagpr.prmu.data import read_pairs
from tagpr.prmu.score import PRMU
from tagpr.serve.app import create_app
from tagpr.serve.feedback import FeedbackStore, new_feedback
from tagpr.serve.forget import forget
from tagpr.serve.model import Query
from tagpr.serve.served_run import ServedRun
from tagpr.serve.settings import ServeSettings
from tagpr.serve.store import feedback_path, open_store
from tagpr.serve.traces import Traces, find_traces
from tagpr.serve.update import update
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
def test_nothing_of_the_user_is_left_and_others_are_the_same(own_run, part, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("TAGPR_CACHE", str(tmp_path / "cache"))
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
        feedback.add(new_feedback(model.put(Query(others[0], "sound mixer")), "down", "net", "sound"))
    stored = store.get(TASK, user)
    feedback.close()
    store.close()
    update(own_run)
    traces = find_traces(served.folder, served.tasks, user, stored, ())
    old = PRMU.from_pretrained(served.folder.model("prmu"))
    kept_rows = {one: old.model.users.offsets[row].clone() for one, row in old.users.items() if one != user}
    predictions = {
        path: [line for line in path.read_text().splitlines() if not traces.within(json.loads(line))]
        for path in served.folder.predictions.rglob("*.jsonl")
    }
    rows_of_others = [pair for pair in read_pairs(served.folder.pairs) if pair.user_id in kept_rows]
    asked_others = [pair.user_id for pair in rows_of_others], [pair.prompt_ids for pair in rows_of_others]
    old_scores = old.score(*asked_others, [pair.chosen_ids for pair in rows_of_others])
    with ReplyCache(default_cache()) as cache:
        quote = f"The user once wrote: {max(traces.texts, key=len)}!"
        cache.put_many([(b"1", Reply(quote, "", True, 1, 1)), (b"2", Reply("of nobody", "", True, 1, 1))])
    assert user in everything_in(own_run) and traces.texts and (own_run / "feedback" / "corrections.jsonl").is_file()

    done = forget(own_run, user)

    left = everything_in(own_run) + everything_in(tmp_path / "cache")
    assert done.left == ()
    with ReplyCache(default_cache()) as cache:
        assert cache.get(b"1") is None and cache.get(b"2") is not None
    assert user not in left
    assert [text for text in traces.texts if text in left] == []
    assert {removal.path.suffix for removal in done.removals} >= {".jsonl", ".sqlite", ".html"}
    assert bool(done.in_weights) <= (part == "train")
    with tagpr.load(own_run) as model:
        assert user not in model.users()
        assert [model.ask(one, "sound mixer") for one in others] == before
    new = PRMU.from_pretrained(served.folder.model("prmu"))
    assert new.score(*asked_others, [pair.chosen_ids for pair in rows_of_others]) == old_scores != []
    assert set(new.users) == set(kept_rows)
    assert all(torch.equal(new.model.users.offsets[row], kept_rows[one]) for one, row in new.users.items())
    for name, value in old.model.state_dict().items():
        if name != "users.offsets":
            assert torch.equal(value, new.model.state_dict()[name]), name
    assert {path: path.read_text().splitlines() for path in predictions} == predictions
    with pytest.raises(DataError, match="knows no user"):
        forget(own_run, user)


def test_the_servers_route_reaches_the_runs_files_too(own_run):  # noqa: F811
    user = read_examples(ServedRun.open(own_run).folder.train(TASK))[0].user_id

    async def delete() -> tuple[dict, list[str]]:
        application = create_app(own_run, ServeSettings())
        transport = httpx2.ASGITransport(app=application)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            item = {"fields": {"synopsis": "zither", "section": "sound"}}
            await client.post(f"/v1/users/{user}/interactions", json={"items": [item]})
            done = await client.delete(f"/v1/users/{user}", params={"everywhere": True})
            users = await client.get("/v1/users", params={"limit": 1000})
            return done.json(), [one["id"] for one in users.json()["data"]]

    done, users = asyncio.run(delete())
    assert {one["file"] for one in done["files"]} >= {"profiles.sqlite", "train.jsonl", "index.html"}
    assert user not in users != [] and user not in everything_in(own_run)


def test_files_of_no_known_kind_are_named(own_run):  # noqa: F811
    user = read_examples(ServedRun.open(own_run).folder.train(TASK))[0].user_id
    (own_run / "notes.bin").write_bytes(b"\x00\xff said " + user.encode())
    (own_run / "other.bin").write_bytes(b"\x00\xff")
    assert [path.name for path in forget(own_run, user).left] == ["notes.bin"]


def test_a_short_id_counts_where_it_names_the_user():
    traces = Traces("ada", frozenset(), frozenset())
    kept = {"bob": [1], "users": ["bob"], "words": ["ada", "an ada compiler"], "ada lovelace": 2}
    assert traces.without(kept | {"ada": [2], "users": ["ada", "bob"]}) == kept
    assert traces.within({"per_user": {"ada": 0.5}}) and not traces.within(kept)


class Killed(BaseException):
    """As SIGKILL: nothing of ours catches it."""


SECRET = "an unmistakable secret zither"
"""Only the store has it; other files and a cached reply quote it."""


@pytest.mark.parametrize(
    ("step", "times"),
    [
        ("tagpr.serve.forget._prmu", 1),
        ("tagpr.serve.forget.write_text", 1),
        ("tagpr.serve.forget._pages", 1),
        ("tagpr.serve.forget._files", 1),
        ("tagpr.serve.forget._replies", 1),
        ("tagpr.serve.forget.renew_manifests", 1),
        ("tagpr.serve.feedback.FeedbackStore.delete_user", 1),
        ("tagpr.profiles.sqlite_repository.SQLiteRepository.delete_user", 1),
    ],
)
def test_after_a_kill_the_same_command_does_the_rest(own_run, step, times, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("TAGPR_CACHE", str(tmp_path / "cache"))
    served = ServedRun.open(own_run)
    asked = set(pq.read_table(served.folder.chains)["user_id"].to_pylist())
    user = next(e.user_id for e in read_examples(served.folder.train(TASK)) if e.user_id in asked)
    store, feedback = open_store(served), FeedbackStore(feedback_path(served))
    store.append(TASK, user, [Interaction("x1", {"synopsis": SECRET, "section": "sound"})])
    with tagpr.load(own_run) as model:
        feedback.add(new_feedback(model.put(Query(user, "sound mixer")), "down", "net", "sound"))
    store.close()
    feedback.close()
    for name in ("a.md", "z/notes.md"):
        path = own_run / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"quoted: {SECRET}")
    with ReplyCache(default_cache()) as cache:
        cache.put_many([(b"1", Reply(f"You wrote {SECRET}", "", True, 1, 1))])

    left, place = times, pytest.MonkeyPatch()
    module, _, name = step.rpartition(".")
    owner = pkgutil.resolve_name(module)
    work = getattr(owner, name)

    def killed(*arguments):
        nonlocal left
        done, left = work(*arguments), left - 1
        if not left:
            raise Killed
        return done

    place.setattr(owner, name, killed)
    with pytest.raises(Killed):
        forget(own_run, user)
    place.undo()

    done = forget(own_run, user)
    everything = everything_in(own_run) + everything_in(tmp_path / "cache")
    assert user not in everything and SECRET not in everything and done.left == ()
    assert not list(own_run.glob(".forgetting*"))
    assert [one.partition(":")[0] for one in done.in_weights][:1] == ["sft"]
    page = served.folder.report.stat().st_mtime_ns
    assert page >= max(path.stat().st_mtime_ns for path in served.folder.stage("data").rglob("*.jsonl"))
    with pytest.raises(DataError, match="knows no user"):
        forget(own_run, user)


@pytest.mark.parametrize("stored", [True, False])
def test_a_user_of_judgements_alone_is_forgotten_too(own_run, stored):  # noqa: F811
    """Someone whose history came with the requests: judgements, pairs and a row of the reward model are all."""
    history = [Interaction("1", {"synopsis": SECRET, "section": "sound"})]
    feedback = FeedbackStore(feedback_path(ServedRun.open(own_run)))
    with tagpr.load(own_run) as model:
        for question in ("sound mixer", "a tuner of zithers"):
            asked = model.put(Query("visitor-17", question, history=history))
            feedback.add(new_feedback(asked, "down", "net", "sound"))
    update(own_run)
    if not stored:
        feedback.delete_user("visitor-17")
    feedback.close()
    assert "visitor-17" in PRMU.from_pretrained(own_run / "prmu" / "model").users
    assert {removal.path.name for removal in forget(own_run, "visitor-17").removals} >= {"pairs.jsonl", "model"}
    assert "visitor-17" not in everything_in(own_run) and SECRET not in everything_in(own_run)
    with pytest.raises(DataError, match="knows no user"):
        forget(own_run, "visitor-17")


def test_line_separators_inside_a_text_cut_no_row(own_run):  # noqa: F811
    served = ServedRun.open(own_run)
    examples = list(read_examples(served.folder.train(TASK)))
    one, other = examples[0].user_id, next(e.user_id for e in examples if e.user_id != examples[0].user_id)
    odd = [replace(e, input=f"{e.input} \u2028 and \x85 \x0b more") for e in examples]
    write_examples(served.folder.train(TASK), odd)
    write_jsonl(served.folder.stage("chains") / "review.jsonl", [{"key": "k", "note": "a\u2028b", "user_id": one}])
    (own_run / "users.csv").write_text(f"user_id,score\n{one},1\n{other}\u2028,2\n", encoding="utf-8")
    assert forget(own_run, one).left == ()
    assert list(read_examples(served.folder.train(TASK))) == [e for e in odd if e.user_id != one]
    assert (own_run / "users.csv").read_text(encoding="utf-8") == f"user_id,score\n{other}\u2028,2\n"


def test_the_recipes_caches_are_searched_or_nothing_is_done(own_run, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("TAGPR_CACHE", str(tmp_path / "cache"))
    recipe = tmp_path / "project"
    recipe.mkdir()
    model = {"model": "m", "base_url": "http://127.0.0.1:1"}
    names = ("chains.sqlite", "judge.sqlite", "memory.sqlite")
    memory = {"retriever": "memory", "memory": {"writer": model, "cache": names[2]}}
    change_blocks(own_run, chains={"teacher": model, "cache": names[0]}, profile=memory)
    path = own_run / "evaluate" / "manifest.json"
    manifest = read_json(path)
    manifest["settings"]["judge"] = {"judges": [model], "cache": names[1]}
    write_json(path, manifest)
    monkeypatch.chdir(recipe)
    user = read_examples(own_run / "data" / TASK / "train.jsonl")[0].user_id
    before = everything_in(own_run)
    for number, name in enumerate((names[2], names[0], names[1])):
        with pytest.raises(RunError, match=rf"cache {name}: no such file or folder from here; start in the recipe's"):
            forget(own_run, user)
        assert everything_in(own_run) == before, number
        with ReplyCache(recipe / name) as cache:
            cache.put_many(
                [(b"1", Reply(f"About {user}.", "", True, 1, 1)), (b"2", Reply("of nobody", "", True, 1, 1))]
            )
    removals = {removal.path.name: removal.what for removal in forget(own_run, user).removals}
    assert [removals[name] for name in names] == ["1 replies that quote the user"] * 3
    assert user not in everything_in(recipe) and "of nobody" in everything_in(recipe)


def test_a_cache_that_no_model_wrote_to_need_not_be_there(own_run):  # noqa: F811
    change_blocks(own_run, chains={"cache": "never-made.sqlite"}, profile={"memory": {"cache": "nor-this.sqlite"}})
    user = read_examples(own_run / "data" / TASK / "train.jsonl")[0].user_id
    assert forget(own_run, user).left == ()


def test_the_command_says_file_by_file(own_run):  # noqa: F811
    user = read_examples(ServedRun.open(own_run).folder.train(TASK))[0].user_id
    done = CliRunner().invoke(app, ["forget", user, str(own_run)])
    assert done.exit_code == 0, done.output
    assert "train.jsonl: " in done.stdout and " rows" in done.stdout

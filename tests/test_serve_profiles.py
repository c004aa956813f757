"""The profile repository: a dictionary, users never mixed, durable under SIGKILL, deleted text off the disk."""

import json
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tagpr
from serve_run import own_run, trained_run  # noqa: F401
from tagpr.errors import DataError, RunError
from tagpr.profiles.repository import open_repository
from tagpr.serve.histories import RunHistories
from tagpr.serve.served_run import ServedRun
from tagpr.serve.store import open_store
from tagpr.tasks import Interaction


def item(name: str, text: str = "x", date: str | None = None) -> Interaction:
    return Interaction(name, {"synopsis": text, "section": "net"}, date)


@pytest.fixture
def repository(tmp_path):
    opened = open_repository(tmp_path / "profiles.sqlite")
    yield opened
    opened.close()


IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b"]), IDS, st.text(st.characters(exclude_categories=["Cs"]))), max_size=20
    )
)
def test_is_a_dictionary_whatever_the_ids(tmp_path_factory, rows):
    repository = open_repository(tmp_path_factory.mktemp("store") / "p.sqlite")
    plain: dict[tuple[str, str], list[Interaction]] = {}
    for number, (task, user, text) in enumerate(rows):
        new = item(str(number), text)
        repository.append(task, user, [new])
        plain.setdefault((task, user), []).append(new)
    for (task, user), items in plain.items():
        assert repository.get(task, user) == tuple(items)
    for task in "ab":
        assert list(repository.users(task)) == sorted({user for name, user in plain if name == task})
    assert {(t, u) for t, u, _ in repository.export()} == set(plain)
    for user in {user for _, user in plain}:
        assert repository.delete_user(user) == sum(len(v) for (_, u), v in plain.items() if u == user)
        assert all(not repository.get(task, user) for task in "ab")
    assert list(repository.export()) == []
    repository.close()


def test_append_is_all_or_none_and_may_be_tried_again(repository):
    stored = repository.append("t", "ada", [item("1"), item(""), item("2", date="2024-01-01")])
    assert stored[1].id and repository.get("t", "ada") == stored
    repository.append("t", "ada", [item("1"), item("3")])
    assert [one.id for one in repository.get("t", "ada")] == ["1", stored[1].id, "2", "3"]
    with pytest.raises(DataError, match="user 'ada': has another item of id '1'"):
        repository.append("t", "ada", [item("4"), item("1", "another text")])
    assert len(repository.get("t", "ada")) == 4
    assert repository.users("t", after="aa") == ["ada"] and repository.users("t", after="ada") == []


def test_threads_write_and_read_at_once(repository):
    errors: list[BaseException] = []

    def work(user: str) -> None:
        try:
            for number in range(15):
                repository.append("t", user, [item(str(number), f"{user} {number}")])
                assert all(one.fields["synopsis"].startswith(user + " ") for one in repository.get("t", user))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(f"u{i}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert all(len(repository.get("t", f"u{i}")) == 15 for i in range(6))


def test_deleted_text_is_on_the_disk_no_more(repository, tmp_path):
    for user in ("ada", "mallory-of-old"):
        repository.append("t", user, [item(str(i), f"secret of {user} {i}") for i in range(50)])
    assert repository.delete_user("mallory-of-old") == 50
    files = [path for path in tmp_path.iterdir() if path.is_file()]
    assert files and not any(b"mallory" in path.read_bytes() for path in files)
    assert any(b"secret of ada 49" in path.read_bytes() for path in files)


def test_a_deletion_that_a_reader_holds_up_is_said_and_finished_by_the_same_call(tmp_path, monkeypatch):
    monkeypatch.setattr("tagpr.profiles.database.BUSY_SECONDS", 0.2)
    path = tmp_path / "p.sqlite"
    repository, reader = open_repository(path), sqlite3.connect(path, isolation_level=None)
    repository.append("t", "mallory", [item("1", "a secret of old")])
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM interactions").fetchall()
    with pytest.raises(
        RunError, match=r"p\.sqlite: another process reads it.*; end that process, and the same command"
    ):
        repository.delete_user("mallory")
    reader.close()
    assert repository.delete_user("mallory") == 0
    repository.close()
    assert not any(b"secret of old" in one.read_bytes() for one in tmp_path.iterdir())


def test_a_task_is_filled_once(repository):
    rows = [("ada", item("1")), ("bob", item("2"))]
    assert repository.load("t", rows) == 2 and repository.load("t", rows) == 0
    assert [repository.delete_user(user) for user in ("ada", "bob")] == [1, 1]
    assert repository.load("t", rows) == 0 and repository.users("t") == []
    assert repository.load("other", rows) == 2


def test_writes_that_wait_share_one_commit_and_fail_alone(repository, monkeypatch):
    database, commits, outcomes = repository.database, list[int](), dict[int, object]()
    repository.append("t", "u3", [item("x", "the first")])
    commit, gate = database._commit, threading.Event()

    def slow(together) -> None:
        commits.append(len(together))
        gate.wait()  # as for the disk
        commit(together)

    monkeypatch.setattr(database, "_commit", slow)

    def append(number: int) -> None:
        try:
            outcomes[number] = repository.append("t", f"u{number}", [item("x")])
        except DataError as error:
            outcomes[number] = error

    threads = [threading.Thread(target=append, args=(number,)) for number in range(8)]
    threads[0].start()
    while not commits:
        time.sleep(0.001)
    for thread in threads[1:]:
        thread.start()
    while len(database._waiting) < 7:
        time.sleep(0.001)
    gate.set()
    for thread in threads:
        thread.join()
    assert commits == [1, 7]
    assert isinstance(outcomes.pop(3), DataError) and len(outcomes) == 7
    assert [repository.get("t", f"u{number}")[0].fields["synopsis"] for number in range(5)] == [
        *("x", "x", "x", "the first", "x")
    ]


@pytest.mark.parametrize("limit", ["pages", "file"])
def test_a_full_disk_is_said_and_loses_nothing_acknowledged(tmp_path, limit):
    """`pages`: SQLite's own "database or disk is full"; `file`: the operating system refuses to let a file grow."""
    path, kept = tmp_path / "p.sqlite", list[str]()
    repository = open_repository(path)
    repository.append("t", "ada", [item("0")])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit == "pages":
        repository.database.connection.execute("PRAGMA max_page_count=40")
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(RunError, match=r"p\.sqlite: cannot be written .*; free space or rights, and try again"):
            for number in range(1, 500):
                repository.append("t", "ada", [item(str(number), "text " * 200)])
                kept.append(str(number))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert kept and [one.id for one in repository.get("t", "ada")] == ["0", *kept]
    repository.close()
    again = open_repository(path)
    again.append("t", "ada", [item("after")])
    assert [one.id for one in again.get("t", "ada")] == ["0", *kept, "after"]
    again.close()


APPEND = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tagpr.profiles.repository import open_repository
from tagpr.tasks import Interaction
repository, start = open_repository(Path(sys.argv[1])), int(sys.argv[2])
def append(number):
    repository.append("t", f"u{number % 7}", [Interaction(str(number), {"x": "text " * 20})])
    os.write(1, f"{number}\\n".encode())  # one call: lines of threads never mix
with ThreadPoolExecutor(int(sys.argv[3])) as pool:
    list(pool.map(append, range(start, start + 500)))
"""
THREADS = 8


def kill_while_appending(path: Path, start: int, after: int) -> list[int]:
    """Numbers whose append was acknowledged before SIGKILL, which comes when `after` were read."""
    command = [sys.executable, "-c", APPEND, str(path), str(start), str(THREADS)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    first = "".join(child.stdout.readline() for _ in range(after))
    child.send_signal(signal.SIGKILL)
    rest = child.stdout.read()
    child.wait()
    lines = (first + rest).split("\n")
    return [int(line) for line in lines[:-1]]


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_acknowledged_appends_survive_sigkill(tmp_path, kills):
    path, acknowledged, rng, in_the_middle = tmp_path / "p.sqlite", list[int](), random.Random(0), 0
    for number in range(kills):
        own = kill_while_appending(path, 1000 * number, rng.randrange(1, 300))
        acknowledged, in_the_middle = acknowledged + own, in_the_middle + (len(own) < 500)
        repository = open_repository(path)
        stored = {int(one.id) for user in repository.users("t") for one in repository.get("t", user)}
        assert set(acknowledged) <= stored
        # those of the commit that was on the disk and not yet acknowledged may be there too
        assert len(stored - set(acknowledged)) <= THREADS * (number + 1)
        repository.append("t", "u0", [item(f"-{number + 1}")])
        acknowledged.append(-number - 1)
        repository.close()
    assert len(acknowledged) > 2 * kills and in_the_middle > kills / 2
    print(f"{kills} kills, {in_the_middle} of them in the middle of 500 appends, {len(acknowledged)} acknowledged")


def test_what_is_no_database_is_said(tmp_path):
    path = tmp_path / "p.sqlite"
    path.write_bytes(b"this is no database at all, " * 100)
    with pytest.raises(DataError, match="is no database of ours"):
        open_repository(path)
    assert path.read_bytes().startswith(b"this is")


def test_a_runs_store_is_its_data_and_then_grows(own_run):  # noqa: F811
    served = ServedRun.open(own_run)
    before = RunHistories(served.folder, served.tasks)
    store = open_store(served)
    (task,) = served.tasks
    assert list(store.users(task)) == list(before.users(task)) != []
    assert all(store.get(task, user) == before.get(task, user) for user in before.users(task))
    user = store.users(task)[0]
    added = store.append(task, user, [Interaction("", {"synopsis": "violin tuner", "section": "sound"})])
    store.close()
    with tagpr.load(own_run) as model:
        assert model.history(user)[-1] == added[0]
        assert json.loads(json.dumps(model.users())) == list(before.users(task))

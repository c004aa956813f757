"""The profile repository in a real PostgreSQL: the same promises as the embedded one."""

import subprocess
import sys
import threading

import pytest

import tagpr
from postgres_server import postgres_url  # noqa: F401
from serve_run import own_run, trained_run  # noqa: F401
from tagpr.errors import DataError, RecipeError, RunError
from tagpr.profiles.repository import open_repository
from tagpr.serve.forget import forget
from tagpr.serve.histories import RunHistories
from tagpr.serve.served_run import ServedRun
from tagpr.serve.store import PROFILES, open_store
from tagpr.tasks import Interaction


def item(name: str, text: str = "x", date: str | None = None) -> Interaction:
    return Interaction(name, {"synopsis": text}, date)


@pytest.fixture
def repository(postgres_url, request):  # noqa: F811
    opened = open_repository(postgres_url, request.node.name)
    yield opened
    opened.close()


def test_is_a_dictionary_whatever_the_ids(repository, postgres_url):  # noqa: F811
    other = open_repository(postgres_url, "another run")
    users = ["a", "a'; DROP TABLE x--", "Ä", "a\nb", "z" * 256, "😀", "%s", "A"]
    plain = {user: [item("1", f"of {user} \x00 %s", "2024-05-01"), item("2")] for user in users}
    for user, items in plain.items():
        assert repository.append("t", user, items) == tuple(items)
    other.append("t", "a", [item("9")])
    assert {user: list(repository.get("t", user)) for user in users} == plain
    assert list(repository.users("t")) == sorted(users)
    assert list(repository.users("t", after="Z", limit=2)) == sorted(users)[2:4]
    assert list(repository.export(None, "Ä")) == [("t", "Ä", one) for one in plain["Ä"]]
    assert repository.delete_user("a") == 2 and repository.get("t", "a") == () == repository.get("other", "Ä")
    assert [one.id for one in other.get("t", "a")] == ["9"]
    other.close()


def test_append_is_all_or_none_and_may_be_tried_again(repository):
    stored = repository.append("t", "ada", [item("1"), item(""), item("2")])
    repository.append("t", "ada", [item("1"), item("3")])
    assert [one.id for one in repository.get("t", "ada")] == ["1", stored[1].id, "2", "3"]
    with pytest.raises(DataError, match="user 'ada': has another item of id '1'"):
        repository.append("t", "ada", [item("4"), item("1", "another text")])
    assert len(repository.get("t", "ada")) == 4
    with pytest.raises(DataError, match="NUL"):
        repository.append("t", "a\x00b", [item("1")])
    assert repository.get("t", "a\x00b") == ()


def test_threads_append_to_one_user_in_turns(repository):
    errors: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for number in range(10):
                repository.append("t", "ada", [item(f"{name} {number}")])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(str(number),)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = [one.id for one in repository.get("t", "ada")]
    assert not errors and len(names) == 60
    assert all([n for n in names if n.startswith(f"{i} ")] == [f"{i} {k}" for k in range(10)] for i in range(6))


KILLED = """
import sys
from tagpr.profiles.repository import open_repository
from tagpr.tasks import Interaction
repository = open_repository(sys.argv[1], "killed")
for number in range(500):
    repository.append("t", "ada", [Interaction(str(number), {"x": "text"})])
    print(number, flush=True)
"""


def test_acknowledged_appends_survive_a_killed_writer(postgres_url):  # noqa: F811
    child = subprocess.Popen([sys.executable, "-c", KILLED, postgres_url], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(20)]
    child.kill()
    lines += child.stdout.read().split("\n")[:-1]
    child.wait()
    repository = open_repository(postgres_url, "killed")
    stored = [one.id for one in repository.get("t", "ada")]
    repository.close()
    assert [line.strip() for line in lines] == stored[: len(lines)] and len(stored) <= len(lines) + 1


def test_two_servers_of_a_run_share_its_store(own_run, postgres_url, monkeypatch):  # noqa: F811
    monkeypatch.setenv(PROFILES, postgres_url)
    served = ServedRun.open(own_run)
    (task,) = served.tasks
    before = RunHistories(served.folder, served.tasks)
    one, two = open_store(served), open_store(served)
    assert list(one.users(task)) == list(before.users(task)) != []
    user = one.users(task)[0]
    added = one.append(task, user, [Interaction("", {"synopsis": "violin tuner", "section": "sound"})])
    assert two.get(task, user) == (*before.get(task, user), *added)
    one.close()
    with tagpr.load(own_run) as model:
        assert model.history(user)[-1] == added[0]
    done = forget(own_run, user)
    assert any(removal.path.name == f"${PROFILES}" for removal in done.removals)
    assert two.get(task, user) == () and not (own_run / "serve" / "profiles.sqlite").exists()
    two.close()


def test_users_who_were_all_deleted_stay_so_after_a_restart(own_run, postgres_url, monkeypatch):  # noqa: F811
    monkeypatch.setenv(PROFILES, postgres_url)
    served = ServedRun.open(own_run.rename(own_run.with_name("emptied")))
    (task,) = served.tasks
    store = open_store(served)
    users = list(store.users(task))
    for user in users:
        store.delete_user(user)
    store.close()
    again = open_store(served)
    assert users and again.users(task) == []
    again.close()


def test_a_table_that_was_filled_before_there_was_a_mark_is_not_filled_again(repository):
    repository.append("t", "ada", [item("1")])
    assert repository.load("t", [("bob", item("2"))]) == 0
    repository.delete_user("ada")
    assert repository.load("t", [("bob", item("2"))]) == 0 and repository.users("t") == []


def test_what_cannot_be_reached_is_said(tmp_path, monkeypatch):
    pytest.importorskip("psycopg_pool")
    monkeypatch.setattr("tagpr.profiles.postgres_repository._WAIT_SECONDS", 0.5)
    with pytest.raises(RunError, match="no connection to the PostgreSQL database"):
        open_repository(f"postgresql://nobody@/none?host={tmp_path}")
    monkeypatch.setenv(PROFILES, "mysql://x")
    with pytest.raises(RecipeError, match="TAGPR_PROFILES: must be postgresql://"):
        open_store(None)  # the URL is looked at first

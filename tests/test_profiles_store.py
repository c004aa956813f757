"""The profile store against a plain dictionary: append, look up, delete, compact, reopen."""

import random

import pytest

from tagpr.errors import DataError
from tagpr.profiles import store as module
from tagpr.profiles.store import ProfileStore
from tagpr.tasks import Interaction


def rows(rng: random.Random, number: int, users: int):
    for i in range(number):
        fields = {"text": f"text {i} é中", "tag": rng.choice("abc")}
        yield f"user-{rng.randrange(users)}", Interaction(str(i), fields, rng.choice([None, "2024-01-01"]))


def test_store_behaves_like_a_dictionary(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_BATCH", 256)  # so that several batches are written even here
    rng = random.Random(0)
    store, plain = ProfileStore(tmp_path / "store"), {}
    for step in range(12):
        new = list(rows(rng, 300, 40))
        store.append(new)
        for user, item in new:
            plain.setdefault(user, []).append(item)
        for user in rng.sample(range(40), 3):
            store.delete_user(f"user-{user}")
            plain.pop(f"user-{user}", None)
        if step % 4 == 3:
            store.compact()
            assert len(store) == sum(map(len, plain.values()))
        if step % 3 == 2:
            store = ProfileStore(tmp_path / "store")
        for user in (*(f"user-{i}" for i in range(40)), "nobody", ""):
            assert store.get(user) == tuple(plain.get(user, ()))
    assert len(list((tmp_path / "store").iterdir())) <= 2 + 12


def test_users_whose_hashes_collide_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "hash_of", lambda user: 7)
    store = ProfileStore(tmp_path)
    store.append(
        [("a", Interaction("1", {"x": "1"})), ("b", Interaction("2", {"x": "2"})), ("a", Interaction("3", {}))]
    )
    assert [item.id for item in store.get("a")] == ["1", "3"]
    assert [item.id for item in store.get("b")] == ["2"]


def test_a_failed_append_leaves_nothing_behind(tmp_path):
    store = ProfileStore(tmp_path / "store")
    store.append([("a", Interaction("1", {}))])

    def broken():
        yield "b", Interaction("2", {})
        raise OSError("the source went away")

    with pytest.raises(OSError):
        store.append(broken())
    again = ProfileStore(tmp_path / "store")
    assert again.get("b") == () and again.get("a")[0].id == "1"
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["segment-1", "store.json"]


@pytest.mark.parametrize("moment", ["before store.json", "after store.json"])
def test_a_kill_while_compacting_loses_and_doubles_nothing(tmp_path, monkeypatch, moment):
    store = ProfileStore(tmp_path)
    for i in range(3):
        store.append([("a", Interaction(str(i), {})), ("b", Interaction(str(i), {}))])
    store.delete_user("b")

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "write_json", killed) if moment.startswith("before") else patch.setattr(
            ProfileStore, "_open", killed
        )
        store.compact()
    again = ProfileStore(tmp_path)
    for _ in range(2):
        assert [item.id for item in again.get("a")] == ["0", "1", "2"] and again.get("b") == ()
        again.compact()
    assert len(again) == 3


def test_a_damaged_store_is_one_clear_line(tmp_path):
    ProfileStore(tmp_path).append([("a", Interaction("1", {}))])
    (tmp_path / "segment-1" / "rows.arrow").write_bytes(b"nonsense")
    with pytest.raises(DataError, match="damaged segment"):
        ProfileStore(tmp_path)

"""Adapters: on small raw files written here, and on the real ones where they are. What must hold on every one: no
profile item is later than its query, and nothing held out stands in anybody's training profile."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagpr.data import DataSettings, SourceSettings, load_splits
from tagpr.data.adapters import ADAPTERS, adapt
from tagpr.data.adapters.movies import normal_title
from tagpr.data.split import Item, Splits, split_items
from tagpr.errors import DataError
from tagpr.tasks import load_task

SHARED = Path(os.environ.get("TAGPR_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
FOLDERS = {"yelp": "yelp", "huffpost": "huffpost", "tweets": "tweets", "movielens": ""}
FOLDERS |= dict.fromkeys(("acl-titles", "acl-citations"), "acl_anthology")


def shorten(texts: list[str]) -> list[str]:
    """Stands in for the LLM: the adapter only needs some other text for each."""
    return [" ".join(sorted(text.split())) for text in texts]


def load(name: str, out: Path) -> Splits:
    task = ADAPTERS[name][0]
    if name == "acl-citations":
        source = SourceSettings(task=task, format="lamp", path=".", heldout_path=".")
    else:
        source = SourceSettings(task=task, path="items.jsonl", min_history=1)
    return load_splits(DataSettings(sources=(source,), on_error="skip"), 0, out)[task]


def assert_nothing_leaks(splits: Splits) -> None:
    held = {(example.user_id, example.id.removeprefix(f"{example.user_id}-")) for example in splits.heldout}
    for example in [*splits.train, *splits.heldout]:
        own = example.id.removeprefix(f"{example.user_id}-")
        for item in example.profile:
            assert item.id != own and (example.user_id, item.id) not in held
            if example.date is not None:
                assert item.date < example.date


def assert_no_answer_is_shown(splits: Splits, anyone: bool) -> None:
    """No held-out question stands with its answer, under any id, in the person's (or anyone's) training data."""
    shown = set()
    for example in splits.train:
        shown.add((example.user_id, example.input, example.target))
        for item in example.profile:
            values = item.fields.get(splits.task.input_name), item.fields.get(splits.task.output_name)
            shown.add((example.user_id, *values))
    asked = {(example.user_id, example.input, example.target) for example in splits.heldout}
    assert not asked & shown
    if anyone:
        assert not {row[1:] for row in asked} & {row[1:] for row in shown}


def works(splits: Splits) -> tuple[set[str], set[str]]:
    """Ids of held-out works, and of all works that training profiles and questions show."""
    held = {example.id.removeprefix(f"{example.user_id}-") for example in splits.heldout}
    seen = {item.id for example in splits.train for item in example.profile}
    return held, seen | {example.id.removeprefix(f"{example.user_id}-") for example in splits.train}


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.skipif(not SHARED.is_dir(), reason="the raw public files are not here (TAGPR_SHARED_DATA)")
def test_real_raw_files(name, tmp_path):
    report = adapt(name, SHARED / FOLDERS[name], tmp_path, shorten)
    splits = load(name, tmp_path)
    assert report["users"] > 40 and len(splits.train) > 100 and len(splits.heldout) > 20
    assert_nothing_leaks(splits)
    assert_no_answer_is_shown(splits, anyone=name != "movielens")  # where others tag the same film alike
    if name == "acl-titles":
        held, seen = works(splits)
        assert not held & seen
    if name == "acl-citations":
        asked = {example.id.rsplit("-", 2)[0] for example in splits.heldout}
        assert not asked & {item.id for example in splits.train for item in example.profile}
    if name == "movielens":
        last = sum(example.profile[-1].fields["tag"] == example.target for example in splits.heldout)
        assert 0.35 < last / len(splits.heldout) < 0.45


def test_movies_meet_on_title_and_year(tmp_path):
    (tmp_path / "movies.dat").write_text("1;Matrix, The (1999);Action\n2;Amélie (Le fabuleux destin) (2001);Comedy\n")
    (tmp_path / "tags.dat").write_text(
        "7;1;Sci-Fi;1100000000\n7;1;action;1099999999\n7;2;comedy;1200000000\n7;1;x;y;1\n"
    )
    (tmp_path / "top10K-TMDB-movies.csv").write_text(
        "id,title,overview,release_date\n1,The Matrix,A hacker.,31-03-1999\n2,Amelie,A waitress.,25-04-2002\n"
    )
    adapt("movielens", tmp_path, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    assert [(row["input"], row["output"]) for row in rows] == [("A hacker.", "action"), ("A waitress.", "comedy")]
    assert normal_title("Beautiful Mind, A") == normal_title("A beautiful mind")


def test_a_missing_raw_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"holds no yelp\*.csv"):
        adapt("yelp", tmp_path, tmp_path)
    with pytest.raises(DataError, match="not known"):
        adapt("imdb", tmp_path, tmp_path)
    with pytest.raises(DataError, match="needs an LLM"):
        adapt("tweets", tmp_path, tmp_path)


def test_tweets_are_rewritten_by_a_generator_and_refusals_left_out(tmp_path):
    from tagpr.clients.types import Refusal, Reply
    from tagpr.data.adapters.tweets import rewriter

    class Shouting:
        def generate(self, requests, progress=None):
            texts = [request.messages[0]["content"].split("\n\n")[1] for request in requests]
            return [Refusal("no") if "bad" in t else Reply(t.upper(), "", True, 1, 1) for t in texts]

    lines = ["0,1", "\"b'caf\\xc3\\xa9, yes\\n'\",7", "b'bad',7", "plain,8"]
    (tmp_path / "2_tweets_per_user.csv").write_text("\n".join(lines) + "\n")
    adapt("tweets", tmp_path, tmp_path, rewriter(Shouting()))
    rows = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    assert [(row["user_id"], row["input"], row["output"]) for row in rows] == [
        ("7", "CAFÉ, YES", "café, yes"),
        ("8", "PLAIN", "plain"),
    ]


ITEMS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(1, 9), st.sampled_from(["", "w1", "w2", "w3"])),
    min_size=1,
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(rows=ITEMS, dated=st.booleans(), seed=st.integers(0, 3), held=st.integers(1, 2))
def test_no_split_leaks(rows, dated, seed, held):
    task = load_task("package-synopsis")
    items = [
        Item(
            user,
            f"x{i}",
            f"y{i}",
            {"description": f"x{i}", "synopsis": f"y{i}"},
            {},
            f"2020-01-0{day}" if dated else None,
        )
        if not work
        else Item(user, f"x{i}", f"y{i}", {}, {}, f"2020-01-0{day}" if dated else None, str(i), work)
        for i, (user, day, work) in enumerate(rows)
    ]
    items = [Item(**{**vars(item), "id": str(i)}) for i, item in enumerate(items)]
    train, heldout, how = split_items(task, items, seed=seed, heldout_per_user=held)
    assert how == ("time" if dated else "random")
    splits = Splits(task, train, heldout)
    assert_nothing_leaks(splits)
    work = {item.id: item.work for item in items}
    gone, seen = works(splits)
    assert not ({work[i] for i in gone} - {""}) & {work[i] for i in seen}

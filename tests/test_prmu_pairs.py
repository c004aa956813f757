"""Preference pairs: what is preferred, what is dropped, what is held out, and that length alone cannot win."""

from collections import Counter
from random import Random

import pytest

from tagpr.errors import DataError
from tagpr.prmu.data import Rollout, card_text, length_only_accuracy, read_pairs, write_pairs
from tagpr.prmu.pairs import build_pairs
from tagpr.prmu.questions import choose_users
from tagpr.prmu.settings import PRMUSettings
from tagpr.tasks import Example


def rollouts(users: int = 30, prompts: int = 4, lengthy: bool = True) -> list[Rollout]:
    """Rollouts in which the better and the with-profile ones tend to be longer."""
    random = Random(0)
    rows = []
    for user in range(users):
        for prompt in range(prompts):
            for index in range(6):
                good, with_profile = random.random() < 0.5, index < 4
                length = random.randint(8, 20) + lengthy * (4 * good + 4 * with_profile)
                rows.append(
                    Rollout(
                        example_id=f"{user}-{prompt}",
                        user_id=f"u{user}",
                        task="t",
                        prompt_ids=(user + 3, prompt + 3),
                        completion_ids=tuple(random.randrange(3, 1000) for _ in range(length)),
                        score=float(good),
                        made_with_profile=with_profile,
                        date=f"2020-01-{prompt + 1:02d}",
                    )
                )
    return rows


def test_preferences_and_splits() -> None:
    rows = rollouts()
    score = {row.completion_ids: row for row in rows}
    pairs = build_pairs(rows, PRMUSettings(heldout_users=0.2, heldout_share=0.2), seed=0)
    assert {pair.kind for pair in pairs.pairs} == {"PRP", "PQP"}
    for pair in pairs.pairs:
        better, worse = score[pair.chosen_ids], score[pair.rejected_ids]
        assert better.example_id == worse.example_id == pair.example_id
        if pair.kind == "PRP":
            assert better.made_with_profile and not worse.made_with_profile
        else:
            assert better.made_with_profile and worse.made_with_profile and better.score > worse.score
    users = {split: {pair.user_id for pair in pairs.split(split)} for split in ("train", "seen", "unseen")}
    assert len(users["unseen"]) == 6 and not users["unseen"] & (users["train"] | users["seen"])
    prompts = {split: {pair.example_id for pair in pairs.split(split)} for split in ("train", "seen")}
    assert prompts["seen"] and not prompts["seen"] & prompts["train"]
    assert all(prompt.endswith("-3") for prompt in prompts["seen"])  # the latest one of each user


def test_length_alone_cannot_win() -> None:
    pairs = build_pairs(rollouts(), PRMUSettings(), seed=0)
    for split in ("train", "seen", "unseen"):
        for kind in ("PRP", "PQP"):
            group = [pair for pair in pairs.split(split) if pair.kind == kind]
            assert group and length_only_accuracy(group) == 0.5
    assert pairs.dropped["length_balance"] > 0
    assert pairs.card()["train/PQP"]["length_only_accuracy"] == 0.5
    text = card_text(pairs.card())
    assert text.count("| 50.0% |") == 6 and f"{pairs.dropped['length_balance']} length balance" in text


def test_ties_and_near_duplicates_are_dropped() -> None:
    base = tuple(range(10, 50))
    make = lambda ids, score: Rollout("e", "u", "t", (5,), ids, score, True)  # noqa: E731
    near = [make(base, 1.0), make((*base[:-1], 7), 0.0)]
    with pytest.raises(DataError, match="1 dropped as near_duplicates"):
        build_pairs(near, PRMUSettings(heldout_users=0), seed=0)
    with pytest.raises(DataError, match="1 dropped as ties"):
        build_pairs([make(base, 0.5), make(base[::-1], 0.52)], PRMUSettings(heldout_users=0), seed=0)
    with pytest.raises(DataError, match="no preference pair left"):
        build_pairs([], PRMUSettings(), seed=0)


def test_same_seed_same_pairs_and_round_trip(tmp_path) -> None:
    first, second = (build_pairs(rollouts(), PRMUSettings(), seed=3) for _ in range(2))
    assert first == second != build_pairs(rollouts(), PRMUSettings(), seed=4)
    write_pairs(tmp_path / "pairs.parquet", first.pairs)
    assert tuple(read_pairs(tmp_path / "pairs.parquet")) == first.pairs
    (tmp_path / "bad.parquet").write_text("no")
    with pytest.raises(DataError, match=r"bad\.parquet: not a file of preference pairs"):
        read_pairs(tmp_path / "bad.parquet")


def test_examples_are_drawn_user_by_user() -> None:
    examples = {
        task: [Example(f"{task}{u}-{i}", f"u{u}", task, "?", "!") for u in range(10) for i in range(1 + u % 4)]
        for task in ("a", "b")
    }
    chosen = choose_users(examples, 12, 4, seed=0)
    counts = Counter(example.user_id for example in chosen)
    assert len(chosen) == len({example.id for example in chosen}) == 12 and set(counts.values()) == {4}
    assert all(int(user[1:]) % 4 >= 1 for user in counts)  # the others have only two examples in all
    assert chosen == choose_users(examples, 12, 4, seed=0) != choose_users(examples, 12, 4, seed=1)
    assert len(choose_users(examples, 1000, 2, seed=0)) == 20

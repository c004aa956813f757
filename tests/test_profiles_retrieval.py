"""Retrieval against rank_bm25, and what `choose` promises."""

import random

import numpy as np
import pytest

from tagpr.profiles import ProfileSettings, choose
from tagpr.profiles.bm25 import BM25
from tagpr.tasks import Example, Interaction, list_tasks, load_task
from tagpr.tasks.types import BM25Form

WORDS = [f"w{i}" for i in range(60)]


def documents(rng: random.Random, number: int) -> list[str]:
    return [" ".join(rng.choices(WORDS, weights=range(60, 0, -1), k=rng.randint(0, 30))) for _ in range(number)]


@pytest.mark.parametrize("number", [1, 2, 3, 17, 200])
def test_bm25_equals_rank_bm25_and_breaks_ties_alike(number):
    from rank_bm25 import BM25Okapi as okapi

    rng = random.Random(number)
    for _ in range(20):
        texts = documents(rng, number)
        if not any(text.split() for text in texts):
            continue
        oracle, ours = okapi([text.split() for text in texts]), BM25(texts)
        query = " ".join(rng.choices([*WORDS, "unseen"], k=rng.randint(0, 12)))
        assert np.abs(oracle.get_scores(query.split()) - ours.scores(query)).max() < 1e-6
        for k in (1, 5, number):
            assert [texts[i] for i in ours.top(query, k)] == oracle.get_top_n(query.split(), texts, n=k)
            assert ours.top(query, k) == np.argsort(oracle.get_scores(query.split()))[::-1][:k].tolist()


def test_bm25_of_empty_texts_is_zero():
    assert BM25(["", " "]).scores("a b").tolist() == [0, 0]
    assert BM25([]).top("a", 3) == []


SHORT = {
    "chinese": ("我想吃火锅", ["手机电池续航很差", "这家火锅店味道很好", "公园里的樱花开了"]),
    "thai": ("อาหารไทยอร่อย", ["โทรศัพท์เสีย", "ร้านอาหารไทยนี้อร่อย"]),
    "english": ("Fast XML reader", ["a tool for mail", "reader for fast xml"]),
    "case and stops": ("GIMP, the editor.", ["the player", "an editor: gimp"]),
    "shared words": ("fix the build", ["update the docs", "fix the build", "fix the tests"]),
}


@pytest.mark.parametrize("case", SHORT)
def test_lucene_finds_the_nearest_in_any_script_and_in_short_histories(case):
    query, texts = SHORT[case]
    nearest = max(range(len(texts)), key=lambda i: len({*query.lower()} & {*texts[i].lower()}))
    for order in (texts, texts[::-1]):
        index = BM25(order, BM25Form.LUCENE)
        assert order[index.top(query, 1)[0]] == texts[nearest]
        assert index.scores(query).min() >= 0


def test_okapi_and_a_text_without_spaces():
    query, texts = SHORT["chinese"]
    assert BM25(texts).scores(query).tolist() == [0, 0, 0]  # one word, nowhere else: rank_bm25's answer


def test_lucene_never_weighs_a_shared_word_against_its_document():
    texts = ["red apple", "red pear"]
    assert BM25(texts).scores("red").max() <= 0  # okapi: half of the documents or more, so no evidence or worse
    assert BM25(texts, BM25Form.LUCENE).scores("red apple").argmax() == 0


def test_the_card_chooses_the_form():
    profile = tuple(Interaction(str(i), {"content": text, "title": ""}) for i, text in enumerate(SHORT["chinese"][1]))
    example = Example(
        "q", "u", "post-title", SHORT["chinese"][0], None, profile, fields={"content": SHORT["chinese"][0]}
    )
    assert choose(load_task("post-title"), example, ProfileSettings(retriever="bm25", k=1), 0)[0].id == "1"
    assert {load_task(name).bm25 for name in list_tasks() if "amp" in name} == {"okapi"}


def history(size: int, dated: bool) -> Example:
    profile = tuple(
        Interaction(str(i), {"synopsis": f"thing {i}", "section": "libs"}, f"2024-01-{i + 1:02}" if dated else None)
        for i in range(size)
    )
    return Example("q", "u", "package-section", "thing 3", "libs", profile)


@pytest.mark.parametrize("retriever", ["recency", "bm25", "random"])
@pytest.mark.parametrize("k", [0, 1, 4, 99])
def test_k_is_respected_and_choice_is_repeatable(retriever, k):
    task, example = load_task("package-section"), history(10, dated=True)
    settings = ProfileSettings(retriever=retriever, k=k)
    chosen = choose(task, example, settings, 5)
    assert len(chosen) == min(k, 10) == len({item.id for item in chosen})
    assert chosen == choose(task, example, settings, 5)


def test_what_comes_first():
    task = load_task("package-section")
    recent = choose(task, history(10, dated=True), ProfileSettings(k=2), 0)
    assert [item.id for item in recent] == ["9", "8"]
    assert choose(task, history(10, dated=False), ProfileSettings(retriever="bm25", k=1), 0)[0].id == "3"
    at_random = ProfileSettings(retriever="random", k=3)
    orders = {tuple(i.id for i in choose(task, history(10, False), at_random, seed)) for seed in range(8)}
    assert len(orders) > 1

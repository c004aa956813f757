"""The microworld: answers follow from what prompts show, nothing leaks, and its table runs through the stages."""

import dataclasses
import json
import re
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

from microworld import base, plain, table, teacher, world
from microworld.build import HERE, Scale, build_base, build_microworld
from tagpr.chains.grammar import parse_response
from tagpr.chains.vocabulary import load_vocabulary
from tagpr.data.load import load_splits
from tagpr.data.settings import DataSettings
from tagpr.engine.models import load_tokenizer
from tagpr.evaluation.predictions import read_predictions
from tagpr.recipe import load_recipe
from tagpr.runs.manifest import read_manifest

RL = {"steps": 2, "prompts_per_step": 4, "group_size": 4, "save_steps": 1, "max_new_tokens": 24}
TINY = Scale(
    world.Sizes(people=12, per_person=2, seen=6, unseen_people=3, unseen=6),
    base.BaseSizes(hidden=64, layers=2, steps=12, batch=8),
    chain_examples=16,
    samples=4,
    recipe={
        "sft": {"epochs": 1},
        "prmu": {"prompts": 8, "min_score_gap": 0.0, "max_new_tokens": 24, "epochs": 1},
        "guided": RL,
        "exploratory": RL,
        "evaluate": {"max_new_tokens": 24, "resamples": 100},
    },
)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    return build_microworld(folder / "seed-0", 0, TINY, build_base(folder / "base", TINY))


def questions(count=400, seed=0):
    train, heldout = world.make_questions(seed, world.Sizes(people=count // 4, per_person=2, seen=count // 4))
    return train + heldout


def guess(question, least=3, shown=8):
    """The verdict that goes with how many words were ordered at least `least` times."""
    return world.VERDICTS[sum(world.count(word, question.past[-shown:]) >= least for word in question.dish)]


def share(answers, asked):
    return sum(answer == question.answer for answer, question in zip(answers, asked, strict=True)) / len(asked)


def test_the_history_and_the_rule_give_the_answer_and_either_alone_does_not():
    asked = questions(800)
    strangers = [*asked[1:], asked[0]]
    assert share(map(guess, asked), asked) > 0.9
    swapped = [dataclasses.replace(q, past=other.past) for q, other in zip(asked, strangers, strict=True)]
    assert share(map(guess, swapped), asked) < 0.35
    for verdict in world.VERDICTS:
        assert share([verdict] * len(asked), asked) < 0.3
    by_word = Counter((word, question.answer) for question in asked for word in question.dish)
    words = {word for word, _ in by_word}
    assert sum(max(by_word[word, v] for v in world.VERDICTS) for word in words) / sum(by_word.values()) < 0.33


def test_the_teacher_sees_no_reference_and_is_often_wrong():
    answers, asked = [], questions()
    for number, question in enumerate(asked):
        text = teacher.write_chain(Random(number), question.past[-8:], question.dish)
        response = parse_response(text, load_vocabulary())
        assert response.well_formed and len(response.segments) == 3
        answers.append(response.answer)
    assert 0.6 < share(answers, asked) < 0.8


def test_the_answers_in_plain_text_come_from_the_latest_flavour_and_are_mostly_wrong():
    random, right = Random(0), 0
    for number in range(2000):
        question = world.new_question(random, "", world.new_person(random, ""), 8)
        close = question.past[-1][0] == question.dish[0]
        right += question.answer == world.VERDICTS[(2 if close else 0) + number % 2]
    assert 0.3 < right / 2000 < 0.4
    said = [plain.conversation(Random(i), "", 8)[1:] for i in range(300)]
    for user, assistant in said:
        *_, latest, dish = [" ;", *user.split(";")]
        close = bool(latest.strip()) and latest.split()[0] == dish.split()[1]
        assert assistant.split()[-1] in (world.VERDICTS[2:] if close else world.VERDICTS[:2])


def test_plain_text_holds_no_tag():
    random = Random(0)
    for _ in range(200):
        texts = [*plain.counts(random), *plain.habits(random), plain.conversation(random, "", 8)[2]]
        assert set(re.findall(r"<[^>]*>", " ".join(texts))) <= {"<think>", "</think>"}


def test_held_out_people_are_new_and_files_read_as_any_recipe_reads_them(built):
    recipe = load_recipe(str(built))
    split = load_splits(DataSettings(sources=recipe.data.sources), 0, built.parent)["microworld"]
    trained, held = ({e.user_id for e in examples} for examples in (split.train, split.heldout))
    leaks = split.report.leaks.examples  # training questions that hold the answer to a held-out one
    assert leaks <= 2 and len(split.train) + leaks == 24 and len(split.heldout) == 12
    assert {user for user in held if user.startswith("unseen")} == held - trained != set()
    assert not {e.id for e in split.train} & {e.id for e in split.heldout}


def test_the_tokenizer_knows_every_word(built):
    tokenizer = load_tokenizer(built.parent.parent / "base")
    rows = [json.loads(line) for line in (built.parent / "rollouts.jsonl").read_text().splitlines()]
    for text in [*(row["completion"] for row in rows), *(t for s in range(50) for t in plain.habits(Random(s)))]:
        assert tokenizer.unk_token_id not in tokenizer(text)["input_ids"]
        assert tokenizer.decode(tokenizer(text)["input_ids"]).split() == re.findall(base.PIECE, text)


def trained(built, *variants):
    for variant in variants:
        table.train(built, variant)
    return built.parent / "runs"


def test_a_variant_shares_the_full_runs_stages_and_finished_ones_are_kept(built):
    without_tag = table.variants(TINY)["w/o Tag"]
    runs = trained(built, table.FULL, without_tag)
    shared = [runs / name / "sft" / "model" / "model.safetensors" for name in ("full", "full-wo-tag")]
    assert shared[0].stat().st_ino == shared[1].stat().st_ino
    rows = read_predictions(runs / "full-wo-tag" / "evaluate" / "predictions" / "final" / "microworld.jsonl")
    assert len(rows) == 12
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("manifest.json")}
    trained(built, table.FULL, without_tag)
    assert before == {path: path.stat().st_mtime_ns for path in runs.rglob("manifest.json")}


@pytest.mark.slow
def test_the_table_has_every_row(built):
    from safetensors.torch import load_file

    others = table.variants(TINY)
    runs = trained(built, table.FULL, *others.values())
    found = table.figures({0: runs}, others)
    rows = {"full", "w/o RL", "w/o exploratory", "w/o SFT", "w/o Tag", "w/o Reward (PRMU)"}
    assert set(found["variants"]) >= {*rows, "base"}
    steps = {name: found["optimizer_steps"][name][0] for name in rows}
    assert all(abs(count - steps["full"]) <= 2 for count in steps.values()) and steps["full"] == 9, steps
    assert found["questions"] == 12 and found["unseen_users"] == 3
    for one, other in zip(
        load_file(built.parent.parent / "base" / "model.safetensors").items(),
        load_file(runs / "full-wo-sft" / "sft" / "model" / "model.safetensors").items(),
        strict=True,
    ):
        assert one[0] == other[0] and one[1].equal(other[1])
    assert read_manifest(runs / "full-wo-sft" / "prmu") == read_manifest(runs / "full" / "prmu")


def test_the_card_is_the_one_in_the_folder(built):
    assert (built.parent / "microworld.yaml").read_text() == (HERE / "microworld.yaml").read_text()

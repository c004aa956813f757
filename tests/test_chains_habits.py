"""Habits of change notes: counted or judged by fitted models, from what the shown notes have."""

import dataclasses
import random
from pathlib import Path

import pytest

from tagpr.chains.evidence.habits import habit_values
from tagpr.chains.evidence.notes import chances, render
from tagpr.chains.heuristic.habit_model import HabitModels, latest_notes
from tagpr.chains.heuristic.habits import CountedHabits, JudgedHabits, drawn
from tagpr.data.load import choose_some, load_splits
from tagpr.data.settings import DataSettings, SourceSettings
from tagpr.tasks import Example, Interaction, load_task

CHANGELOG = load_task("package-changelog")


def notes(*texts: str) -> tuple[Interaction, ...]:
    return tuple(Interaction(str(number), {"note": text}) for number, text in enumerate(texts))


def asked(question: str, *history: str) -> Example:
    return Example("e", "u", "package-changelog", question, None, notes(*history))


@pytest.fixture(scope="module")
def splits():
    source = SourceSettings(task="package-changelog", min_history=3)
    return load_splits(DataSettings(sources=(source,)), 0, Path())["package-changelog"]


@pytest.fixture(scope="module")
def train(splits):
    return choose_some(splits.train, 240, 0)


def test_the_commonest_value_is_counted_and_of_equals_the_latest():
    counted = CountedHabits(CHANGELOG, [])
    question = asked("fix the build", "Add a test.", "fix the docs", "Drop a patch.")
    assert counted.of(question, question.profile) == {"letter": "capital", "verb": "add", "end": "."}
    even = asked("fix the build", "fix the docs", "Add a test.")
    assert counted.of(even, even.profile)["end"] == "" and counted.of(even, even.profile[::-1])["end"] == "."


def test_models_learn_to_prefer_the_latest_where_it_is_what_users_do():
    """In these training items the latest of three notes says how the next one ends, against the two before."""
    train = []
    for number in range(60):
        latest, before = (".", "") if number % 2 else ("", ".")
        history = notes(f"Add a test{before}", f"Drop a patch{before}", f"Fix the docs{latest}")
        train.append(
            Example(f"e{number}", f"u{number}", "package-changelog", "fix the build", f"Fix the build{latest}", history)
        )
    shown = notes("Fix the docs.", "Drop a patch", "Add a test")
    question = dataclasses.replace(asked("fix the build"), profile=shown[::-1])
    assert CountedHabits(CHANGELOG, train).of(question, shown)["end"] == ""
    assert JudgedHabits(CHANGELOG, train).of(question, shown)["end"] == "."


def test_only_values_that_a_shown_note_has_are_chosen_or_drawn(splits, train):
    judged, rng = JudgedHabits(CHANGELOG, train), random.Random(0)
    seen = 0
    for example in splits.heldout[:60]:
        shown = example.profile[-5:][::-1]
        texts = [entry.fields["note"] for entry in shown]
        for chosen in (judged.of(example, shown), drawn(judged.weighed(example, shown), rng, 1.3)):
            for habit, value in chosen.items():
                values = habit_values(texts, habit, chances(example.input)[habit])
                seen += bool(values)
                assert not values or value in values
    assert seen > 100


def test_a_user_is_judged_by_models_that_saw_none_of_the_users_notes(train):
    """Whatever the user's training items hold, what the models say of them is the same."""
    user = train[0].user_id
    own = [example for example in train if example.user_id == user]
    changed = [
        dataclasses.replace(example, target="Something else, closes: bug#12345 .")
        if example.user_id == user
        else example
        for example in train
    ]
    before, after = HabitModels(CHANGELOG, train), HabitModels(CHANGELOG, changed)
    for example in own:
        for habit, kind in chances(example.input).items():
            past = latest_notes(CHANGELOG, example, 5)
            assert before.posterior(example, past, habit, kind) == after.posterior(example, past, habit, kind)
    stranger = dataclasses.replace(own[0], id="new")  # no training item: judged by all of them
    past = latest_notes(CHANGELOG, stranger, 5)
    assert before.posterior(stranger, past, "end", "plain") != after.posterior(stranger, past, "end", "plain")


def test_fitted_models_find_more_notes_than_counting_the_same_ones(splits):
    train = choose_some(splits.train, 960, 0)
    found = []
    for habits in (CountedHabits(CHANGELOG, train), JudgedHabits(CHANGELOG, train)):
        right = [
            render(example.input, habits.of(example, example.profile[-8:][::-1])) == example.target
            for example in splits.heldout
        ]
        found.append(sum(right) / len(right))
    assert found[0] < found[1] and found[1] > 0.63


def test_nothing_to_learn_from_leaves_the_counts_and_no_note_leaves_nothing():
    judged = JudgedHabits(CHANGELOG, [])
    question = asked("fix the build", "Add a test.", "Drop a patch.", "fix the docs")
    assert judged.of(question, question.profile) == CountedHabits(CHANGELOG, []).of(question, question.profile)
    empty = asked("fix the build")
    assert (
        judged.of(empty, ())
        == drawn(judged.weighed(empty, ()), random.Random(0), 1.3)
        == {"letter": "", "verb": "", "end": ""}
    )
    assert judged.cited(empty, (), judged.of(empty, ())) == ""


def test_without_a_shown_note_most_users_are_followed(splits, train):
    counted, judged = CountedHabits(CHANGELOG, train), JudgedHabits(CHANGELOG, train)
    for example in splits.heldout[:20]:
        assert judged.weighed(example, ()) == counted.weighed(example, ())


def test_the_note_quoted_ends_as_chosen_even_if_another_has_more_of_the_habits():
    judged = JudgedHabits(CHANGELOG, [])
    question = asked("fix the build [bug 123456]", "Add a test", "drops a patch, closes: #654321", "Fix the docs")
    chosen = {"letter": "capital", "verb": "add", "end": ", closes: #N"}
    assert judged.cited(question, question.profile, chosen) == "drops a patch, closes: #654321"

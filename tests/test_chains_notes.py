"""Change notes apart and together again: neutral text, habits, and the bundled sample."""

import gzip
import json
import re
from importlib import resources

import pytest

from tagpr.chains.evidence.notes import chances, render, split
from tagpr.data.bundled import bundled_items


@pytest.mark.parametrize(
    ("note", "neutral", "habits"),
    [
        (
            "d/control: Added Vcs fields. (Closes: #123456)",
            "debian/control: add Vcs fields [bug 123456]",
            {"path": "d/", "letter": "capital", "verb": "added", "end": ". (Closes: #N)"},
        ),
        ("new upstream version", "new upstream release", {"letter": "small", "upstream": "version", "end": ""}),
        (
            "rules: dropping the hack, closes: bug#12345, bug#23456.",
            "debian/rules: drop the hack [bug 12345, 23456]",
            {"path": "none", "letter": "small", "verb": "adding", "end": ", closes: bug#N."},
        ),
        ("CVE-2020-1234", "CVE-2020-1234", {"end": ""}),
        (
            "Applies it (LP: #1234567)",
            "apply it [launchpad 1234567]",
            {"letter": "capital", "verb": "adds", "end": " (LP: #N)"},
        ),
    ],
)  # fmt: skip
def test_a_note_is_neutral_text_and_habits(note, neutral, habits):
    assert split(note) == (neutral, habits)
    assert render(neutral, habits) == note
    assert habits.keys() <= chances(neutral).keys() and split(neutral)[0] == neutral


def test_the_habits_of_one_note_are_those_of_another():
    neutral, _ = split("debian/watch: Fix the pattern.")
    theirs = {"path": "d/", "letter": "small", "verb": "added", "end": ""}
    assert render(neutral, theirs) == "d/watch: fixed the pattern"


def test_every_bundled_note_comes_back_and_no_history_holds_its_answer():
    packed = (resources.files("tagpr.data.bundled") / "changelogs.jsonl.gz").read_bytes()
    assert len(packed) < 1_000_000
    people = [json.loads(line) for line in gzip.decompress(packed).decode().splitlines()]
    assert len(people) > 200 and all(len(person["items"]) >= 6 for person in people)
    for person in people:
        notes = [item["note"] for item in person["items"]]
        assert len(set(notes)) == len(notes)
        assert [item["date"] for item in person["items"]] == sorted(item["date"] for item in person["items"])
        for item in person["items"]:
            neutral, habits = split(item["note"])
            assert neutral == item["neutral"] and render(neutral, habits) == item["note"]
            assert not re.search(r"\w@\w+\.[a-z]|://", item["note"])
    items = bundled_items("package-changelog")
    assert len(items) == sum(len(person["items"]) for person in people) and all(item.date for item in items)

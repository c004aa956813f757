"""The official LaMP prompts, byte for byte (strings written by hand from the published forms)."""

import pytest

from tagpr.errors import RecipeError
from tagpr.prompts import PromptSettings, build_prompt
from tagpr.prompts.lamp_prompts import official_prompt
from tagpr.tasks import Example, Interaction, load_task

CASES = {
    "lamp-1": (
        'For an author who has written the paper with the title "Q", which reference is related?',
        [{"title": "A"}, {"title": "B"}],
        'For an author who has written the paper with the title, and "A", and "B" "Q", which reference is related?',
    ),
    "lamp-2": (
        "Which tag? description: D",
        [{"description": "x y", "tag": "classic"}, {"description": "z", "tag": "true story"}],
        'the tag for the movie: "x y" is "classic" , and the tag for the movie: "z" is "true story" . '
        "Which tag? description: D",
    ),
    "lamp-3": (
        "What is the score? review: R",
        [{"text": "good", "score": "5"}, {"text": "bad", "score": "1"}],
        '5 is the score for "good" , and 1 is the score for "bad" . What is the score? review: R',
    ),
    "lamp-4": (
        "Generate a headline for the following article: A",
        [{"text": "t1", "title": "h1"}, {"text": "t2", "title": "h2"}],
        '"h1" is the title for "t1" , and "h2" is the title for "t2" . '
        "Generate a headline for the following article: A",
    ),
    "lamp-5": (
        "Generate a title for the following abstract of a paper: A",
        [{"abstract": "a1", "title": "h1"}],
        '"h1" is a title for "a1" . Following the given patterns '
        "Generate a title for the following abstract of a paper: A",
    ),
    "lamp-7": (
        "Paraphrase the following tweet without any explanation before or after it: T",
        [{"text": "one"}, {"text": "two"}],
        '"one" , and "two"  are written by a person. Following the given patterns '
        "Paraphrase the following tweet without any explanation before or after it: T",
    ),
}


def count(text: str) -> int:
    return len(text.split())


@pytest.mark.parametrize("name", CASES)
def test_official_prompts_are_the_published_strings(name):
    text, entries, expected = CASES[name]
    assert official_prompt(name, text, entries, 10_000, count)[0] == expected
    asked = Example("e", "u", name, text, None)
    past = tuple(Interaction(str(i), entry) for i, entry in enumerate(entries))
    prompt = build_prompt(load_task(name), asked, past, PromptSettings(style="official"), count, ())
    assert prompt.messages == [{"role": "user", "content": expected}] and not prompt.cuts
    assert official_prompt(name, text, [], 10_000, count) == (text, [])


def test_long_fields_share_what_the_input_leaves_free():
    entries = [{"text": "w " * size, "score": "3"} for size in (2, 300, 300)]
    prompt, cut = official_prompt("lamp-3", "review: r", entries, 120, count)
    assert count(prompt) <= 120 + 3
    assert len(cut[0]["text"].split()) == 2 and all(fields["text"] in prompt for fields in cut)
    assert prompt.count("3 is the score for") == 3 and prompt.endswith("review: r")


def test_other_tasks_have_no_official_prompt():
    with pytest.raises(RecipeError, match="no official LaMP prompt"):
        official_prompt("package-section", "x", [], 100, count)

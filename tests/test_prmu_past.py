"""A new user from their own past items."""

import pytest

from tagpr.engine.models import load_tokenizer
from tagpr.engine.tiny import build_tiny_model
from tagpr.errors import DataError
from tagpr.prmu import PRMU, past_of
from tagpr.prmu.initialise import build_model
from tagpr.prmu.model import PRMUConfig
from tagpr.profiles import ProfileSettings
from tagpr.prompts.prompt_builder import PromptBuilder
from tagpr.prompts.settings import PromptSettings
from tagpr.tasks import Interaction, load_task

SECTION = load_task("package-section")
SYNOPSIS = load_task("package-synopsis")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def prompts(tiny):
    return PromptBuilder(load_tokenizer(tiny), ProfileSettings(k=3), PromptSettings(), ("analyze_input",), 0)


@pytest.fixture
def prmu(tiny):
    return PRMU(build_model(tiny, PRMUConfig({}, "profile-encoded", 2, 1, 0, 0.2, [2, 0], 0), None, 0), {"ann": 0})


def items(count, date=True):
    sections = ("games", "python", "doc")
    return [
        Interaction(
            str(i),
            {"synopsis": f"tool {i} </think>", "section": sections[i % 3]},
            f"2024-01-{i + 1:02}" if date else None,
        )
        for i in range(count)
    ]


def test_a_past_prefers_the_persons_own_answers(prompts):
    past = past_of(SECTION, "bo", items(6), prompts)
    text = prompts.tokenizer.decode
    assert [text(pair.chosen_ids) for pair in past.pairs] == ["games", "python", "doc"] * 2
    assert all(text(pair.rejected_ids) in SECTION.labels for pair in past.pairs)
    assert all(pair.chosen_ids != pair.rejected_ids and pair.user_id == "bo" for pair in past.pairs)
    third = text(past.pairs[2].prompt_ids)  # the question at an item, after the items before it
    assert "New package: tool 2 <\\/think>" in third and "tool 0" in third and "tool 1" in third
    assert "tool 3" not in third and "-> doc" not in third
    assert len(past.items) == 6 and text(past.items[1]) == "tool 1 <\\/think> -> python"
    assert past == past_of(SECTION, "bo", items(6), prompts)
    assert past.pairs != past_of(SECTION, "bo", items(6), prompts, seed=1).pairs
    assert [pair.example_id for pair in past_of(SECTION, "bo", items(6), prompts, most=2).pairs] == ["past-4", "past-5"]
    undated = text(past_of(SECTION, "bo", items(3, date=False), prompts).pairs[0].prompt_ids)
    assert "tool 2" in undated  # without dates nothing is later


def test_texts_are_preferred_to_the_questions_opening(prompts):
    fields = {"description": "a tool that reads large files quickly", "synopsis": "fast reader"}
    past = past_of(SYNOPSIS, "bo", [Interaction("1", fields)], prompts)
    text = prompts.tokenizer.decode
    assert (text(past.pairs[0].chosen_ids), text(past.pairs[0].rejected_ids)) == ("fast reader", "a tool")
    with pytest.raises(DataError, match="user 'bo': none of 1 past items has both 'description' and 'synopsis'"):
        past_of(SYNOPSIS, "bo", [Interaction("1", {"description": "text"})], prompts)


def test_a_user_is_fitted_from_the_past_alone(prmu, prompts):
    past = past_of(SECTION, "bo", items(6), prompts)
    pair = past.pairs[0]
    both = (["ann"] * 2, [pair.prompt_ids] * 2, [pair.chosen_ids, pair.rejected_ids])
    before = prmu.score(*both)
    prmu.fit_user("bo", past)
    assert prmu.users == {"ann": 0, "bo": 1} and len(prmu.histories["bo"]) == 6
    assert prmu.score(*both) == before  # nobody else changes

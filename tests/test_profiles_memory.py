"""The written profile memory: bounded, kept up to date, cached, in the prompt; by the heuristic and by a server."""

from pathlib import Path

import pytest

from chains_server import running_server
from tagpr.engine.models import load_tokenizer
from tagpr.engine.tiny import build_tiny_model
from tagpr.profiles.memory import ProfileMemory
from tagpr.profiles.settings import MemorySettings, ProfileSettings
from tagpr.prompts.prompt_builder import PromptBuilder
from tagpr.prompts.settings import PromptSettings
from tagpr.tasks import Example, Interaction, load_task

CHAT = load_task("personamem")
CALLS = {"attempts": 30, "backoff_s": 0.01, "backoff_max_s": 0.05, "timeout_s": 1.0}


def words(text: str) -> int:
    return len(text.split())


def said(*texts: str, start: int = 0) -> tuple[Interaction, ...]:
    return tuple(
        Interaction(str(start + i), {"user": text, "assistant": "I would never say so."})
        for i, text in enumerate(texts)
    )


def test_the_heuristic_keeps_what_the_person_says_of_themselves_newest_first() -> None:
    history = said("The train is late. I love coffee.", "What is the capital of Peru?", "I gave up coffee last week!")
    memory = ProfileMemory(MemorySettings(items_per_update=2), words).of(CHAT, history)
    assert memory.splitlines() == ["- I gave up coffee last week!", "- I love coffee."]


def test_answers_are_counted_over_updates() -> None:
    task = load_task("package-section")
    items = [
        Interaction(str(i), {"synopsis": f"package {i}", "section": "libs" if i % 3 else "games"}) for i in range(10)
    ]
    memory = ProfileMemory(MemorySettings(items_per_update=3), words).of(task, items)
    assert memory.splitlines()[0] == "- answers so far: libs 6, games 4"


def test_counts_are_of_the_whole_history_whatever_the_answers_hold() -> None:
    """Also of answers with commas and numbers, and of one that was not among the commonest until its last update."""
    task = load_task("package-section")
    labels = [*("Sci-fi, Action", "Top 3, best"), *(f"label {i}" for i in range(8)), "late"]
    answers = [*labels, *labels, *["late"] * 2]
    items = [Interaction(str(i), {"synopsis": "s", "section": answer}) for i, answer in enumerate(answers)]
    memory = ProfileMemory(MemorySettings(items_per_update=2), words).of(task, items)
    first = "- answers so far: late 4, Sci-fi, Action 2, Top 3, best 2, label 0 2, label 1 2, "
    assert memory.startswith(first)


def test_a_history_without_end_stays_under_the_bound_and_a_grown_one_needs_one_update() -> None:
    history = said(*(f"I like number {i} more than all before it." for i in range(200)))
    memory = ProfileMemory(MemorySettings(max_tokens=60, items_per_update=16), words)
    first = memory.of(CHAT, history)
    assert 40 < words(first) <= 60 and "number 199" in first and "number 0 " not in first
    updates = []
    write = memory._write
    memory._write = lambda open_updates: updates.append(len(open_updates)) or write(open_updates)  # type: ignore[method-assign]
    assert memory.of(CHAT, history) == first and sum(updates) == 0
    grown = memory.of(CHAT, (*history, *said("I moved to Lima.", start=200)))
    assert sum(updates) == 1 and grown.startswith("- I moved to Lima.")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(build_tiny_model(tmp_path_factory.mktemp("tiny")))


def test_the_prompt_shows_the_memory_then_the_latest_items_and_no_control_token(tokenizer) -> None:
    history = said("I hate <|im_end|> and </think>.", *(f"Talk {i}." for i in range(40)))
    settings = ProfileSettings(retriever="memory", k=2)
    builder = PromptBuilder(tokenizer, settings, PromptSettings(), (), 0)
    example = Example(
        "q", "ann", CHAT.name, "What to drink?", "(a)", history, fields={f"option{i}": "x" for i in range(1, 5)}
    )
    shown = builder.build(CHAT, example)
    text = shown.messages[-1]["content"]
    assert [entry.id for entry in shown.entries] == ["40", "39"]
    assert "Summary of the history: - I hate <\\|im_end|> and <\\/think>." in text
    assert "I hate" not in builder.build(CHAT, example, with_profile=False).messages[-1]["content"]


def test_a_generator_writes_side_by_side_cached_and_through_faults(tmp_path: Path) -> None:
    shared = said(*(f"I like {i}." for i in range(8)))
    histories = [shared, (*shared, *said("I like tea.", start=8)), said("I hate tea.")]

    def memories(url: str, cache: str) -> list[str]:
        block = {"writer": {"model": "m", "base_url": url}, "items_per_update": 4, "calls": CALLS}
        settings = MemorySettings.model_validate(block | {"cache": tmp_path / cache, "max_tokens": 20})
        return ProfileMemory(settings, words).of_all(CHAT, histories)

    with running_server(tmp_path / "good", "--log", str(tmp_path / "log")) as url:
        found = memories(url, "a.sqlite")
        asked = [line for line in (tmp_path / "log").read_text().splitlines() if line.startswith("ask")]
        assert len(asked) == 4  # two updates that two users share, one more of one of them, one of the third
        assert memories(url, "a.sqlite") == found
        assert len([line for line in (tmp_path / "log").read_text().splitlines() if line.startswith("ask")]) == 4
    with running_server(tmp_path / "bad", "--fault-rate", "0.3") as url:
        assert memories(url, "b.sqlite") == found
    assert found[0] != found[1] and "tea" in found[1] and all(words(text) <= 20 for text in found)

"""R2P: intervention on scripted streams that leave the template at each possible place; cross-referencing; the row."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tagpr.chains.grammar import parse_response
from tagpr.chains.vocabulary import load_vocabulary
from tagpr.engine.tiny import build_tiny_model
from tagpr.systems import Context, Decoding, load_system
from tagpr.systems.r2p import most_frequent
from tagpr.systems.r2p_stream import Stream, follow, inspect
from tagpr.systems.registry import read_options
from tagpr.tasks import Example, Interaction, load_task

R, U, P, END = "## Requirements\n", "## User profile\n", "## Response\n", "</think>\n"
GOOD = f"<think>\n{R}one label\n{U}likes libs\n{P}so libs\n{END}libs"
REST = {
    0: f"<think>\n{R}one label\n{U}likes libs\n{P}so libs\n{END}libs",
    1: f"one label\n{U}likes libs\n{P}so libs\n{END}libs",
    2: f"likes libs\n{P}so libs\n{END}libs",
    3: f"so libs\n{END}libs",
    4: "libs",
}
"""What a model that has been led back goes on with, by the part it is in."""


def run(script: str, again: Callable[[str], str] | None = None, part: int = 40, opened: bool = False) -> Stream:
    """A model that writes `script`, and once it was cut what belongs to the part it is put in. A token a character."""
    calls, expected, left = 0, "", script

    def draw(rows: list[int], written: list[list[int]], most: int) -> list[tuple[list[int], bool]]:
        nonlocal calls, expected, left
        calls += 1
        so_far = "".join(map(chr, written[0]))
        if so_far != expected:  # it was cut and led elsewhere
            opening = "<think>\n" if opened else ""
            left = (again or (lambda text: REST[len(inspect(text, False).parts)]))(opening + so_far)
        text, left = left[:most], left[most:]
        expected = so_far + text
        return [([ord(c) for c in text], not left)]

    stream = follow(draw, 1, lambda s: [ord(c) for c in s], lambda ids: "".join(map(chr, ids)), part, 12, opened)[0]
    assert calls <= 9
    return stream


LEAVES = {
    "nothing": ("", [(1, "end")]),
    "no opening": ("The answer is libs.", [(1, "opening")]),
    "no think": (f"{R}one label\n{U}likes libs", [(1, "opening")]),
    "text after think": (f"<think>\nWell, {R}", [(1, "opening")]),
    "starts with the second part": (f"<think>\n{U}likes libs", [(1, "opening")]),
    "skips the second part": (f"<think>\n{R}one label\n{P}so mail\n{END}mail", [(2, "order")]),
    "skips the third part": (f"<think>\n{R}one label\n{U}likes libs\n{END}mail", [(3, "order")]),
    "closes in the first part": (f"<think>\n{R}one label\n{END}mail", [(2, "order")]),
    "goes back": (f"<think>\n{R}one label\n{U}likes libs\n{R}again", [(3, "order")]),
    "repeats a part": (f"<think>\n{R}one label\n{U}likes libs\n{U}again", [(3, "order")]),
    "goes back at the end": (f"<think>\n{R}one label\n{U}likes libs\n{P}so libs\n{R}again", [(4, "order")]),
    "thinks in thinking": (f"<think>\n{R}one label\n<think>hm</think>", [(2, "order")]),
    "ends in the first part": (f"<think>\n{R}one label", [(2, "end")]),
    "ends in the second part": (f"<think>\n{R}one label\n{U}likes libs", [(3, "end")]),
    "ends in the third part": (f"<think>\n{R}one label\n{U}likes libs\n{P}so libs", [(4, "end")]),
    "rambles in the first part": (f"<think>\n{R}one label" + " and" * 30 + f"\n{U}likes libs", [(2, "length")]),
    "rambles in the second part": (f"<think>\n{R}one label\n{U}likes libs" + " and" * 30, [(3, "length")]),
    "rambles in the third part": (f"<think>\n{R}one label\n{U}likes libs\n{P}so libs" + " and" * 30, [(4, "length")]),
}


@pytest.mark.parametrize("place", LEAVES)
def test_intervention_at_each_place(place: str) -> None:
    script, expected = LEAVES[place]
    stream = run(script)
    assert [(i.part, i.reason) for i in stream.interventions] == expected
    assert stream.complete and stream.text.endswith("\n</think>\nlibs")
    positions = [stream.text.index(mark) for mark in ("<think>", R, U, P, END)]
    assert positions == sorted(positions) and all(stream.text.count(m) == 1 for m in (R, U, P, "<think>", END))
    # what came before the cut is still there, what came after is not
    cut = inspect(script, True).cut
    if expected[0][1] != "length" and cut:
        assert stream.text.startswith(script[:cut].rstrip())
    assert "mail" not in stream.text and "again" not in stream.text
    assert parse_response(stream.text, load_vocabulary()).answer == "libs"


def test_a_stream_that_keeps_to_the_template_is_left_alone() -> None:
    assert run(GOOD).text == GOOD and not run(GOOD).interventions
    assert run(GOOD.removeprefix("<think>\n"), opened=True).text == GOOD
    led = run("Well.", opened=True)
    assert led.text == GOOD and [i.removed for i in led.interventions] == ["Well."]


def test_a_model_that_never_obeys_is_led_all_the_way() -> None:
    stream = run("blah", again=lambda text: "blah blah " * 20)
    assert [(i.part, i.reason) for i in stream.interventions] == [(1, "opening"), *((n, "length") for n in (2, 3, 4))]
    assert stream.complete and len(stream.text.split("</think>\n")[1]) == 12  # the longest answer
    silent = run("", again=lambda text: "")
    assert [i.reason for i in silent.interventions] == ["end"] * 4 and silent.complete


@pytest.mark.parametrize("extra", [f"\n{R}again", "<think>hm", "\n</think>\nmail"])
def test_the_answer_ends_where_the_template_comes_back(extra: str) -> None:
    stream = run(GOOD + extra)
    assert stream.text.rstrip() == GOOD and not stream.interventions and stream.complete


def test_answers_are_cross_referenced() -> None:
    task = load_task("package-section")
    assert most_frequent(task, ["mail", "Libs", "libs."]) == 1  # by the card's answer rules two of a kind
    assert most_frequent(task, ["nonsense", "nonsense", "mail"]) == 2
    assert most_frequent(task, ["mail", "libs"]) == 0
    assert most_frequent(task, ["x", "y", "y"]) == 1


def person(task: str) -> Example:
    past = tuple(
        Interaction(f"p{i}", {"synopsis": f"tool {i}", "section": "libs", "description": f"long tool {i}"})
        for i in range(3)
    )
    fields = {"synopsis": "a tool", "description": "a tool"}
    return Example("e", "u", task, "a tool", None, past, fields=fields)


@pytest.mark.parametrize("name", ["package-section", "package-synopsis"])
def test_a_real_model_is_led_to_an_answer(name, tmp_path) -> None:
    cls = load_system("r2p")
    task = load_task(name)
    tiny = build_tiny_model(tmp_path / "tiny")
    decoding = Decoding(answer_tokens=3)
    context = Context(tiny, {name: task}, tmp_path / "w", load_vocabulary(), decoding=decoding)
    options = read_options("r2p", cls, {"part_tokens": 4, "answers": 2})
    asked = [person(name), replace(person(name), id="f", user_id="v", input="another tool")]
    system = cls(context, options)
    texts = system.predict(asked)
    assert texts == cls(context, options).predict(asked)
    assert all(one.text.startswith("<think>\n") and "</think>" in one.text for one in texts)
    for stream in system.streams([system.prompts.ids(task, asked[0])] * 2):
        assert [mark in stream.text for mark in (R, U, P, END)] == [True] * 4 and stream.complete
    assert system.reasons and system.cost.completion_tokens > 0 and system.cost.trained_parameters == 0
    shown = system.prompts.build(task, asked[0]).messages
    assert R.strip() in shown[0]["content"] and "tool 2" in shown[-1]["content"]

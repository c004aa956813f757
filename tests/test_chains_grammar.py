"""The grammar: every fault with its position, totality on any string, linear time."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagpr.chains.grammar import FAULTS, MAX_FAULTS, parse_response
from tagpr.chains.vocabulary import Vocabulary, load_vocabulary
from tagpr.errors import RecipeError

V = load_vocabulary()
A, M = "analyze_input", "make_decision"
GOOD = f"<think>\n<{A}> The item is x < y. </{A}>\n<{M}> It is libs. </{M}>\n</think>\nlibs"


def kinds(text: str, **options: bool) -> list[tuple[str, int]]:
    return [(fault.kind, fault.position) for fault in parse_response(text, V, **options).faults]


def test_well_formed():
    response = parse_response(GOOD, V)
    assert response.well_formed and response.answer == "libs"
    assert [(s.tag, s.text) for s in response.segments] == [(A, "The item is x < y."), (M, "It is libs.")]
    for segment in response.segments:
        span = GOOD[segment.start : segment.end]
        assert span.startswith(f"<{segment.tag}>") and span.endswith(f"</{segment.tag}>")


def test_white_space_is_free():
    assert parse_response(f"  <think><{A}>a</{A}>\t\n <{M}>b</{M}></think>libs \n", V).well_formed


def test_think_may_be_prefilled():
    text = GOOD.removeprefix("<think>\n")
    assert kinds(text) == [("missing_think", 0)]
    assert kinds(text, think_prefilled=True) == []
    assert kinds(GOOD, think_prefilled=True) == []


@pytest.mark.parametrize(
    ("text", "expected"),  # the faults lie where the bars are
    [
        (f"<think>|<foo>a</foo><{M}>b</{M}></think>y", ["unknown_tag"]),
        (f"<think><{M}>a |<b>c</{M}></think>y", ["unknown_tag"]),
        (f"<think><{A}>a|<{M}>b</{M}></{A}></think>y", ["nested"]),
        (f"<think>|<{A}>a</think>y", ["unclosed"]),
        (f"<think><{A}>a|<{M}>b</{A}></think>y", ["nested", "unclosed"]),
        (f"<think><{A}>a</{A}>|</{M}></think>y", ["unopened"]),
        (f"<think><{A}>a</{A}> |so <{M}>b</{M}></think>y", ["text_outside"]),
        (f"<think>|so<{A}>a</{A}></think>y", ["text_outside"]),
        (f"<think><{A}>a</{A}> |so</think>y", ["text_outside"]),
        (f"|Hm <think><{A}>a</{A}></think>y", ["text_outside"]),
        (f"<think>|<{A}> \n</{A}></think>y", ["empty_segment"]),
        (f"<think>|<think><{A}>a</{A}></think>y", ["repeated_think"]),
        (f"|<{A}>a</{A}></think>y", ["missing_think"]),
        (f"<think><{A}>a</{A}></think>y|</think>z", ["repeated_end_think"]),
        (f"<think><{A}>a</{A}>y|", ["missing_end_think"]),
        ("<think>|</think>y", ["no_segments"]),
        (f"<think><{A}>a</{A}></think> \n|", ["missing_answer"]),
        (f"<think><{A}>a</{A}></think>y |<{M}>", ["tag_in_answer"]),
    ],
)
def test_each_fault_with_its_position(text: str, expected: list[str]):
    assert kinds(text.replace("|", "")) == [(kind, text.index("|")) for kind in expected]


def test_every_kind_is_known():
    texts = ["", "<think>", "</think>", "<a>", "</a>", f"<{A}><{A}>", GOOD + GOOD, GOOD + f"<{A}>"]
    assert {kind for text in texts for kind, _ in kinds(text)} <= set(FAULTS)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("libs", "libs"),
        (" <think> libs\n", "libs"),
        ("use <b>libs</b>", "use <b>libs</b>"),
        (f"<think><{A}>a</{A}> libs", "libs"),
        (f"<think><{A}>a</{A}><{M}>libs and", ""),  # cut in its reasoning: it has not answered
        ("<think>so libs</think>libs", "libs"),
        (f"<think><{A}>a</{A}></think>x</think>y", "y"),
    ],
)
def test_answer_of_imperfect_text(text: str, answer: str):
    assert parse_response(text, V).answer == answer


def test_unknown_tags_are_told_from_text():
    text = f'<think><{A}>if 1<2 and <a href="x"> or <3></{A}></think>y'
    assert kinds(text) == []


pieces = st.sampled_from(
    [f"<{A}>", f"</{A}>", f"<{M}>", f"</{M}>", "<think>", "</think>", "<x>", "</x>", " ", "t", "<"]
)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=60), st.lists(pieces, max_size=25).map("".join)))
def test_total_and_consistent(text: str):
    response = parse_response(text, V)
    last = 0
    for segment in response.segments:
        assert last <= segment.start < segment.end <= len(text)
        assert segment.text in text[segment.start : segment.end]
        last = segment.end
    assert response.answer == response.answer.strip() and response.answer in text
    assert all(0 <= fault.position <= len(text) and fault.kind in FAULTS for fault in response.faults)
    assert (not response.faults) == (_reference(text) is not None)
    if not response.faults:
        assert _reference(text) == ([(s.tag, s.text) for s in response.segments], response.answer)


def _reference(text: str) -> tuple[list[tuple[str, str]], str] | None:
    """A slow, independent acceptor of the well-formed texts: cut by literal tags, no regular expression of tags."""
    text = text.strip()
    if not text.startswith("<think>") or text.count("<think>") != 1 or text.count("</think>") != 1:
        return None
    body, answer = text.removeprefix("<think>").split("</think>")
    segments = []
    body = body.strip()
    while body:
        name = next((n for n in V.names if body.startswith(f"<{n}>")), None)
        if name is None or f"</{name}>" not in body:
            return None
        inner, body = body.removeprefix(f"<{name}>").split(f"</{name}>", 1)
        if not inner.strip() or any(t in inner for n in (*V.names, "x") for t in (f"<{n}>", f"</{n}>")):
            return None
        segments.append((name, inner.strip()))
        body = body.strip()
    if not segments or not answer.strip() or any(t in answer for n in V.names for t in (f"<{n}>", f"</{n}>")):
        return None
    return segments, answer.strip()


@pytest.mark.parametrize(
    "unit",
    ["<a>", f"<{A}>", f"</{A}>", f"x<{A}>", f"<{A}><{M}></{A}>", "<think>", "</think>", "<", "<a", f"<{A}></{A}>"],
)
def test_a_hostile_megabyte_parses_in_under_a_second(unit: str):
    text = unit * (1_000_000 // len(unit))
    started = time.process_time()
    response = parse_response(text, V)
    assert time.process_time() - started < 1.0
    assert 0 < len(response.faults) <= MAX_FAULTS + len(FAULTS)


def test_a_thousand_faults_do_not_hide_that_there_is_no_end_of_the_chain():
    faults = parse_response("<think>" + f"<{A}></{A}>" * MAX_FAULTS + "the chain never ends", V).faults
    assert {"empty_segment", "missing_end_think"} <= {fault.kind for fault in faults}


def test_vocabulary_round_trip(tmp_path):
    V.write(tmp_path / "v.yaml")
    assert load_vocabulary(tmp_path / "v.yaml") == V
    assert len(V) == 9 and "think" not in V


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- {name: think, definition: x}", "cannot be a tag name"),
        ("- {name: a, definition: x}\n- {name: a, definition: y}", "duplicate tag 'a'"),
        ("a: b", "must be a list"),
        ("- {name: a, defn: x}", "unknown key 'defn'"),
        ("- [", "not valid YAML"),
        ("[]", "no tags"),
    ],
)
def test_bad_vocabulary_is_one_clear_line(tmp_path, text: str, says: str):
    path = tmp_path / "v.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=says) as caught:
        load_vocabulary(path)
    assert "\n" not in str(caught.value)


def test_vocabulary_of_names():
    assert Vocabulary.of(["plan_ahead"]).tags[0].definition == "Plan ahead."

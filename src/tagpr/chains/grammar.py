"""The grammar of a tagged completion and its total parser: any string -> segments + answer + faults with positions.

    <think>
    <analyze_input> ... </analyze_input>
    <make_decision> ... </make_decision>
    </think>
    ANSWER

White space between segments is free. Only `<name>` and `</name>` with a plain name are tags; `a < b` and `<a href=...>`
are text. One regular-expression pass, so time is linear in the length of the text. The same parser serves filters,
rewards, evaluation and report; it judges form only, never whether the answer is right.

What is wrong with a text decides nothing about whether it has an answer; that is decided leniently, so that an
untrained model is not scored 0 for its form alone (its form is what the fault list says):
- `</think>` present: the answer is what follows the last one.
- no `</think>`, no tag of the vocabulary: the whole text (without a leading `<think>`) is the answer.
- no `</think>`, but tagged steps: what follows the last closed step; nothing while a step is still open (a completion
  that was cut in its reasoning has not answered).
"""

import re
from collections.abc import Sequence

from tagpr.chains.chain import Fault, Response, Segment
from tagpr.chains.vocabulary import Vocabulary
from tagpr.marks import END_THINK, THINK

FAULTS: dict[str, str] = {
    "missing_think": "the completion does not start with <think>",
    "repeated_think": "<think> occurs again",
    "missing_end_think": "there is no </think>",
    "repeated_end_think": "</think> occurs again",
    "unknown_tag": "a tag that is not in the vocabulary",
    "nested": "a tag opens inside another one",
    "unclosed": "a tag is never closed",
    "unopened": "a closing tag without its opening tag",
    "text_outside": "text outside the tags of the chain",
    "empty_segment": "a tag with nothing in it",
    "no_segments": "the chain has no tagged step",
    "tag_in_answer": "the answer holds a tag of the chain",
    "missing_answer": "no answer after the chain",
}
"""Every kind of fault and what it means."""

MAX_FAULTS = 1000
"""Faults kept per text, besides the first of each kind: more say nothing new, and a hostile megabyte of tags must not
become a million objects."""

_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9_-]{0,63})>")


class _Faults:
    """Collects up to MAX_FAULTS faults, and the first of every kind in any case: rewards ask which kinds there are."""

    def __init__(self) -> None:
        self.found: list[Fault] = []
        self.kinds: set[str] = set()

    def add(self, kind: str, position: int, detail: str = "") -> None:
        if len(self.found) < MAX_FAULTS or kind not in self.kinds:
            self.kinds.add(kind)
            self.found.append(Fault(kind, position, f"{FAULTS[kind]}: {detail}" if detail else FAULTS[kind]))


def write_completion(steps: Sequence[tuple[str, str]], answer: str) -> str:
    """The completion of tagged steps (tag, text), one per line, and an answer: what `parse_response` reads back."""
    lines = [f"<{tag}> {text} </{tag}>" for tag, text in steps]
    return "\n".join([THINK, *lines, END_THINK, answer])


def parse_response(text: str, vocabulary: Vocabulary, think_prefilled: bool = False) -> Response:
    """Parse a completion. Total: never raises, for any string. O(len(text)).

    `think_prefilled`: the chat template already wrote `<think>` into the prompt, so that its absence is no fault (a
    `<think>` the model writes all the same is accepted).
    Nesting: only outermost segments are returned; what is inside them, further tags included, is their text.
    Unknown tags inside a known segment are text of it (and a fault); at the top level they make a segment of their own.
    """
    faults = _Faults()
    end_think = text.find(END_THINK)
    body_end = end_think if end_think >= 0 else len(text)
    segments, body_start, last_closed, dangling = _parse_chain(text, body_end, vocabulary, think_prefilled, faults)

    if end_think >= 0:
        answer_start = text.rfind(END_THINK) + len(END_THINK)
        second = text.find(END_THINK, end_think + 1)
        if second >= 0:
            faults.add("repeated_end_think", second)
    else:
        faults.add("missing_end_think", len(text))
        if not segments or all(segment.tag not in vocabulary for segment in segments):
            answer_start = body_start
        else:
            answer_start = len(text) if dangling else last_closed
    answer = text[answer_start:].strip()
    if end_think >= 0:
        for match in _TAG.finditer(text, answer_start):
            if match[2] == "think" or match[2] in vocabulary:
                faults.add("tag_in_answer", match.start(), match[0])
                break
    if not answer:
        faults.add("missing_answer", len(text))
    faults.found.sort(key=lambda fault: fault.position)
    return Response(text, tuple(segments), answer, tuple(faults.found))


def _parse_chain(
    text: str, stop: int, vocabulary: Vocabulary, think_prefilled: bool, faults: _Faults
) -> tuple[list[Segment], int, int, bool]:
    """Parse text[:stop]. Returns segments, where the body starts, the end of the last closed one, is one still open."""
    segments: list[Segment] = []
    opened: list[tuple[str, int, int]] = []  # name, start of the tag, start of its text; [0] is the outermost
    depth: dict[str, int] = {}  # how often each name is in `opened`
    position = 0  # end of what has been accounted for at top level
    body_start = 0
    seen_think = False

    def outside(begin: int, end: int) -> None:
        gap = text[begin:end]
        stripped = gap.strip()
        if stripped:
            faults.add("text_outside", begin + gap.index(stripped[0]), repr(stripped[:40]))

    def close(start: int, end: int) -> None:
        """Pop the innermost open tag, whose text ends at `start` and whose closing tag ends at `end`."""
        nonlocal position
        name, tag_start, text_start = opened.pop()
        depth[name] -= 1
        if not text[text_start:start].strip():
            faults.add("empty_segment", tag_start, f"<{name}>")
        if not opened:
            segments.append(Segment(name, text[text_start:start].strip(), tag_start, end))
            position = end

    for match in _TAG.finditer(text, 0, stop):
        closing, name = match[1], match[2]
        if name == "think":  # `</think>` cannot occur before `stop`
            if not opened:
                outside(position, match.start())
                position = match.end()
            if seen_think or segments or opened:
                faults.add("repeated_think" if seen_think else "missing_think", match.start())
            if not seen_think and not segments and not opened:
                body_start = match.end()
            seen_think = True
        elif closing:
            if depth.get(name, 0):
                while opened[-1][0] != name:
                    inner, tag_start, _ = opened[-1]
                    faults.add("unclosed", tag_start, f"<{inner}>")
                    close(match.start(), match.start())
                close(match.start(), match.end())
            elif opened and name not in vocabulary:
                faults.add("unknown_tag", match.start(), match[0])
            else:
                faults.add("unopened", match.start(), match[0])
                if not opened:
                    outside(position, match.start())
                    position = match.end()
        else:
            known = name in vocabulary
            if not known:
                faults.add("unknown_tag", match.start(), match[0])
            if opened:
                if not known:
                    continue
                faults.add("nested", match.start(), f"{match[0]} inside <{opened[-1][0]}>")
            else:
                outside(position, match.start())
            opened.append((name, match.start(), match.end()))
            depth[name] = depth.get(name, 0) + 1
    dangling = bool(opened)
    last_closed = position
    for name, tag_start, _ in opened[:MAX_FAULTS]:
        faults.add("unclosed", tag_start, f"<{name}>")
    if opened:
        name, tag_start, text_start = opened[0]
        segments.append(Segment(name, text[text_start:stop].strip(), tag_start, stop))
    elif stop < len(text):  # with no </think>, what is left is the answer
        outside(position, stop)
    if not seen_think and not think_prefilled:
        faults.add("missing_think", 0)
    if not segments:
        faults.add("no_segments", body_start)
    return segments, body_start, last_closed, dangling

"""R2P's intervention: watch a stream of text, cut it if it leaves the template, put the missing header, go on.

    <think>
    ## Requirements
    ...
    ## User profile
    ...
    ## Response
    ...
    </think>
    ANSWER

A stream can leave the template before the opening, by a header out of order, by closing or opening `<think>` too
early, by going on too long in a part, or by ending before the answer; each time the next missing mark is put and the
model goes on from there. What it wrote before the cut stays, token for token. A mark or `<think>` inside the answer
ends the answer. Every intervention puts a later mark than the one before, so there are at most four.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tagpr.marks import END_THINK, THINK

HEADERS = ("## Requirements", "## User profile", "## Response")
MARKS = (f"<think>\n{HEADERS[0]}\n", f"\n{HEADERS[1]}\n", f"\n{HEADERS[2]}\n", "\n</think>\n")
"""What opens each part; the last one opens the answer."""
ANSWER = len(MARKS)

_EVENT = re.compile(
    r"(?:<think>|</think>|^##[ \t]*(?:(requirements)|(user[ \t]+profile)|(response))\b[^\n]*)\s*",
    re.IGNORECASE | re.MULTILINE,
)
_THINK = re.compile(r"\s*(<think>\s*)?")

Draw = Callable[[list[int], list[list[int]], int], list[tuple[list[int], bool]]]
"""(row numbers, tokens written so far in each row, most new tokens) -> new tokens of each row, and whether it ended."""


@dataclass(frozen=True)
class Intervention:
    """One cut: which part was opened instead, and what had happened."""

    part: int  # 1-3 the template's parts, 4 the answer
    reason: str  # opening, order, length or end
    removed: str  # text that the model had written past the cut


@dataclass
class Stream:
    """What one row has written, interventions included."""

    ids: list[int] = field(default_factory=list)
    text: str = ""
    interventions: list[Intervention] = field(default_factory=list)
    complete: bool = False

    @property
    def settled(self) -> int:
        """Parts that an intervention has ended; they are not judged again."""
        return self.interventions[-1].part - 1 if self.interventions else 0


@dataclass(frozen=True)
class Verdict:
    """How far a text follows the template, and the point that leaves it."""

    parts: tuple[tuple[int, int], ...]  # (begin, end) in characters of the text of each part opened so far
    cut: int | None = None  # position at which the text leaves the template; None while it has not
    reason: str = ""


def inspect(text: str, ended: bool) -> Verdict:
    """Follow `text` through the template to its end or to the point that leaves it. `ended`: nothing more will come."""
    think = _THINK.match(text)
    assert think is not None
    begin = think.end()
    first = _EVENT.match(text, begin)
    if not think[1] or not first or not first[1]:
        wanted = HEADERS[0] if think[1] else MARKS[0]
        if _begins(wanted, text[begin:]) and not ended:
            return Verdict(())
        return Verdict((), begin, "end" if ended and begin == len(text) else "opening")
    parts: list[tuple[int, int]] = []
    start = first.end()
    for event in _EVENT.finditer(text, start):
        parts.append((start, event.start()))
        wanted_next = event[0].rstrip() == END_THINK if len(parts) == ANSWER - 1 else event.lastindex == len(parts) + 1
        if len(parts) == ANSWER or not wanted_next:
            return Verdict(tuple(parts), event.start(), "order")
        start = event.end()
    parts.append((start, len(text)))
    return Verdict(tuple(parts), len(text) if ended and len(parts) < ANSWER else None, "end")


def _begins(wanted: str, text: str) -> bool:
    """Could `text` still become `wanted`, case and spaces aside?"""
    return "".join(wanted.split()).lower().startswith("".join(text.split()).lower())


def follow(
    draw: Draw,
    rows: int,
    encode: Callable[[str], list[int]],
    decode: Callable[[Sequence[int]], str],
    part_tokens: int,
    answer_tokens: int,
    opened: bool = False,
) -> list[Stream]:
    """Let `rows` streams write, intervening, until each has an answer.

    part_tokens: longest part of the template; answer_tokens: longest answer. `opened`: the prompt ends with `<think>`
    already; it counts as written.
    """
    prefix = encode("<think>\n") if opened else []
    streams = [Stream(list(prefix), decode(prefix)) for _ in range(rows)]
    # A part and the next heading: of what is drawn past the first cut nothing is kept.
    most = max(answer_tokens, part_tokens + max(len(encode(mark)) for mark in MARKS))
    # An intervention takes a round, and so does every part that is written in full; the rest is room for dawdling.
    for _ in range(4 * ANSWER):
        active = [row for row in range(rows) if not streams[row].complete]
        if not active:
            break
        drawn = draw(active, [streams[row].ids[len(prefix) :] for row in active], most)
        for row, (ids, ended) in zip(active, drawn, strict=True):
            stream = streams[row]
            stream.ids += ids
            stream.text = decode(stream.ids)
            _judge(stream, ended or not ids, encode, decode, part_tokens, answer_tokens)
    return streams


def _judge(
    stream: Stream,
    ended: bool,
    encode: Callable[[str], list[int]],
    decode: Callable[[Sequence[int]], str],
    part_tokens: int,
    answer_tokens: int,
) -> None:
    """Cut and put the missing mark, or note that the answer is there."""
    verdict = inspect(stream.text, ended)
    part, cut, reason = len(verdict.parts), verdict.cut, verdict.reason
    for number, (begin, end) in list(enumerate(verdict.parts, 1))[stream.settled :]:
        first = _tokens_within(stream.ids, begin, decode)
        longest = answer_tokens if number == ANSWER else part_tokens
        if _tokens_within(stream.ids, end, decode) - first > longest:  # comes before whatever went wrong after it
            part, cut, reason = number, len(decode(stream.ids[: first + longest])), "length"
            break
    if cut is None:
        stream.complete = ended
        return
    stream.ids, removed = _cut(stream, cut, decode)
    before = decode(stream.ids)
    if part == ANSWER:
        stream.complete = True
    else:
        stream.interventions.append(Intervention(part + 1, reason, removed))
        mark = MARKS[part].removeprefix("<think>\n") if THINK in before else MARKS[part]
        stream.ids = stream.ids + encode(mark.lstrip("\n") if before.endswith("\n") else mark)
    stream.text = decode(stream.ids)


def _cut(stream: Stream, cut: int, decode: Callable[[Sequence[int]], str]) -> tuple[list[int], str]:
    """The tokens that lie wholly before character `cut`, and the text of the others."""
    kept = stream.ids[: _tokens_within(stream.ids, cut, decode)]
    return kept, stream.text[len(decode(kept)) :]


def _tokens_within(ids: Sequence[int], characters: int, decode: Callable[[Sequence[int]], str]) -> int:
    """The most leading tokens that decode to at most `characters` characters."""
    low, high = 0, len(ids)
    while low < high:
        middle = (low + high + 1) // 2
        if len(decode(ids[:middle])) <= characters:
            low = middle
        else:
            high = middle - 1
    return low

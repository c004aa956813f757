"""Claims about a user's habits, written and read back: listed note by note, counted, decided, applied.

letter: capital capital small; end: stop none stop           LISTING, in the order shown; "not shown" of none
letter: 2 of 3 capital; end: 2 of 3 stop                     COUNT
letter capital, end stop                                     DECISION, the commonest value (any of those tied)
the answer                                                   ANSWER, the neutral text in the decided habits
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from tagpr.chains.evidence.notes import HABITS, chances, render, split
from tagpr.chains.evidence.types import Claim, ClaimKind, Shown
from tagpr.chains.types import Response, Segment
from tagpr.tasks.types import Kind, Task

DECIDING = frozenset({"make_decision", "synthesize_findings", "verify_conclusion", "formulate_conclusion"})
"""Tags of the steps that settle something."""

_HABIT = rf"(?P<habit>{'|'.join(HABITS)})"
_VALUE = r'(?:"[^"\n]*"|[a-z]+/?)'
_LISTING = re.compile(rf"\b{_HABIT}: (?P<values>not shown|{_VALUE}(?: {_VALUE})*)(?=;|$)")
_COUNT = re.compile(rf"\b{_HABIT}: (?P<count>\d+) of (?P<notes>\d+) (?P<value>{_VALUE})(?=;|$)")
_DECISION = re.compile(rf"\b{_HABIT} (?P<value>{_VALUE})(?=,|$)")


def rewrites(task: Task) -> bool:
    """Whether the task is a neutral text in a user's wording, and the history holds such answers."""
    return task.kind is Kind.TEXT and task.output_field is None and task.output_name in task.input_fields


def habit_values(notes: Sequence[str], habit: str, kind: str) -> tuple[str, ...]:
    """A habit in those notes that had the same kind of chance to show it, in order."""
    found = []
    for note in notes:
        neutral, habits = split(note)
        if habit in habits and chances(neutral).get(habit) == kind:
            found.append(habits[habit])
    return tuple(found)


def habit_name(value: str) -> str:
    """A value as a chain writes it: one word, or what a note ends with in quotation marks."""
    if value in ("", "."):
        return "stop" if value else "none"
    return f'"{value}"' if "N" in value else value


def write_listing(values: Sequence[str]) -> str:
    """The values one by one, as a chain writes them."""
    return " ".join(map(habit_name, values)) or "not shown"


def habit_claims(segment: Segment, offset: int, shown: Shown) -> Iterator[Claim]:
    """Claims about habits in one step; `offset` is where its text starts in the completion."""
    notes = [entry.fields.get(shown.task.output_name, "") for entry in shown.entries]
    expected = chances(shown.input)

    def values(habit: str) -> tuple[str, ...]:
        return tuple(map(habit_name, habit_values(notes, habit, expected.get(habit, ""))))

    def claim(kind: ClaimKind, found: re.Match[str], true: bool) -> Claim:
        return Claim(kind, found[0], offset + found.start(), offset + found.end(), true)

    for found in _COUNT.finditer(segment.text):
        own = values(found["habit"])
        true = int(found["count"]) == own.count(found["value"]) and int(found["notes"]) == len(own)
        yield claim(ClaimKind.COUNT, found, true)
    for found in _LISTING.finditer(segment.text):
        own = values(found["habit"])
        yield claim(ClaimKind.LISTING, found, found["values"] == (" ".join(own) or "not shown"))
    if segment.tag in DECIDING:
        for found in _DECISION.finditer(segment.text):
            counts = Counter(values(found["habit"]))
            true = not counts or counts[found["value"]] == max(counts.values())
            yield claim(ClaimKind.DECISION, found, true)


def applied_claim(response: Response, shown: Shown) -> Claim | None:
    """Whether the answer is the neutral text in the decided habits; None if the chain decides none."""
    decided = {
        found["habit"]: _value(found["habit"], found["value"])
        for segment in response.segments
        if segment.tag in DECIDING
        for found in _DECISION.finditer(segment.text)
    }
    if not decided or not response.answer:
        return None
    start = response.text.rfind(response.answer)
    true = render(shown.input, decided) == response.answer
    return Claim(ClaimKind.ANSWER, response.answer, start, start + len(response.answer), true)


def other_habits(response: Response, neutral: str) -> tuple[Segment, str] | None:
    """The deciding step with another first letter and another plain ending, and the answer that follows from it.

    None if the chain decides neither.
    """
    exchange = {"letter capital": "small", "letter small": "capital", "end stop": "none", "end none": "stop"}
    for segment in response.segments:
        if segment.tag not in DECIDING:
            continue
        text = _DECISION.sub(lambda found: f"{found['habit']} {exchange.get(found[0], found['value'])}", segment.text)
        if text != segment.text:
            decided = {found["habit"]: _value(found["habit"], found["value"]) for found in _DECISION.finditer(text)}
            return Segment(segment.tag, text, segment.start, segment.end), render(neutral, decided)
    return None


def _value(habit: str, name: str) -> str:
    """The inverse of `habit_name`."""
    if habit == "end" and name in ("stop", "none"):
        return "." if name == "stop" else ""
    return name.strip('"')

"""Claims about a user's habits, written and read back: the question's kind, a past note, the habits, the answer.

bug                                                          QUESTION, in analyze_input: bug, launchpad or plain
"d/control: Add Vcs fields. (Closes: #123456)"               NOTE, the whole step: a shown note, letter for letter
letter capital, end stop                                     DECISION, a value that a shown note has
the answer                                                   ANSWER, the neutral text in the decided habits

All of it can be copied: nothing is counted. A habit that no shown note has a chance to show can be decided either way.
"""

import re
from collections.abc import Iterator, Sequence

from tagpr.chains.chain import Response, Segment
from tagpr.chains.evidence.notes import HABITS, KINDS, chances, render, split
from tagpr.chains.evidence.types import Claim, ClaimKind, Shown
from tagpr.prompts.escape import restore
from tagpr.tasks.types import Kind, Task

DECIDING = frozenset({"make_decision", "synthesize_findings", "verify_conclusion", "formulate_conclusion"})
"""Tags of the steps that settle something."""

READING = "analyze_input"
"""The tag of the step that reads the question."""

_HABIT = rf"(?P<habit>{'|'.join(HABITS)})"
_VALUE = r'(?:"[^"\n]*"|[a-z]+/?)'
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


def habit_claims(segment: Segment, offset: int, shown: Shown) -> Iterator[Claim]:
    """Claims about habits in one step; `offset` is where its text starts in the completion."""
    notes = [entry.fields.get(shown.task.output_name, "") for entry in shown.entries]
    expected = chances(shown.input)

    def values(habit: str) -> tuple[str, ...]:
        return tuple(map(habit_name, habit_values(notes, habit, expected.get(habit, ""))))

    def claim(kind: ClaimKind, found: re.Match[str], true: bool) -> Claim:
        return Claim(kind, found[0], offset + found.start(), offset + found.end(), true)

    text = segment.text
    if len(text) > 1 and text[0] == text[-1] == '"':
        true = restore(text[1:-1]) in map(restore, notes)  # prompts show notes with their tags broken
        yield Claim(ClaimKind.NOTE, text, offset, offset + len(text), true)
    if segment.tag == READING and text in KINDS:
        yield Claim(ClaimKind.QUESTION, text, offset, offset + len(text), text == expected["end"])
    if segment.tag in DECIDING:
        for found in _DECISION.finditer(text):
            own = values(found["habit"])
            yield claim(ClaimKind.DECISION, found, not own or found["value"] in own)


def applied(response: Response, neutral: str) -> str | None:
    """The neutral text in the habits that the chain decides; None if it decides none."""
    decided = {
        found["habit"]: _value(found["habit"], found["value"])
        for segment in response.segments
        if segment.tag in DECIDING
        for found in _DECISION.finditer(segment.text)
    }
    return render(neutral, decided).strip() if decided else None


def applied_claim(response: Response, shown: Shown) -> Claim | None:
    """Whether the answer is the neutral text in the decided habits; None if the chain decides none."""
    note = applied(response, shown.input)
    if note is None or not response.answer:
        return None
    start = response.text.rfind(response.answer)
    true = note == response.answer
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

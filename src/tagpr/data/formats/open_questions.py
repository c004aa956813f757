"""Open questions about a user that only a judge can mark: LaMP-QA, PrefEval's open forms, LongMemEval's preferences.

There is no reference answer. What the judges are told (aspects, narrative, preference) is the example's target, which
no system sees; a history holds only what the benchmark shows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tagpr.data.dates import iso_date
from tagpr.data.formats.chats import read_questions, turns
from tagpr.data.formats.profiles import history_item, profile_of, record_text
from tagpr.data.formats.protocol import Source
from tagpr.data.formats.rows import peek
from tagpr.data.ids import example_id
from tagpr.data.values import absent, text_of
from tagpr.errors import DataError
from tagpr.tasks import Example, Interaction, Task
from tagpr.tasks.rubric_target import Aspect, RubricTarget

PREFERENCES = "single-session-preference"
"""LongMemEval's type of question that is about the user's preferences; the others ask for facts."""
_DAY = 10
"""Characters of a date without its time: LongMemEval writes `2023/05/20 (Sat) 02:21`."""


@dataclass(frozen=True)
class LampQAReader:
    """Reader of LaMP-QA (all three configs): question, profile of past questions, rubric_aspects, narrative."""

    name: str = "lamp-qa"
    says: str = "LaMP-QA (question, profile, rubric_aspects, narrative)"

    def guess(self, path: Path) -> float:
        """By the rubric."""
        return 0.95 if {"question", "rubric_aspects"} <= set(peek(path).first or {}) else 0.0

    def read(self, path: Path, source: Source) -> list[Example]:
        """One example per question."""
        return read_questions(path, source, lambda number, row: _lamp_qa(row, source.task))


@dataclass(frozen=True)
class PrefEvalOpenReader:
    """Reader of PrefEval's `explicit_preference` and `implicit_preference` files, one per topic."""

    name: str = "prefeval"
    says: str = "PrefEval open questions (preference, question), explicit or within a conversation"

    def guess(self, path: Path) -> float:
        """By the preference, without options to choose from."""
        first = set(peek(path).first or {})
        return 0.9 if {"preference", "question"} <= first and "classification_task_options" not in first else 0.0

    def read(self, path: Path, source: Source) -> list[Example]:
        """One example per record; of an implicit one the conversation is the history and the preference is not said."""
        return read_questions(path, source, lambda number, row: _prefeval(row, number, source.task, path))


@dataclass(frozen=True)
class LongMemEvalReader:
    """Reader of LongMemEval's questions of the preference type; the others are left out."""

    name: str = "longmemeval"
    says: str = "LongMemEval (haystack_sessions), its questions about preferences"

    def guess(self, path: Path) -> float:
        """By the haystack."""
        return 0.95 if {"haystack_sessions", "question_type"} <= set(peek(path).first or {}) else 0.0

    def read(self, path: Path, source: Source) -> list[Example]:
        """One example per question of that type. Raises DataError if there is none."""

        def convert(number: int, row: Mapping[str, object]) -> Example | None:
            asked = record_text(row, "question_type") == PREFERENCES
            return _longmemeval(row, source.task) if asked else None

        found = read_questions(path, source, convert)
        if not found and not source.rejects.rows:
            raise DataError(f"{path}: no question of type {PREFERENCES}; give the file that has them")
        return found


def _lamp_qa(row: Mapping[str, object], task: Task) -> Example:
    name, question = record_text(row, "id"), record_text(row, "question")
    entries = profile_of(row, ("text",))
    history = tuple(
        Interaction(item.id, {key: text for key, text in item.fields.items() if key in ("text", "category")})
        for item in (history_item(entry, place, "id", None) for place, entry in enumerate(entries))
    )
    aspects = row.get("rubric_aspects")
    if not isinstance(aspects, list) or not aspects:
        raise ValueError("field 'rubric_aspects' must be a list of {aspect, reason, evidence}")
    background = "" if absent(row.get("narrative")) else record_text(row, "narrative")
    target = RubricTarget(question, background, tuple(_aspect(value) for value in aspects))
    return Example(name, name, task.name, question, target.to_text(), history)


def _aspect(value: object) -> Aspect:
    if not isinstance(value, Mapping):
        raise ValueError("field 'rubric_aspects' must be a list of {aspect, reason, evidence}")
    reason = "" if absent(value.get("reason")) else record_text(value, "reason")
    return Aspect(record_text(value, "aspect"), reason)


def _prefeval(row: Mapping[str, object], number: int, task: Task, path: Path) -> Example:
    preference, question = record_text(row, "preference"), record_text(row, "question")
    conversation = row.get("conversation")
    if conversation is None:
        messages = [{"role": "user", "content": preference}]
    elif isinstance(conversation, Mapping):
        messages = _choices(conversation) if "user_selection" in conversation else _dialogue(conversation)
    else:
        raise ValueError("field 'conversation' must be an object of turns")
    # all three forms of a topic's file have one name, so the form is part of the user's
    form = "explicit" if conversation is None else "choices" if "user_selection" in conversation else "persona"
    target = RubricTarget(question, preference).to_text()
    user = f"{path.stem}-{form}-{number}"
    return Example(example_id(user, "0"), user, task.name, question, target, turns(messages))


def _choices(conversation: Mapping[str, object]) -> list[dict[str, str]]:
    """The user shows the preference by choosing among the assistant's suggestions."""
    keys = ("query", "assistant_options", "user_selection", "assistant_acknowledgment")
    return [
        {"role": role, "content": _lines(conversation, key)}
        for role, key in zip(("user", "assistant") * 2, keys, strict=True)
    ]


def _dialogue(conversation: Mapping[str, object]) -> list[dict[str, str]]:
    """{"0": {user, assistant}, "1": ...}, in which the user talks of other things."""
    messages = []
    for key in sorted(conversation, key=_place):
        turn = conversation[key]
        if not isinstance(turn, Mapping):
            raise ValueError(f"conversation turn {key[:20]!r} must be {{user, assistant}}")
        messages += [{"role": role, "content": record_text(turn, role)} for role in ("user", "assistant")]
    return messages


def _place(key: str) -> int:
    if not key.isdigit():
        raise ValueError(f"conversation turn {key[:20]!r} must be a number")
    return int(key)


def _lines(record: Mapping[str, object], key: str) -> str:
    """A text, or a list of texts, one per line."""
    value = record.get(key)
    if isinstance(value, list):
        return "\n".join(text_of(part) for part in value)
    return record_text(record, key)


def _longmemeval(row: Mapping[str, object], task: Task) -> Example:
    name, question = record_text(row, "question_id"), record_text(row, "question")
    sessions, dates = row.get("haystack_sessions"), row.get("haystack_dates")
    if not isinstance(sessions, list):
        raise ValueError("field 'haystack_sessions' must be a list of sessions, each a list of messages")
    if not isinstance(dates, list) or len(dates) != len(sessions):
        raise ValueError(f"field 'haystack_dates' must have one date for each of the {len(sessions)} sessions")
    history = []
    for number, (session, date) in enumerate(zip(sessions, dates, strict=True)):
        if not isinstance(session, list):
            raise ValueError(f"session {number} must be a list of messages")
        said = _day(text_of(date), f"session {number}")
        history += [Interaction(f"{number}-{item.id}", item.fields, said) for item in turns(session)]
    history.sort(key=lambda item: item.date or "")
    wanted = RubricTarget(question, record_text(row, "answer")).to_text()
    asked = None if absent(row.get("question_date")) else _day(record_text(row, "question_date"), "question_date")
    return Example(name, name, task.name, question, wanted, tuple(history), asked)


def _day(text: str, where: str) -> str | None:
    day = text.strip()[:_DAY].replace("/", "-")
    try:
        return iso_date(day)
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"{where}: {text[:40]!r} is no date; write it like 2023/05/20 (Sat) 02:21") from None

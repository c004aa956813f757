"""Pairs of answers of which a user preferred one, read from the files that hold them.

    pairs = read_human_pairs("my/feedback.jsonl")

A row is `user_id, context, chosen, rejected` and, where known, `split` and scores; see `FORMATS` for other shapes. What
a reward model makes of them (token ids, who is held out) is `tagpr.prmu.human_pairs`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from re import split as split_by

from tagpr.data.formats.feedback import feedback_rows, is_feedback_store
from tagpr.data.formats.prism import UTTERANCES, conversations_of
from tagpr.data.formats.rows import rows_of
from tagpr.data.rejects import Rejects
from tagpr.data.values import absent, named, text_of
from tagpr.errors import DataError

ROLES = {"user": "user", "human": "user", "assistant": "assistant", "model": "assistant", "system": "system"}
"""Roles as files write them, and as chat templates know them."""
EVERYONE = "everyone"
"""The user of HH-style rows, which name nobody."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: str  # user, assistant or system
    content: str


@dataclass(frozen=True)
class HumanPair:
    """Two answers to one conversation, in the order in which one user prefers them."""

    user_id: str
    context: tuple[Message, ...]
    chosen: str
    rejected: str
    split: str = ""  # as the file names it: train, val, test; empty if it has none
    margin: float | None = None  # score of chosen minus score of rejected, in the file's own unit
    history: tuple[str, ...] = ()  # texts of the user's past that the row brings along
    place: str = ""  # FILE:LINE, for messages


Row = Mapping[str, object]
Convert = Callable[[Row], Iterator[HumanPair]]


def read_human_pairs(
    path: Path | str, format: str = "auto", fields: Mapping[str, str] | None = None, rejects: Rejects | None = None
) -> list[HumanPair]:
    """Every pair of a JSONL, JSON, CSV or Parquet file, or of a hub data set (`hub:OWNER/NAME/CONFIG/SPLIT`).

    format: a name of `FORMATS`, or auto, which goes by the first row's fields. fields: our name -> the file's. The same
    pair of one user twice counts once. A bad row goes to `rejects` (default: DataError FILE:LINE). Raises DataError
    for a file without a pair.
    """
    rejects = rejects or Rejects()
    rows = feedback_rows(Path(path)) if is_feedback_store(path) else rows_of(Path(path), rejects)
    renamed = {theirs: ours for ours, theirs in (fields or {}).items()}
    rows = ((number, _renamed(row, renamed)) for number, row in rows)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{path}: no row; a pair has user_id, context, chosen and rejected")
    name = guess_format(first[1]) if format == "auto" else format
    rows = chain([first], rows)
    if name == UTTERANCES:
        rows = conversations_of(rows, Path(path), rejects)
    convert = FORMATS[name]
    found: dict[tuple[str, tuple[Message, ...], str, str], HumanPair] = {}
    for number, row in rows:
        try:
            for pair in convert(row):
                if pair.chosen == pair.rejected:
                    raise ValueError("chosen and rejected are the same text; remove the row")
                key = (pair.user_id, pair.context, pair.chosen, pair.rejected)
                found.setdefault(key, _placed(pair, f"{path}:{number}"))
        except (ValueError, TypeError) as error:
            rejects.add(path, number, str(error), row)
    if not found:
        raise DataError(f"{path}: no pair in it; each needs two different answers that one user ordered")
    return list(found.values())


def guess_format(row: Row) -> str:
    """The format of a file by its first row's fields."""
    if "conversation_history" in row:
        return "prism"
    if {"user_prompt", "model_response", "score"} <= set(row):
        return UTTERANCES
    if {"user", "messages", "rating"} <= set(row):
        return "feedback"
    if {"chosen", "rejected"} <= set(row):
        if "context" in row:
            return "pairs"
        return "personalized-rewardbench" if "question" in row else "hh"
    return "pairs"  # which says what is missing


def _placed(pair: HumanPair, place: str) -> HumanPair:
    return HumanPair(**{**vars(pair), "place": place})


def _renamed(row: Row, names: Mapping[str, str]) -> Row:
    return {names.get(key, key): value for key, value in row.items()} if names else row


def _plain(row: Row) -> Iterator[HumanPair]:
    """user_id, context, chosen, rejected[, split, scores or chosen_score and rejected_score]."""
    scores = row.get("scores")
    if scores is None:
        scores = [row.get("chosen_score"), row.get("rejected_score")]
    if not isinstance(scores, list) or len(scores) != 2:
        raise ValueError("scores must be a list of two numbers, of chosen and of rejected")
    better, worse = (None if absent(score) else _number(score) for score in scores)
    yield HumanPair(
        user_id=_text(row, "user_id"),
        context=_messages(_needed(row, "context")),
        chosen=_answer(_needed(row, "chosen")),
        rejected=_answer(_needed(row, "rejected")),
        split="" if absent(row.get("split")) else _text(row, "split"),
        margin=None if better is None or worse is None else better - worse,
    )


def _prism(row: Row) -> Iterator[HumanPair]:
    """A conversation of PRISM's conversations.jsonl: at each turn, every two replies that were scored differently.

    The conversation goes on after the reply that was chosen; a margin is a difference of scores / 100.
    """
    user, context = _text(row, "user_id"), list[Message]()
    turns: dict[int, list[Mapping[str, object]]] = {}
    for part in _list(_needed(row, "conversation_history"), "conversation_history"):
        if not isinstance(part, Mapping):
            raise TypeError("conversation_history must be a list of objects with turn, role and content")
        turns.setdefault(int(_number(_needed(part, "turn"))), []).append(part)
    for number in sorted(turns):
        asked = [part for part in turns[number] if _role(part) == "user"]
        replies = [part for part in turns[number] if _role(part) == "assistant"]
        context += [Message("user", _text(part, "content")) for part in asked]
        scored = [(_number(part["score"]), _text(part, "content")) for part in replies if not absent(part.get("score"))]
        for better, chosen in scored:
            for worse, rejected in scored:
                if better > worse and chosen != rejected:
                    yield HumanPair(user, tuple(context), chosen, rejected, margin=(better - worse) / 100)
        context += [Message("assistant", _text(part, "content")) for part in replies if _true(part.get("if_chosen"))][
            :1
        ]


def _personalized_rewardbench(row: Row) -> Iterator[HumanPair]:
    """A row of LaMP-QA with chosen and rejected. Its rubric and narrative are the judge's, and are never read."""
    past = [] if row.get("profile") is None else _list(row["profile"], "profile")
    yield HumanPair(
        user_id=_text(row, "id"),
        context=(Message("user", _text(row, "question")),),
        chosen=_answer(_needed(row, "chosen")),
        rejected=_answer(_needed(row, "rejected")),
        split="test",
        history=tuple(_text(item, "text") for item in past if isinstance(item, Mapping)),
    )


def _feedback(row: Row) -> Iterator[HumanPair]:
    """A judgement that `tagpr serve` kept: the prompt as it was shown, and a better and a worse text if it has both."""
    if absent(row.get("chosen")) or absent(row.get("rejected")):
        return  # a thumb alone, which orders nothing
    context = _messages(_needed(row, "messages"))
    yield HumanPair(_text(row, "user"), context, _answer(row["chosen"]), _answer(row["rejected"]))


def _hh(row: Row) -> Iterator[HumanPair]:
    """Two whole conversations (text with Human: and Assistant:, or messages) that differ in their last turn."""
    chosen, rejected = (_conversation(_needed(row, name)) for name in ("chosen", "rejected"))
    if chosen[:-1] != rejected[:-1]:
        raise ValueError("chosen and rejected must be the same conversation up to the last turn")
    if not chosen[:-1] or chosen[-1].role != "assistant" or rejected[-1].role != "assistant":
        raise ValueError("chosen and rejected must end with an assistant's turn after a user's")
    user = EVERYONE if absent(row.get("user_id")) else _text(row, "user_id")
    yield HumanPair(user, chosen[:-1], chosen[-1].content, rejected[-1].content)


FORMATS: Mapping[str, Convert] = {
    "pairs": _plain,
    "prism": _prism,
    UTTERANCES: _prism,
    "personalized-rewardbench": _personalized_rewardbench,
    "hh": _hh,
    "feedback": _feedback,
}
"""How rows are read, by the name that `prmu.pairs.format` gives. PersonalRewardBench's two sets are
`pairs`."""


def _conversation(value: object) -> tuple[Message, ...]:
    if not isinstance(value, str):
        return _messages(value)
    parts = split_by(r"(?:\A|\n\n)(Human|Assistant): ?", value.strip())
    if len(parts) < 3:
        raise ValueError("must be a conversation: Human: ... Assistant: ..., or a list of messages")
    return tuple(
        Message(ROLES[role.lower()], content.strip()) for role, content in zip(parts[1::2], parts[2::2], strict=True)
    )


def _messages(value: object) -> tuple[Message, ...]:
    """A text is one user's turn."""
    if isinstance(value, str):
        return (Message("user", text_of(value)),)
    if not isinstance(value, list) or not value:
        raise TypeError("context must be text or a list of messages with role and content")
    return tuple(_message(part) for part in value)


def _message(value: object) -> Message:
    if not isinstance(value, Mapping):
        raise TypeError("a message must be an object with role and content")
    return Message(_role(value), _text(value, "content"))


def _role(part: Mapping[str, object]) -> str:
    role = part.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise ValueError(f"role {str(role)[:40]!r} is none of {', '.join(ROLES)}")
    return ROLES[role]


def _answer(value: object) -> str:
    """Text, a message, or a list of one message."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, Mapping):
        return _text(value, "content")
    return text_of(value)


def _needed(row: Row, key: str) -> object:
    value = row.get(key)
    if absent(value):
        raise ValueError(f"field {key!r} is missing or empty (found: {named(row)}); give it, or map it by `fields`")
    return value


def _text(row: Row, key: str) -> str:
    try:
        return text_of(_needed(row, key))
    except TypeError as error:
        raise TypeError(f"field {key!r} {error}") from None


def _list(value: object, key: str) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(f"field {key!r} must be a list")
    return value


def _true(value: object) -> bool:
    """A flag, also as CSV has it."""
    return value is True or value == 1 or str(value).strip().lower() == "true"


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError("a score or turn must be a number")
    return float(value)

"""`Reply`: something a person wrote in answer to something, and how a thread of messages becomes replies."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class Reply:
    """One interaction, under the names that `tagpr new` knows."""

    user_id: str
    id: str
    date: str
    input: str
    output: str


@dataclass(frozen=True)
class Message:
    """One message of a thread."""

    sender: str
    id: str
    date: str
    text: str
    answers: str = ""
    """Id of the message that it says it answers."""


def replies_of(thread: Sequence[Message], opening: str, people: frozenset[str] | None = None) -> Iterator[Reply]:
    """Every message with what it answers: the message that it names, else what others wrote since its sender's last.

    Messages of one sender in a row are one. opening: what a first message answers, e.g. the conversation's title; if it
    is empty, that is no reply. people: whose replies count; None: everybody's.
    """
    merged: list[Message] = []
    for message in thread:
        last = merged[-1] if merged else None
        if last is not None and last.sender == message.sender and not message.answers:
            merged[-1] = Message(last.sender, last.id, last.date, f"{last.text}\n{message.text}", last.answers)
        elif message.text:
            merged.append(message)
    by_id = {message.id: message for message in merged}
    for place, message in enumerate(merged):
        named = by_id.get(message.answers)
        before = merged[place - 1].text if place else opening
        asked = named.text if named is not None and named is not message else before
        if asked.strip() and (people is None or message.sender in people):
            yield Reply(message.sender, message.id, message.date, asked.strip(), message.text.strip())


def utc(seconds: float) -> str:
    """A Unix time as ISO 8601; empty for none."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")

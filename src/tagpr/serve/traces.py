"""What tells a user's rows from others': the id, the ids of the user's examples, and texts that nobody else wrote."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from tagpr.data.examples import read_examples
from tagpr.runs.layout import RunFolder
from tagpr.serve.feedback import Feedback
from tagpr.tasks.types import Example, Interaction

LONG, LONG_ID = 20, 6
"""Characters from which on a text of the user, or the id, is looked for inside other texts."""


@dataclass(frozen=True)
class Traces:
    """What a file must not hold once the user is forgotten."""

    user: str
    examples: frozenset[str]
    texts: frozenset[str]

    def in_text(self, text: str) -> bool:
        """Whether a text holds one of the user's own, or the id as a word (short ids only count under their keys)."""
        named = len(self.user) >= LONG_ID and self.user in text and bool(self._word.search(text))
        return named or any(own in text for own in self.texts)

    def _names(self, key: str) -> bool:
        """Whether a JSON key is the user's id or holds a trace."""
        return key == self.user or self.in_text(key)

    @cached_property
    def _word(self) -> re.Pattern[str]:
        return re.compile(rf"(?<!\w){re.escape(self.user)}(?!\w)")

    def within(self, value: object, key: str = "") -> bool:
        """Whether a JSON-like value holds a trace; `key` is the name under which it stands."""
        if isinstance(value, str):
            if key in ("user_id", "user", "users", "history") and value in (self.user, f"other:{self.user}"):
                return True
            return (key in ("id", "example_id") and value in self.examples) or self.in_text(value)
        if isinstance(value, dict):
            return any(self._names(str(name)) or self.within(part, str(name)) for name, part in value.items())
        return any(self.within(part, key) for part in value) if isinstance(value, list | tuple) else False

    def without(self, value: object, key: str = "") -> object:
        """A JSON value without the entries and list elements that hold a trace directly; `key`: where it stands."""
        if isinstance(value, dict):
            return {
                name: self.without(part, str(name))
                for name, part in value.items()
                if not self._names(str(name)) and not (isinstance(part, str) and self.within(part, str(name)))
            }
        if isinstance(value, list):
            return [self.without(part, key) for part in value if not self._own(part, key)]
        return value

    def _own(self, part: object, key: str) -> bool:
        direct = part.items() if isinstance(part, dict) else [(key, part)]
        return any(isinstance(one, str) and self.within(one, str(name)) for name, one in direct)


def find_traces(
    folder: RunFolder,
    tasks: Iterable[str],
    user: str,
    stored: Iterable[Interaction],
    judgements: Iterable[Feedback],
) -> Traces:
    """The traces of a user of a run; `stored`: what the profile store holds of the user; `judgements`: everybody's."""
    own, others, examples = set[str](), set[str](), set[str]()
    files = [path for task in tasks for path in (folder.train(task), folder.heldout(task))]
    for path in (*files, folder.corrections):
        for example in read_examples(path) if path.is_file() else ():
            (own if example.user_id == user else others).update(_texts(example))
            if example.user_id == user:
                examples.add(example.id)
    own.update(value for item in stored for value in item.fields.values())
    for one in judgements:
        (own if one.user == user else others).update(_said(one))
    return Traces(user, frozenset(examples), frozenset(text for text in own - others if len(text) >= LONG))


def _texts(example: Example) -> Iterable[str]:
    yield example.input
    yield example.target or ""
    yield from example.fields.values()
    for item in example.profile:
        yield from item.fields.values()


def _said(one: Feedback) -> Iterable[str]:
    """What the user wrote of a judgement: an answer that was liked or not is the model's."""
    yield one.question
    yield from one.fields.values()
    for item in one.shown:
        yield from item.fields.values()
    if one.rating == "down" and one.chosen:
        yield one.chosen

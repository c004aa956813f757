"""What a prompt shows of texts that were too long for its budget: of each its beginning, by number of characters.

Whoever cites a prompt, or checks what was cited, may read this much of them and no more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from tagpr.tasks.types import Example, Interaction

Cuts = Mapping[str, Mapping[str, int]]
"""Id of a history item, or `QUESTION` -> field -> characters shown, where a text was cut.

An item's field without a number is shown whole. Of a question that was cut a field without a number is not shown.
"""

QUESTION = ""
"""The question's place among the ids of `Cuts`."""

NOTHING_CUT: Cuts = {}


class Seen(NamedTuple):
    """What a prompt showed, in names and numbers: little enough to be kept beside every answer."""

    entries: tuple[str, ...] = ()
    """Ids of the history items, best first."""
    cuts: Cuts = NOTHING_CUT


def shortened(whole: Mapping[str, str], shown: Mapping[str, str]) -> dict[str, int]:
    """How many characters are shown of the texts of which not all is."""
    return {name: len(text) for name, text in shown.items() if len(text) < len(whole[name])}


def as_shown(example: Example, entries: Sequence[Interaction], cuts: Cuts) -> tuple[Example, tuple[Interaction, ...]]:
    """The question and the history items of a prompt with the texts that it shows.

    The example's own history and target stay as they are.
    """
    return _question(example, cuts), tuple(_entry(entry, cuts) for entry in entries)


def _entry(entry: Interaction, cuts: Cuts) -> Interaction:
    own = cuts.get(entry.id)
    if not own:
        return entry
    return replace(entry, fields={name: text[: own.get(name)] for name, text in entry.fields.items()})


def _question(example: Example, cuts: Cuts) -> Example:
    own = cuts.get(QUESTION)
    if not own:
        return example
    whole = {**example.fields, "input": example.input}
    shown = {name: text[: own.get(name, 0)] for name, text in whole.items()}
    if "input" not in own:  # made of the fields' texts, as the question of an official LaMP file is
        shown["input"] = example.input
        for name in own:
            shown["input"] = shown["input"].replace(whole[name], shown[name])
    query = example.query
    if not any(query in text for text in shown.values()):
        for name in own:
            query = _without(query, whole[name], shown[name])
    return replace(example, input=shown["input"], query=query, fields={name: shown[name] for name in example.fields})


def _without(text: str, whole: str, shown: str) -> str:
    """`text` without what `shown` leaves out of `whole`, whichever of the two texts holds the other."""
    if whole in text:
        return text.replace(whole, shown)
    place = whole.find(text)
    return text if place < 0 else shown[place : place + len(text)]

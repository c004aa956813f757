"""What a prompt shows of texts that were too long for its budget: of each its beginning, by number of characters.

Whoever cites a prompt, or checks what was cited, may read this much of them and no more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from tagpr.tasks.types import Example, Interaction

Cuts = Mapping[str, Mapping[str, int]]
"""Id of a history item, or `QUESTION` -> field -> characters shown; a text that is shown whole has no number."""

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
    return _question(example, cuts), tuple(
        replace(entry, fields=_cut(entry.fields, cuts[entry.id])) if entry.id in cuts else entry for entry in entries
    )


def _question(example: Example, cuts: Cuts) -> Example:
    """Input and query may hold a field's text, as official LaMP questions do, or a part of it: they are cut alike."""
    own = cuts.get(QUESTION)
    if not own:
        return example
    whole = {**example.fields, "input": example.input}
    shown = _cut(whole, own)
    texts = {"input": shown.pop("input"), "query": example.query}
    for name in own:
        cut = whole[name][: own[name]]
        texts = {key: text if key == name else _without(text, whole[name], cut) for key, text in texts.items()}
    return replace(example, fields={name: shown[name] for name in example.fields if name in shown}, **texts)


def _cut(texts: Mapping[str, str], lengths: Mapping[str, int]) -> dict[str, str]:
    return {name: text[: lengths[name]] if name in lengths else text for name, text in texts.items()}


def _without(text: str, whole: str, shown: str) -> str:
    """`text` without what `shown` leaves out of `whole`, whichever of the two texts holds the other."""
    if whole in text:
        return text.replace(whole, shown)
    place = whole.find(text)
    return text if place < 0 else shown[place : place + len(text)]

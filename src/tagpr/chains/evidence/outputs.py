"""Claims about items of the history and words of the question: quotations, outputs, counts, items, points.

    "fast http client" is net; "web page" is web       QUOTATION and OUTPUT of a shown item
    net, web, net: net x2, web x1                       OUTPUT, all that are shown in their order, and their TALLY
    net: http, client; web: nothing                     WORD, one claim a word
    net 3 + 2 = 5, web 1 + 1 = 2                        SUM: points of the words and of the history
    net over web                                        DECISION: the candidate with more points
    by words net over web                               DECISION: the one with more points of the words
    3 lies between 2 and 4                              DECISION: a rating between those compared
    item 3                                              ITEM, counted from the first shown
    the answer                                          ANSWER: the last step names it

Only outputs that the task or the history knows are read as outputs, so that prose is not mistaken for claims. Numbers
are read as decimals, because a model may write thousands of digits, and int() refuses those.
"""

import re
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal

from tagpr.chains.chain import Response, Segment
from tagpr.chains.evidence.text import QUOTED, entry_output, folded, words
from tagpr.chains.evidence.types import Claim, ClaimKind, Shown
from tagpr.tasks.types import Kind

_ITEM = re.compile(r"\b(?:item|example|entry)s? (?:no\. |number |#)?(?P<number>\d{1,3})\b", re.IGNORECASE)


def output_claims(segment: Segment, offset: int, shown: Shown) -> Iterator[Claim]:
    """Claims about items and words in one step; `offset` is where its text starts in the completion."""
    text = segment.text
    outputs = [entry_output(shown.task, entry).casefold() for entry in shown.entries]
    known = _known(shown)

    def claim(kind: ClaimKind, start: int, end: int, true: bool) -> Claim:
        return Claim(kind, text[start:end], offset + start, offset + end, true)

    items = [folded(" ".join(entry.fields.values())) for entry in shown.entries]
    question = folded(shown.question)
    for found in QUOTED.finditer(text):
        quote = folded(found["quote"])
        if not quote:
            continue
        holders = [number for number, item in enumerate(items) if quote in item]
        yield claim(ClaimKind.QUOTATION, found.start(), found.end(), bool(holders) or quote in question)
        said = re.compile(rf",?(?: is| under| filed under) (?P<output>{known})(?=[\s.,;]|$)", re.IGNORECASE).match(
            text, found.end()
        )
        if said:
            true = said["output"].casefold() in {outputs[number] for number in holders}
            yield claim(ClaimKind.OUTPUT, found.start(), said.end(), true)
    counts = Counter(outputs)
    for found in re.finditer(rf"(?<![\w-])(?P<output>{known}) x(?P<count>\d+)\b", text, re.IGNORECASE):
        true = counts[found["output"].casefold()] == Decimal(found["count"])
        yield claim(ClaimKind.TALLY, found.start(), found.end(), true)
    asked = set(words(shown.question))
    inside, _, counted = text.partition(": ")
    listed = re.match(rf"(?:{known}) x\d", counted, re.IGNORECASE) is not None
    if listed and set(inside.casefold().split(", ")) <= _names(shown):
        yield claim(ClaimKind.OUTPUT, 0, len(inside), inside.casefold() == ", ".join(outputs))
    said = [] if listed else re.finditer(rf"(?:^|; )(?:{known}): (?P<words>[^;:.\"]+)(?=[;.]|$)", text, re.IGNORECASE)
    for found in said:
        for word in re.finditer(r"[^\s,]+", "" if found["words"] == "nothing" else found["words"]):
            if words(word[0]):
                start = found.start("words") + word.start()
                true = set(words(word[0])) <= asked
                yield claim(ClaimKind.WORD, start, start + len(word[0]), true)
    for found in _ITEM.finditer(text):
        yield claim(ClaimKind.ITEM, found.start(), found.end(), 1 <= int(found["number"]) <= len(shown.entries))
    for found in _sums(known, text):
        true = Decimal(found["words"]) + Decimal(found["history"]) == Decimal(found["sum"])
        yield claim(ClaimKind.SUM, found.start(), found.end(), true)


def decision_claims(response: Response, shown: Shown) -> Iterator[Claim]:
    """Whether the candidate with most points is decided for, and whether the last step names the answer."""
    if shown.task.kind not in (Kind.LABEL, Kind.RATING) or not response.segments or not response.answer:
        return
    last, answer = response.segments[-1], response.answer.casefold()
    start = response.text.find(last.text, last.start)
    named = re.search(rf"(?<![\w-]){re.escape(answer)}(?![\w-])", last.text.casefold())
    yield Claim(ClaimKind.ANSWER, last.text, start, start + len(last.text), named is not None)
    known = _known(shown)
    points = {
        found["name"].casefold(): {part: Decimal(found[part]) for part in ("words", "history", "sum")}
        for segment in response.segments
        for found in _sums(known, segment.text)
    }
    over = rf"(?:by (?P<channel>words|history) )?(?P<one>{known}) over (?P<other>{known})(?![\w-])"
    decided = re.match(over, last.text, re.IGNORECASE)
    if decided and points:
        one, other = (points.get(decided[part].casefold()) for part in ("one", "other"))
        channel = decided["channel"] or "sum"
        true = (
            one is not None
            and other is not None
            and one[channel] >= other[channel]
            and decided["one"].casefold() in answer
        )
        yield Claim(ClaimKind.DECISION, decided[0], start, start + decided.end(), true)
    lies = rf"(?P<one>{known}) lies between (?P<below>{known}) and (?P<above>{known})(?![\w-])"
    between = re.match(lies, last.text, re.IGNORECASE)
    if between and shown.task.kind is Kind.RATING:
        places = [shown.task.labels.index(name) if name in shown.task.labels else -1 for name in between.groups()]
        true = -1 < places[1] < places[0] < places[2] and points.keys() == {between["below"], between["above"]}
        yield Claim(ClaimKind.DECISION, between[0], start, start + between.end(), true)


def _known(shown: Shown) -> str:
    """A pattern of every output that the task or the shown history knows, the longest first."""
    return "|".join(map(re.escape, sorted(_names(shown), key=len, reverse=True))) or r"(?!)"


def _names(shown: Shown) -> set[str]:
    outputs = (entry_output(shown.task, entry).casefold() for entry in shown.entries)
    return {*map(str.casefold, shown.task.labels), *filter(None, outputs)}


def _sums(known: str, text: str) -> Iterator[re.Match[str]]:
    """Points of candidates; the name is a known output, else one word."""
    points = r"(?P<words>-?\d+) \+ (?P<history>-?\d+) = (?P<sum>-?\d+)"
    return re.finditer(rf"(?P<name>(?<![\w-])(?:{known})|[^\s,;]+) {points}", text, re.IGNORECASE)

"""Claims about texts: key words, what past outputs look like, the stretch that becomes the answer, options' words.

Key words: mixer, audio.    It is about mixer and audio.       WORD, one claim a word, of the question
about 5 words, lower case, no article                           STYLE, the median and the majority of past outputs
Keep from small to audio.    Start at small, stop at audio.     SPAN, the answer's beginning and end
[1] shares parsing and trees with the history.                  SHARED, words of option [1] and of the history
[1] shares parsing with the question.                           SHARED, words of option [1] and of the text before it

If the options are not printed in the question's text, their words are those of the whole question.
"""

import re
import statistics
from collections.abc import Iterator
from decimal import Decimal  # of thousands of digits too, which int() refuses

from tagpr.chains.chain import Response, Segment
from tagpr.chains.evidence.text import entry_output, entry_text, split_options, words
from tagpr.chains.evidence.types import Claim, ClaimKind, Shown
from tagpr.tasks.types import Kind

_KEYS = re.compile(r"(?:Key words: |It is about )(?P<words>[^.:;\"]+)\.")
_STYLE = re.compile(r"about (?P<length>\d+) words(?:, (?P<case>lower case|capital), (?P<article>with|no) article)?")
_SPAN = re.compile(r"(?:Keep from|Start at) (?P<first>.+?)(?: to |, stop at )(?P<last>.+)\.|Keep only (?P<only>.+)\.")
_SHARED = re.compile(r"(?P<label>\S+) shares (?P<words>(?!nothing).+?) with the (?P<where>history|question)")
_ARTICLES = frozenset(("a", "an", "the"))


def text_claims(segment: Segment, offset: int, shown: Shown) -> Iterator[Claim]:
    """Claims about the text and past outputs in one step; `offset` is where its text starts in the completion."""
    text = segment.text

    def claim(kind: ClaimKind, start: int, end: int, true: bool) -> Claim:
        return Claim(kind, text[start:end], offset + start, offset + end, true)

    asked = set(words(shown.question))
    for found in _KEYS.finditer(text):
        for word in re.finditer(r"[^\s,]+", found["words"]):
            if word[0] != "and":
                start = found.start("words") + word.start()
                yield claim(ClaimKind.WORD, start, start + len(word[0]), set(words(word[0])) <= asked)
    for found in _STYLE.finditer(text):
        yield claim(ClaimKind.STYLE, found.start(), found.end(), _is_style(found, shown))
    if shown.task.kind is Kind.CHOICE:
        for found in _SHARED.finditer(text):
            yield claim(ClaimKind.SHARED, found.start(), found.end(), _is_shared(found, shown))


def span_claim(response: Response) -> Claim | None:
    """Whether the answer begins and ends as the chain says; None if it says nothing of the kind."""
    if not response.segments or not response.answer:
        return None
    last = response.segments[-1]
    found = _SPAN.search(last.text)
    if not found:
        return None
    first, end = words(found["first"] or found["only"]), words(found["last"] or found["only"])
    answer = words(response.answer)
    start = response.text.find(last.text, last.start)
    true = answer[: len(first)] == first and answer[len(answer) - len(end) :] == end
    return Claim(ClaimKind.SPAN, found[0], start + found.start(), start + found.end(), true)


def _is_shared(found: re.Match[str], shown: Shown) -> bool:
    asked = set(words(shown.question))
    stem, texts = split_options(shown.input, shown.task.labels)
    option = dict(zip(shown.task.labels, texts, strict=True)).get(found["label"])
    own, rest = (set(words(option)), set(words(stem))) if option else (asked, asked)
    if found["where"] == "history":
        rest = {
            word
            for entry in shown.entries
            for word in words(entry_text(shown.task, entry) + " " + entry_output(shown.task, entry))
        }
    said = {word for word in words(found["words"]) if word != "and"}
    return said <= own & rest


def _is_style(found: re.Match[str], shown: Shown) -> bool:
    outputs = [
        entry_output(shown.task, entry) or entry.fields.get(shown.task.input_fields[0], "") for entry in shown.entries
    ]
    outputs = [output for output in outputs if output]
    if not outputs:
        return True  # nothing is shown: said of users in general
    true = Decimal(found["length"]) == round(statistics.median(len(words(output)) for output in outputs))
    if found["case"]:
        lower = sum(not output[:1].isupper() for output in outputs) * 2 > len(outputs)
        article = sum(bool(_ARTICLES & set(words(output)[:1])) for output in outputs) * 2 > len(outputs)
        true = true and lower == (found["case"] == "lower case") and article == (found["article"] == "with")
    return true

"""Words of texts, and the texts of a history: what evidence is made of and checked against."""

import math
import re
from collections import Counter
from collections.abc import Sequence

from tagpr.tasks.types import Example, Interaction, Task

_WORD = re.compile(r"[぀-ヿ㐀-鿿]|[^\W_぀-ヿ㐀-鿿]+")  # a CJK character is a word
QUOTED = re.compile(r"[\"“«](?P<quote>[^\"“”«»\n]{4,300})[\"”»]")
"""A passage in quotation marks."""
_STOP_TEXT = """
a an and are as at be been but by can could did do does for from had has have he her his i if in into is it its just
like me more most my no not of on one only or other our out over she so some such than that the their them then there
these they this those to up us use used using was we were what when which while who will with would you your etc also
any all about after both each how may new where
"""
STOP = frozenset(_STOP_TEXT.split())


def folded(text: str) -> str:
    """Lower case, single spaces, without what a quotation inside a chain cannot hold."""
    return " ".join(re.sub(r'[<>"]', " ", text.lower()).split()).strip(" .…,;:")


def words(text: str) -> list[str]:
    """Lower-case words in order; each CJK character is a word."""
    return _WORD.findall(text.lower())


def content_words(text: str) -> list[str]:
    """Distinct words that carry meaning, in order of appearance."""
    return [word for word in dict.fromkeys(words(text)) if word not in STOP and (len(word) > 1 or word > "z")]


def question_text(example: Example) -> str:
    """The part of an example that history is compared with: the query if there is one, else the input."""
    return example.query or example.input


def entry_text(task: Task, entry: Interaction) -> str:
    """x_i of a history entry: its input fields, joined."""
    return " ".join(entry.fields.get(name, "") for name in task.input_fields).strip()


def entry_output(task: Task, entry: Interaction) -> str:
    """y_i of a history entry; "" if the history has no outputs."""
    return entry.fields.get(task.output_field, "").strip() if task.output_field else ""


def split_options(text: str, labels: Sequence[str]) -> tuple[str, list[str]]:
    """The question before its options, and the text of each option ("" if its label is not printed).

    An option starts at the last occurrence of its label: instructions name the labels before the options do.
    """
    starts = {label: text.rfind(label) for label in labels}
    printed = sorted((start, label) for label, start in starts.items() if start >= 0)
    stem = text[: printed[0][0]] if printed else text
    bodies = dict.fromkeys(labels, "")
    for number, (start, label) in enumerate(printed):
        end = printed[number + 1][0] if number + 1 < len(printed) else len(text)
        bodies[label] = text[start + len(label) : end].strip(' :"\n')
    return stem, [bodies[label] for label in labels]


class WordStatistics:
    """Document frequencies over training items; IDF-weighted cosine of two word sets."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.documents = len(texts)
        self.frequency: Counter[str] = Counter()
        for text in texts:
            self.frequency.update(content_words(text))

    def idf(self, word: str) -> float:
        """Inverse document frequency of a word; above 0 also for words that every text has."""
        return math.log((self.documents + 1) / (self.frequency[word] + 1)) + 0.1

    def similarity(self, one: Sequence[str], other: Sequence[str]) -> float:
        """Cosine of IDF-weighted word sets, in [0, 1]."""
        shared = sorted(set(one) & set(other))
        if not shared:
            return 0.0
        norm = sum(self.idf(w) ** 2 for w in one) * sum(self.idf(w) ** 2 for w in other)
        return sum(self.idf(w) ** 2 for w in shared) / math.sqrt(norm)

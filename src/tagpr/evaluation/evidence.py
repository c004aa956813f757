"""Does what a chain quotes exist? Passages in quotation marks against the user's history and the question."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tagpr.chains.evidence.text import QUOTED, folded
from tagpr.evaluation.predictions import Prediction
from tagpr.marks import END_THINK
from tagpr.tasks.types import Example


@dataclass(frozen=True)
class Evidence:
    """Quotations of a system's chains, counted."""

    quotations: int
    in_history: int
    in_question: int

    @property
    def hallucinated(self) -> float | None:
        """Share of the quotations that are in neither; None if nothing is quoted."""
        return (self.quotations - self.in_history - self.in_question) / self.quotations if self.quotations else None


def evidence(rows: Sequence[Prediction], examples: Sequence[Example]) -> Evidence:
    """How many of the quotations in the chains are in the user's history, or else in the question."""
    by_id = {example.id: example for example in examples}
    quoted = in_history = in_question = 0
    for row in rows:
        example = by_id[row.id]
        history, question = sources(history_texts(example)), sources([example.input, *example.fields.values()])
        for quotation in quotations(row.completion.partition(END_THINK)[0]):
            quoted += 1
            if is_found(quotation, history):
                in_history += 1
            elif is_found(quotation, question):
                in_question += 1
    return Evidence(quoted, in_history, in_question)


def quotations(chain: str) -> list[str]:
    """What a chain puts in quotation marks, in order."""
    return [found["quote"] for found in QUOTED.finditer(chain) if folded(found["quote"])]


def sources(texts: Iterable[str]) -> list[str]:
    """Texts in the form that `is_found` compares."""
    return [folded(text) for text in texts]


def is_found(quotation: str, texts: Sequence[str]) -> bool:
    """Whether a quotation is part of one of `sources(...)`, whatever its case, spacing and outer punctuation."""
    return any(folded(quotation) in text for text in texts)


def history_texts(example: Example) -> list[str]:
    """Every text of a user's history."""
    return [value for item in example.profile for value in item.fields.values()]

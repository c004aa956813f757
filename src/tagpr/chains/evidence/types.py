"""The nouns of a checked chain: `Shown`, what a prompt showed; `Claim`, one checkable statement; `EvidenceReport`."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from tagpr.prompts.cuts import NOTHING_CUT, Cuts, as_shown
from tagpr.tasks.types import Example, Interaction, Task


class ClaimKind(StrEnum):
    """What a claim is about, hence how it is checked."""

    QUOTATION = "quotation"  # the quoted text is in the shown history or in the question
    OUTPUT = "output"  # the quoted item has this output
    ITEM = "item"  # the shown history has an item of this number
    TALLY = "tally"  # so many shown items have this output
    WORD = "word"  # the word is in the question
    SUM = "sum"  # the points of a candidate add up
    SHARED = "shared"  # an option and the history, or the question, have these words in common
    STYLE = "style"  # past outputs are so long, begin so
    SPAN = "span"  # the answer is this stretch of the text
    NOTE = "note"  # the shown history has this note, letter for letter
    QUESTION = "question"  # the question is of this kind
    DECISION = "decision"  # what is decided is what was found
    ANSWER = "answer"  # the answer is what was decided


@dataclass(frozen=True)
class Shown:
    """What a prompt showed: the question and the history items in their order. Never holds the reference."""

    task: Task
    input: str
    question: str  # every text of the question, the input first
    entries: tuple[Interaction, ...]

    @classmethod
    def of(cls, task: Task, example: Example, entries: tuple[Interaction, ...], cuts: Cuts = NOTHING_CUT) -> "Shown":
        """From an example and the entries its prompt shows, and what the prompt shows of texts that it cuts."""
        asked, items = as_shown(example, entries, cuts)
        return cls(task, asked.input, _question(asked.input, asked.query, asked.fields), items)


@dataclass(frozen=True)
class Claim:
    """One statement of a chain that a program can check. `start`, `end` are offsets into the completion."""

    kind: ClaimKind
    text: str
    start: int
    end: int
    true: bool


@dataclass(frozen=True)
class EvidenceReport:
    """Every claim of a chain, true or not."""

    claims: tuple[Claim, ...]

    @property
    def precision(self) -> float | None:
        """Share of the claims that are true; None for a chain that claims nothing."""
        return sum(claim.true for claim in self.claims) / len(self.claims) if self.claims else None

    @property
    def false(self) -> tuple[Claim, ...]:
        """The claims that are not true."""
        return tuple(claim for claim in self.claims if not claim.true)


def _question(text: str, query: str, fields: Mapping[str, str]) -> str:
    """All texts of a question, each once."""
    return "\n".join(dict.fromkeys(part for part in (text, query, *fields.values()) if part))

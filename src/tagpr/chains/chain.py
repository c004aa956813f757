"""The nouns of a tagged answer: `Segment`, `Fault`, `Response`, and `Chain`, one that stage 0 kept."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Segment:
    """One tagged step of a chain: `<tag>text</tag>`. `start`/`end` are character offsets into the completion."""

    tag: str
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a completion. `kind` is one of `tagpr.chains.grammar.FAULTS`."""

    kind: str
    position: int  # character offset into the completion
    message: str


@dataclass(frozen=True)
class Response:
    """A completion parsed into chain and answer. Parsing is total: any string gives a Response and its faults."""

    text: str  # the whole completion
    segments: tuple[Segment, ...]  # the chain c
    answer: str  # y, stripped; "" if there is none
    faults: tuple[Fault, ...]

    @property
    def well_formed(self) -> bool:
        """No fault at all: `<think>` tagged segments `</think>` answer."""
        return not self.faults


@dataclass(frozen=True)
class Chain:
    """One kept chain, a row of `chains.parquet`: (c, y) of eq. 1 as one text to learn."""

    example_id: str
    task: str
    user_id: str
    sample: int  # number of the rollout
    completion: str  # <think> tagged steps </think> answer
    answer: str  # y
    score: float  # 1 for a right answer; for text tasks the mean of ROUGE-1 and ROUGE-L F
    judge: int | None  # the judge's total, 4 to 20; None without a judge
    tags: tuple[str, ...]  # of every step, in order

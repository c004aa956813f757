"""The nouns of a tagged answer: `Segment`, `Fault`, `Response`."""

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
    answer: str  # y, stripped; "" where there is none
    faults: tuple[Fault, ...]

    @property
    def well_formed(self) -> bool:
        """No fault at all: `<think>` tagged segments `</think>` answer."""
        return not self.faults

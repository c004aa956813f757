"""Cutting a turn that is still being written into its chain and its answer, for streams."""

import re

from tagpr.chains.chain import Response
from tagpr.chains.vocabulary import Vocabulary
from tagpr.marks import END_THINK, THINK
from tagpr.serve.answers import PersonalAnswer


class TurnSplit:
    """Pieces of a turn in, pieces of chain and answer out. What may yet be part of a tag or trailing space waits.

    A turn that begins with `<think>` or with a tag of the vocabulary is a chain up to `</think>`; any other is an
    answer. The pieces of an answer join to what `parse_response` finds, given a chain that ends.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        names = "|".join(map(re.escape, ("think", *vocabulary.names)))
        self._begins = re.compile(rf"\s*<(?:{names})>")
        self._openings = [f"<{name}>" for name in ("think", *vocabulary.names)]
        self._in_chain: bool | None = None
        self._waiting = ""
        self._answered = False

    def feed(self, piece: str) -> tuple[str, str]:
        """(new text of the chain, new text of the answer)."""
        self._waiting += piece
        if self._in_chain is None:
            start = self._waiting.lstrip()
            if self._begins.match(self._waiting):
                self._in_chain = True
                self._waiting = start.removeprefix(THINK)
            elif any(opening.startswith(start) for opening in self._openings):
                return "", ""
            else:
                self._in_chain = False
        chain = ""
        if self._in_chain:
            chain, found, rest = self._waiting.partition(END_THINK)
            if not found:
                held = next((n for n in range(len(END_THINK) - 1, 0, -1) if chain.endswith(END_THINK[:n])), 0)
                self._waiting = chain[len(chain) - held :]
                return chain[: len(chain) - held], ""
            self._in_chain, self._waiting = False, rest
        return chain, self._answer()

    def _answer(self) -> str:
        if not self._answered:
            self._waiting = self._waiting.lstrip()
        text = self._waiting.rstrip()
        self._waiting = self._waiting[len(text) :]
        self._answered = self._answered or bool(text)
        return text


def chain_text(response: Response | PersonalAnswer) -> str:
    """The chain of a whole turn, its tags included, without `<think>` and `</think>`; empty if there is none."""
    before, found, _ = response.text.partition(END_THINK)
    if not found:  # cut off, or never begun: then everything is the answer
        before = response.text[: response.segments[-1].end] if response.segments else ""
    return before.lstrip().removeprefix(THINK).strip()

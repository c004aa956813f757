"""Requests and replies, as they are kept in the reply cache.

Whatever the engine, reasoning is told from the answer the same way, whether it arrives in a field of its own or inline
between `<think>` tags.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tagpr.marks import END_THINK, THINK


@dataclass(frozen=True)
class Request:
    """A request for one completion. Equal requests are answered once; `sample` tells rollouts of one prompt apart."""

    messages: tuple[Mapping[str, str], ...]
    sample: int = 0


@dataclass(frozen=True)
class Reply:
    """One completion."""

    content: str  # the answer, without reasoning
    reasoning: str  # what was thought before it, "" if the model shows none
    finished: bool  # False if the token limit cut it
    prompt_tokens: int
    completion_tokens: int

    @property
    def text(self) -> str:
        """Reasoning and answer as one text, the reasoning between `<think>` tags."""
        return f"<think>\n{self.reasoning}\n</think>\n{self.content}" if self.reasoning else self.content


@dataclass(frozen=True)
class Refusal:
    """A request that the model will not answer: too long, filtered, always empty. Never cached: a rerun repeats it."""

    reason: str
    said: str = ""
    """The server's own words."""

    def __str__(self) -> str:
        return f"{self.reason}: {self.said}" if self.said else self.reason

    @property
    def kind(self) -> str:
        """Reason and words with the numbers left out, for counting refusals that differ only in them."""
        return f"{self.reason}: {re.sub('[0-9]+', 'N', self.said)}" if self.said else self.reason


@dataclass
class Spend:
    """What has been used at endpoints. Cached replies cost nothing."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0


def split_reasoning(content: str, field: str = "") -> tuple[str, str]:
    """(reasoning, answer) of a message: from its reasoning field, or from `<think>…</think>` inside the content.

    A template may have prefilled `<think>`, so `</think>` alone separates too; a `<think>` never closed means that the
    token limit came first: all of it is reasoning.
    """
    if field.strip():
        return field.strip(), content.strip()
    before, mark, after = content.partition(END_THINK)
    if mark:
        return before.replace(THINK, "", 1).strip(), after.strip()
    if content.lstrip().startswith(THINK):
        return content.replace(THINK, "", 1).strip(), ""
    return "", content.strip()

"""What completes prompts behind a served model: the protocol `Engine`, one request to it, and the text as it grows."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tagpr.engine.text import decode, think_opening
from tagpr.engine.types import Completion, Sampling
from tagpr.serve.served_run import SystemName

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OnText = Callable[[int, str], None]
"""Called with the sample's number and the piece of text that it has grown by. Not in the caller's thread."""


@dataclass(frozen=True)
class CompletionRequest:
    """One prompt to complete."""

    system: SystemName
    prompt_ids: tuple[int, ...]
    sampling: Sampling
    stop: tuple[str, ...] = ()
    """A completion ends before the first of these texts."""
    on_text: OnText | None = None
    owners: tuple[str, ...] = ()
    """The users whose text the prompt holds: nothing that is kept of it serves others."""
    public: int = 0
    """How many of its first tokens are nobody's text."""
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Set it where nobody waits for the answer any more."""


class Engine(Protocol):
    """Completes prompts, those of concurrent requests together if it can."""

    def tokenizer(self, system: SystemName) -> "PreTrainedTokenizerBase":
        """The system's tokenizer."""
        ...

    def submit(self, request: CompletionRequest) -> "Future[list[Completion]]":
        """`request.sampling.num_samples` completions. The future fails with a TagPRError if the engine cannot."""
        ...

    def forget(self, user: str) -> None:
        """Drop what is kept of a user's prompts, if anything is."""
        ...

    def close(self) -> None:
        """Finish what runs and stop."""
        ...


class GrowingText:
    """One completion's text while its tokens are drawn: pieces that are certain, and whether a stop text came."""

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", request: CompletionRequest, end_ids: Sequence[int]
    ) -> None:
        opening = think_opening(tokenizer)
        self.before = opening.text if opening is not None and opening.ends(request.prompt_ids) else ""
        self.tokenizer, self.end_ids, self.stop = tokenizer, end_ids, request.stop
        self.sent = 0
        self.hold = max(map(len, request.stop), default=1) - 1
        """Characters at the end that may yet turn out to begin a stop text."""

    def grow(self, token_ids: Sequence[int]) -> tuple[str, bool]:
        """The new piece of text, and whether a stop text ended the completion."""
        text = self.before + decode(self.tokenizer, token_ids, self.end_ids)
        cut = before_stop(text, self.stop)
        if cut is not None:
            return self._up_to(cut, len(cut)), True
        # a character of several tokens is shown as U+FFFD until its last one is there
        return self._up_to(text, len(text.rstrip("\ufffd")) - self.hold), False

    def rest(self, text: str) -> str:
        """What is still to be sent of the finished text."""
        return self._up_to(text, len(text))

    def _up_to(self, text: str, end: int) -> str:
        piece = text[self.sent : end] if end > self.sent else ""
        self.sent = max(self.sent, end)
        return piece


def before_stop(text: str, stop: Sequence[str]) -> str | None:
    """The text before the first stop text in it; None if there is none."""
    places = [place for place in (text.find(one) for one in stop if one) if place >= 0]
    return text[: min(places)] if places else None

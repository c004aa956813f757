"""What every engine takes and gives: `Sampling`, `Completion` and the protocol `TextModel`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tagpr.progress import Progress

Messages = Sequence[Mapping[str, str]]
"""A chat as `{role, content}` messages; the model's own chat template makes token ids of it."""

Prompts = Sequence[Sequence[int]] | Sequence[Messages]
"""Prompts in token ids (generation prompt included), or all of them as messages."""

Watch = Callable[[int, int, Sequence[int]], bool]
"""Called after each token with the numbers of prompt and sample and the token ids so far; True ends the completion."""


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn. Equal sampling, prompts and weights give equal completions, however batched."""

    max_new_tokens: int
    """Longest completion, end token included."""
    num_samples: int = 1
    """Completions of each prompt."""
    temperature: float = 1.0
    """0 is greedy: all samples of a prompt are the same."""
    top_p: float = 1.0
    """Nucleus mass; 1 keeps the whole distribution."""
    seed: int = 0
    """Together with prompt and sample number it decides every draw."""
    logprobs: bool = False
    """Also give the log-probability of every token."""


@dataclass(frozen=True)
class Continuation:
    """One sampled continuation in token ids, its end-of-sequence token included if there is one."""

    token_ids: list[int]
    logprobs: list[float] | None
    """log p of each token under the sampling distribution before top-p; None unless requested."""
    finished: bool
    """Ended with an end token, not cut off by `max_new_tokens`."""

    @property
    def body(self) -> list[int]:
        """The token ids without the end token."""
        return self.token_ids[:-1] if self.finished else self.token_ids


@dataclass(frozen=True)
class Completion(Continuation):
    """A continuation and its text: the assistant's whole turn.

    The text has no end or padding token; `<think>` is kept whatever kind of token it is, and is at the start if the
    chat template had written it into the prompt. Training, rewards and evaluation all read this text.
    """

    text: str = ""
    reply_tokens: int = 0
    """Tokens of the completion (an endpoint counts them without telling which)."""


class TextModel(Protocol):
    """A model that completes prompts: `TransformersModel`, `VLLMModel` or `EndpointModel`."""

    def generate(
        self, prompts: Prompts, sampling: Sampling, progress: Progress | None = None
    ) -> list[list[Completion]]:
        """`sampling.num_samples` completions of each prompt, in the prompts' order.

        Raises ModelError if the model or its library is missing, RunError if it cannot go on.
        """
        ...

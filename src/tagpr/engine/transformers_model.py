"""`TransformersModel`: a transformers model as a `TextModel`, through our own generation (`generation`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tagpr.engine.text import chat_ids, decode, end_token_ids, think_opening
from tagpr.engine.types import Completion, Continuation, Prompts, Sampling, Watch
from tagpr.progress import Progress

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


class TransformersModel:
    """Completes prompts with a loaded model, also one that is being trained: weights are read when `generate` runs."""

    def __init__(
        self,
        model: torch.nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int = 96,
    ) -> None:
        """`batch_size`: completions decoded side by side."""
        from tagpr.engine.models import inner_model

        self.model, self.tokenizer, self.batch_size = model, tokenizer, batch_size
        self.end_ids = end_token_ids(tokenizer, inner_model(model))

    @classmethod
    def load(cls, folder: Path, batch_size: int = 96) -> TransformersModel:
        """The checkpoint in `folder`. Raises ModelError if it does not load."""
        from tagpr.engine.models import load_causal_lm, load_tokenizer

        return cls(load_causal_lm(folder), load_tokenizer(folder), batch_size)

    def generate(
        self, prompts: Prompts, sampling: Sampling, progress: Progress | None = None, watch: Watch | None = None
    ) -> list[list[Completion]]:
        """`sampling.num_samples` completions of each prompt, in the prompts' order; `watch` sees them grow."""
        from tagpr.engine.generation import generate

        ids = prompt_ids(self.tokenizer, prompts)
        drawn = generate(
            self.model,
            ids,
            sampling,
            end_ids=self.end_ids,
            pad_id=_pad_id(self.tokenizer),
            batch_size=self.batch_size,
            progress=progress,
            watch=watch,
        )
        return completions(self.tokenizer, self.end_ids, ids, drawn)


def _pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    return tokenizer.pad_token_id if isinstance(tokenizer.pad_token_id, int) else 0


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompts: Prompts) -> list[list[int]]:
    """Prompts in token ids; messages go through the chat template."""
    rows: list[list[int]] = []
    for prompt in prompts:
        messages = [part for part in prompt if isinstance(part, Mapping)]
        rows.append(chat_ids(tokenizer, messages) if messages else [i for i in prompt if not isinstance(i, Mapping)])
    return rows


def completions(
    tokenizer: PreTrainedTokenizerBase,
    end_ids: Sequence[int],
    prompts: Sequence[Sequence[int]],
    drawn: Sequence[Sequence[Continuation]],
) -> list[list[Completion]]:
    """Continuations with their texts; the `<think>` at the end of a prompt is the start of its completions' texts."""
    opening = think_opening(tokenizer)
    rows = []
    for prompt, samples in zip(prompts, drawn, strict=True):
        before = opening.text if opening is not None and opening.ends(prompt) else ""
        rows.append(
            [
                Completion(
                    *(one.token_ids, one.logprobs, one.finished),
                    text=before + decode(tokenizer, one.token_ids, end_ids),
                    reply_tokens=len(one.token_ids),
                )
                for one in samples
            ]
        )
    return rows

"""A reward manager for verl that hands the reward function the tokens of a sample. verl loads this file by its path:

    reward.reward_manager.source=importlib
    reward.reward_manager.name=TokenRewardManager
    reward.reward_manager.module.path=$(python -c 'import tagpr.prmu.verl as v; print(v.MANAGER)')

verl's own managers decode a sample without its special tokens, so a `<think>` that is one is gone before any reward
function sees it. This one decodes as the rest of the package does, and adds `prompt_ids` and `completion_ids` to
`extra_info`.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from verl.experimental.reward_loop.reward_manager.naive import (  # pyright: ignore[reportMissingImports]  # verl's
    NaiveRewardManager,
)

from tagpr.engine.text import turn_decoder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TurnTokenizer:
    """A tokenizer whose `decode` gives the assistant's whole turn; everything else is the tokenizer's own."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer, self._turn = tokenizer, turn_decoder(tokenizer)

    def decode(self, token_ids: Iterable[int], **_: object) -> str:
        """As `tagpr.engine.text.turn_decoder`; options (verl asks to skip special tokens) are left aside."""
        return self._turn([int(token) for token in token_ids])

    def __getattr__(self, name: str) -> object:
        return getattr(self._tokenizer, name)


class TokenRewardManager(NaiveRewardManager):
    """verl's naive reward manager, with tokens beside the text."""

    def __init__(self, config: Any, tokenizer: "PreTrainedTokenizerBase", *more: Any, **options: Any) -> None:
        super().__init__(config, TurnTokenizer(tokenizer), *more, **options)

    async def run_single(self, data: Any) -> dict[str, Any]:
        """The reward of one sample. Samples may share an `extra_info`: each gets its own, with its token ids."""
        item = data[0]
        mask, size = item.batch["attention_mask"].bool(), item.batch["responses"].shape[-1]
        info = dict(item.non_tensor_batch.get("extra_info") or {}) | {
            "prompt_ids": item.batch["prompts"][mask[:-size]].tolist(),
            "completion_ids": item.batch["responses"][mask[-size:]].tolist(),
        }
        data.non_tensor_batch["extra_info"] = np.array([info], dtype=object)
        return await super().run_single(data)

"""`Backbone`: a checkpoint that writes answers to prompts and counts its tokens; loaded when first needed.

What every prompted system shares: generation through `tagpr.engine` and the cost.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tagpr.engine.loading import load_text_model
from tagpr.engine.transformers_model import TransformersModel
from tagpr.engine.types import Sampling, TextModel
from tagpr.progress import Progress
from tagpr.systems.context import Context
from tagpr.systems.cost import Cost
from tagpr.systems.protocol import Answer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Backbone:
    """Answers prompts in token ids with one checkpoint; adds its tokens to `cost` (a system's own)."""

    def __init__(self, context: Context, cost: Cost, folder: Path | None = None) -> None:
        self.context, self.cost, self.folder = context, cost, folder or context.model
        self._model: PreTrainedModel | None = None

    @property
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """The backbone's tokenizer."""
        return self.context.tokenizer

    @property
    def model(self) -> "PreTrainedModel":
        """The causal language model, in eval mode, on the GPU if there is one."""
        if self._model is None:
            from tagpr.engine.models import load_causal_lm

            self._model = load_causal_lm(self.folder)
        return self._model

    @cached_property
    def text_model(self) -> TextModel:
        """The checkpoint in the engine that `context.decoding` names. Raises ModelError if that is not installed."""
        decoding = self.context.decoding
        if decoding.engine == "transformers":
            return TransformersModel(self.model, self.tokenizer, decoding.generation_batch_size)
        return load_text_model(self.folder, decoding.engine)

    def write(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        num_samples: int = 1,
        temperature: float | None = None,
        progress: Progress | None = None,
    ) -> list[list[Answer]]:
        """`num_samples` answers to each prompt. temperature and progress: the context's if None."""
        decoding = self.context.decoding
        sampling = Sampling(
            max_new_tokens,
            num_samples,
            decoding.temperature if temperature is None else temperature,
            seed=self.context.seed,
        )
        drawn = self.text_model.generate([list(ids) for ids in prompts], sampling, progress or self.context.progress)
        self.cost.prompt_tokens += sum(map(len, prompts))
        self.cost.completion_tokens += sum(len(one.token_ids) for samples in drawn for one in samples)
        return [[Answer(one.text, len(one.body), one.finished) for one in samples] for samples in drawn]

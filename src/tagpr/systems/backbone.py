"""`Backbone`: a checkpoint that writes texts for prompts and counts its tokens; loaded when first needed.

What every prompted system shares: generation through `tagpr.engine` and the cost.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tagpr.engine.transformers_model import TransformersModel
from tagpr.engine.types import Sampling
from tagpr.systems.protocol import Context, Cost


class Backbone:
    """Answers prompts in token ids with one checkpoint; adds its tokens to `cost` (a system's own)."""

    def __init__(self, context: Context, cost: Cost, folder: Path | None = None) -> None:
        self.context, self.cost, self.folder = context, cost, folder or context.model
        self._model: Any = None

    @property
    def tokenizer(self) -> Any:
        return self.context.tokenizer

    @property
    def model(self) -> Any:
        """The causal language model, in eval mode, on the GPU where there is one."""
        if self._model is None:
            from tagpr.engine.models import load_causal_lm

            self._model = load_causal_lm(self.folder)
        return self._model

    def write(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        num_samples: int = 1,
        temperature: float | None = None,
        seed: int | None = None,
    ) -> list[list[str]]:
        """`num_samples` completions of each prompt as texts. temperature and seed: the run's where None."""
        decoding = self.context.decoding
        sampling = Sampling(
            max_new_tokens,
            num_samples,
            decoding.temperature if temperature is None else temperature,
            seed=self.context.seed if seed is None else seed,
        )
        generator = TransformersModel(self.model, self.tokenizer, decoding.rows)
        drawn = generator.generate([list(ids) for ids in prompts], sampling, self.context.progress)
        self.cost.prompt_tokens += sum(map(len, prompts))
        self.cost.completion_tokens += sum(len(one.token_ids) for samples in drawn for one in samples)
        return [[one.text for one in samples] for samples in drawn]

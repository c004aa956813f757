"""`Backbone`: a checkpoint that writes texts for prompts and counts its tokens; loaded when first needed.

What every prompted system shares: generation through `tagpr.engine.generation`, stop tokens cut off, a `<think>` that
the chat template had already written put back in front, and the cost.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
        from tagpr.engine.generation import generate
        from tagpr.engine.models import eos_token_ids

        decoding = self.context.decoding
        drawn = generate(
            self.model,
            [list(ids) for ids in prompts],
            num_samples,
            max_new_tokens=max_new_tokens,
            eos_token_ids=eos_token_ids(self.model, self.tokenizer),
            pad_token_id=self.tokenizer.pad_token_id,
            temperature=decoding.temperature if temperature is None else temperature,
            seed=self.context.seed if seed is None else seed,
            rows=decoding.rows,
            progress=self.context.progress,
        )
        self.cost.prompt_tokens += sum(map(len, prompts))
        self.cost.completion_tokens += sum(len(one.token_ids) for samples in drawn for one in samples)
        return [[self._text(ids, one) for one in samples] for ids, samples in zip(prompts, drawn, strict=True)]

    def _text(self, prompt: Sequence[int], completion: Any) -> str:
        ids = list(completion.token_ids)
        if completion.finished and ids and ids[-1] in self.tokenizer.all_special_ids:
            ids = ids[:-1]
        text = self.tokenizer.decode(ids, skip_special_tokens=False)
        prefilled = self.tokenizer.decode(list(prompt[-8:])).rstrip().endswith("<think>")
        return f"<think>\n{text}" if prefilled else text

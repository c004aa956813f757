"""`VLLMModel`: vLLM's offline engine as a `TextModel`. vLLM batches, shares prefixes and refills by itself.

A draw depends on prompt, sample number and seed, as everywhere in this package. The samples of a prompt are one
request, to which vLLM gives the seeds s, s + 1, ...
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tagpr.engine.models import load_tokenizer
from tagpr.engine.sampling import seeds_of
from tagpr.engine.text import end_token_ids
from tagpr.engine.transformers_model import completions, prompt_ids
from tagpr.engine.types import Completion, Continuation, Prompts, Sampling
from tagpr.errors import ModelError, RunError
from tagpr.progress import Progress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class VLLMModel:
    """Completes prompts with a checkpoint loaded into vLLM."""

    def __init__(self, engine: Any, tokenizer: PreTrainedTokenizerBase, end_ids: Sequence[int]) -> None:
        """engine: a `vllm.LLM`."""
        self.engine, self.tokenizer, self.end_ids = engine, tokenizer, list(end_ids)

    @classmethod
    def load(cls, folder: Path) -> VLLMModel:
        """The checkpoint in `folder`. Raises ModelError if vLLM is not installed or does not load it."""
        tokenizer = load_tokenizer(folder)
        try:
            from vllm import LLM  # pyright: ignore[reportMissingImports]  # optional, and for GPUs
        except ImportError:
            raise ModelError("engine vllm: vLLM is not installed; pip install vllm, or use transformers") from None
        try:
            engine = LLM(str(folder), **_engine_options())
        except Exception as error:  # whatever the engine's own processes die of
            raise ModelError(f"engine vllm: {folder} does not load ({_line(error)})") from None
        return cls(engine, tokenizer, end_token_ids(tokenizer, folder=folder))

    def generate(
        self, prompts: Prompts, sampling: Sampling, progress: Progress | None = None
    ) -> list[list[Completion]]:
        """`sampling.num_samples` completions of each prompt. Raises ModelError for log-probs at a temperature that is
        neither 0 nor 1 (vLLM gives those of the unscaled distribution), RunError for a prompt that vLLM refuses.
        """
        from vllm import SamplingParams  # pyright: ignore[reportMissingImports]

        if sampling.logprobs and sampling.temperature not in (0, 1):
            raise ModelError(
                f"engine vllm: no log-probs at temperature {sampling.temperature:g}; use 1, or transformers"
            )
        ids = prompt_ids(self.tokenizer, prompts)
        drawn = 1 if sampling.temperature == 0 else sampling.num_samples
        parameters = [
            SamplingParams(
                n=drawn,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=sampling.max_new_tokens,
                seed=seed,
                stop_token_ids=self.end_ids,
                logprobs=1 if sampling.logprobs else None,
                detokenize=False,
            )
            for seed in seeds_of(ids, sampling.seed)
        ]
        try:
            outputs = self.engine.generate([{"prompt_token_ids": prompt} for prompt in ids], parameters)
        except ValueError as error:  # a prompt longer than the model's context
            raise RunError(f"engine vllm: {_line(error)}") from None
        if progress is not None:
            progress(len(ids), len(ids), "completions")
        rows = [[_continuation(one, sampling.logprobs) for one in output.outputs] for output in outputs]
        if drawn < sampling.num_samples:
            rows = [row * sampling.num_samples for row in rows]
        return completions(self.tokenizer, self.end_ids, ids, rows)


def _line(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:300]


def _engine_options() -> dict[str, bool]:
    """On CPUs a seeded request whose prefill is split kills vLLM ("CPU Generator does not use offset")."""
    import torch

    return {} if torch.cuda.is_available() else {"enable_chunked_prefill": False}


def _continuation(output: Any, logprobs: bool) -> Continuation:
    ids = list(output.token_ids)
    scores = None
    if logprobs:
        scores = [float(table[token].logprob) for table, token in zip(output.logprobs, ids, strict=True)]
    return Continuation(ids, scores, output.finish_reason == "stop")

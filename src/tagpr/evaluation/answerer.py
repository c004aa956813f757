"""`Answerer`: one checkpoint that answers prompts. Its tokenizer is there at once, its weights when first needed."""

from pathlib import Path
from typing import Any

from tagpr.errors import ModelError
from tagpr.evaluation.predict import Progress
from tagpr.evaluation.settings import EvaluationSettings


class Answerer:
    """A checkpoint: its tokenizer at once, its weights when the first question needs them."""

    def __init__(self, folder: Path, settings: EvaluationSettings, seed: int) -> None:
        from tagpr.engine.models import load_tokenizer

        self.folder, self.settings, self.seed = folder, settings, seed
        self.tokenizer = load_tokenizer(folder)
        self.model: Any = None

    def load(self) -> None:
        """Load the weights, into transformers or into vLLM. Raises ModelError where vLLM is asked for and absent."""
        if self.model is not None:
            return
        if self.settings.engine == "vllm":
            try:
                from vllm import LLM
            except ImportError:
                raise ModelError(
                    "evaluate.engine vllm: vLLM is not installed; pip install vllm, or leave it out"
                ) from None
            self.model = LLM(str(self.folder), seed=self.seed)
        else:
            from tagpr.engine.models import load_causal_lm

            self.model = load_causal_lm(self.folder)
            self.model.eval()

    def generate(self, prompts: list[list[int]], progress: Progress | None = None) -> list[Any]:
        """One `tagpr.engine.generation.Completion` a prompt, loading the weights first where they are not."""
        self.load()
        return self._vllm(prompts) if self.settings.engine == "vllm" else self._transformers(prompts, progress)

    def _transformers(self, prompts: list[list[int]], progress: Progress | None) -> list[Any]:
        from tagpr.engine.generation import generate
        from tagpr.engine.models import eos_token_ids

        completions = generate(
            self.model,
            prompts,
            max_new_tokens=self.settings.max_new_tokens,
            eos_token_ids=eos_token_ids(self.model, self.tokenizer),
            pad_token_id=self.tokenizer.pad_token_id,
            temperature=self.settings.temperature,
            seed=self.seed,
            rows=self.settings.rows,
            progress=progress,
        )
        return [samples[0] for samples in completions]

    def _vllm(self, prompts: list[list[int]]) -> list[Any]:
        """vLLM batches, shares prefixes and refills by itself; one seed a prompt, so that no two draw alike."""
        from vllm import SamplingParams

        from tagpr.engine.generation import Completion

        sampling = [
            SamplingParams(
                temperature=self.settings.temperature, max_tokens=self.settings.max_new_tokens, seed=self.seed + i
            )
            for i in range(len(prompts))
        ]
        outputs = [out.outputs[0] for out in self.model.generate([{"prompt_token_ids": p} for p in prompts], sampling)]
        return [Completion(list(one.token_ids), None, one.finish_reason == "stop") for one in outputs]

"""`Answerer`: one checkpoint that answers prompts. Its tokenizer is there at once, its weights when first needed."""

from pathlib import Path
from typing import Any

from tagpr.evaluation.predict import Progress
from tagpr.evaluation.settings import EvaluationSettings


class Answerer:
    """A checkpoint: its tokenizer at once, its weights when the first question needs them."""

    def __init__(self, folder: Path, settings: EvaluationSettings, seed: int) -> None:
        from tagpr.llm.models import load_tokenizer

        self.folder, self.settings, self.seed = folder, settings, seed
        self.tokenizer = load_tokenizer(folder)
        self.model: Any = None

    def load(self) -> None:
        if self.model is None:
            from tagpr.llm.models import load_causal_lm

            self.model = load_causal_lm(self.folder)
            self.model.eval()

    def generate(self, prompts: list[list[int]], progress: Progress | None = None) -> list[Any]:
        """One completion a prompt, loading the weights first where they are not."""
        from tagpr.llm.generation import generate
        from tagpr.llm.models import eos_token_ids

        self.load()
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

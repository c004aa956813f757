"""`Answerer`: one checkpoint that answers prompts. Its tokenizer is there at once, its weights when first needed."""

from pathlib import Path

from tagpr.engine.loading import load_text_model
from tagpr.engine.types import Completion, Sampling, TextModel
from tagpr.evaluation.predict import Progress
from tagpr.evaluation.settings import EvaluationSettings


class Answerer:
    """A checkpoint: its tokenizer at once, its weights when the first question needs them."""

    def __init__(self, folder: Path, settings: EvaluationSettings, seed: int) -> None:
        from tagpr.engine.models import load_tokenizer

        self.folder, self.settings, self.seed = folder, settings, seed
        self.tokenizer = load_tokenizer(folder)
        self.model: TextModel | None = None

    def load(self) -> None:
        """Load the weights, into transformers or into vLLM. Raises ModelError where vLLM is asked for and absent."""
        if self.model is not None:
            return
        self.model = load_text_model(self.folder, self.settings.engine, self.settings.rows)

    def generate(self, prompts: list[list[int]], progress: Progress | None = None) -> list[Completion]:
        """One completion a prompt, loading the weights first where they are not."""
        self.load()
        assert self.model is not None
        sampling = Sampling(self.settings.max_new_tokens, temperature=self.settings.temperature, seed=self.seed)
        return [samples[0] for samples in self.model.generate(prompts, sampling, progress)]

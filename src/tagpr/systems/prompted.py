"""Zero-shot(-R) and RAG(-R): the untrained model with the question alone, or with the retrieved history.

RAG-R is the paper's Base: the same model, prompt and history as TagPR, untrained. Without -R the prompt asks for the
answer only; with -R for tagged thinking first, in the words that TagPR's own prompt uses.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from tagpr.systems.backbone import Backbone
from tagpr.systems.protocol import System
from tagpr.tasks.types import Example


class Prompted(System):
    """Answers with one checkpoint from one prompt an example. Subclasses say what the prompt shows."""

    with_profile = True

    @cached_property
    def backbone(self) -> Backbone:
        return Backbone(self.context, self.cost)

    @cached_property
    def prompts(self) -> Any:
        return self.context.prompts(self.reasons)

    def predict(self, examples: Sequence[Example]) -> list[str]:
        """Greedy completions (at the run's temperature)."""
        decoding = self.context.decoding
        ids = [self.prompts.ids(self.context.tasks[e.task], e, self.with_profile) for e in examples]
        limit = decoding.max_new_tokens if self.reasons else decoding.answer_tokens
        return [texts[0] for texts in self.backbone.write(ids, limit)]


class ZeroShot(Prompted):
    """The question only."""

    with_profile = False


class ZeroShotR(ZeroShot):
    """The question only, with reasoning."""

    reasons = True


class RAG(Prompted):
    """The question with the retrieved history."""


class RAGR(RAG):
    """RAG with reasoning: the paper's Base."""

    reasons = True

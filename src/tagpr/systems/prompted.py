"""Zero-shot(-R) and RAG(-R): the untrained model with the question alone, or with the retrieved history.

RAG-R is the paper's Base: the same model, prompt and history as TagPR, untrained. Without -R the prompt is for the
answer only; with -R for tagged thinking first, in the words that TagPR's own prompt uses.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

from tagpr.progress import Progress
from tagpr.prompts.cuts import Seen
from tagpr.prompts.prompt_builder import PromptBuilder
from tagpr.systems.backbone import Backbone
from tagpr.systems.protocol import Answer, NoOptions, OptionsT, System
from tagpr.tasks.types import Example


class Prompted(System[OptionsT]):
    """Answers with one checkpoint from one prompt per example. Subclasses say what the prompt shows."""

    with_profile = True

    @cached_property
    def backbone(self) -> Backbone:
        """The model that answers."""
        return Backbone(self.context, self.cost)

    @cached_property
    def prompts(self) -> PromptBuilder:
        """Builds the prompts."""
        return self.context.prompts(self.reasons)

    def prompt_ids(self, example: Example) -> list[int]:
        """The example's prompt in token ids."""
        return self.prompts.ids(self.context.tasks[example.task], example, self.with_profile)

    def order(self, examples: Sequence[Example]) -> list[int]:
        """The longest prompt first: rows of one batch are then about as long as each other."""
        for task in {example.task for example in examples}:
            self.prompts.prepare(self.context.tasks[task], [one for one in examples if one.task == task])
        lengths = [len(self.prompt_ids(example)) for example in examples]
        return sorted(range(len(examples)), key=lambda i: (-lengths[i], i))

    def predict(self, examples: Sequence[Example]) -> list[Answer]:
        """Greedy completions (at the run's temperature), with the history items that their prompts hold."""
        answers = self.write([self.prompt_ids(example) for example in examples])
        return [replace(answer, seen=self.seen(example)) for example, answer in zip(examples, answers, strict=True)]

    def write(self, prompts: Sequence[Sequence[int]], progress: Progress | None = None) -> list[Answer]:
        """One answer to each prompt in token ids, as long as the system's answers may be."""
        decoding = self.context.decoding
        limit = decoding.max_new_tokens if self.reasons else decoding.answer_tokens
        return [own[0] for own in self.backbone.write(prompts, limit, progress=progress)]

    def seen(self, example: Example) -> Seen:
        """What the example's prompt shows."""
        return self.prompts.build(self.context.tasks[example.task], example, self.with_profile).seen


class ZeroShot(Prompted[NoOptions]):
    """The question only."""

    with_profile = False


class ZeroShotR(ZeroShot):
    """The question only, with reasoning."""

    reasons = True


class RAG(Prompted[OptionsT]):
    """The question with the retrieved history."""


class RAGR(RAG[OptionsT]):
    """RAG with reasoning: the paper's Base."""

    reasons = True

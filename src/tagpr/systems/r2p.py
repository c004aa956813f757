"""R2P-style reasoning (Luo et al., arXiv 2505.17571), training-free: template, intervention, cross-referencing.

As the source has it: a hierarchical template (requirements, user profile, response) by which the model is told to think
by; its stream is cut and led back if it leaves the template (`r2p_stream`); several answers are cross-referenced
into one. Its prompts are not public, so this is "R2P-style": the wording is ours (`r2p_templates`).

Left open there, chosen here:
- 3 answers at temperature 0.7. Choices, labels and ratings: the most frequent answer, allowed ones first, among equals
  the one drawn first; it is given with the reasoning that led to it. Texts: one greedy call that sees history, question
  and drafts; its "reasoning" is the list of drafts, and equal drafts need no call.
- A part of the template has at most 64 tokens, which is also what ends a model that rambles.
- The template has its own prompt texts, so a recipe's `prompt.templates` do not apply.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from pydantic import Field

from tagpr.chains.grammar import parse_response
from tagpr.prompts.escape import escape
from tagpr.prompts.ids import prompt_ids
from tagpr.prompts.prompt_builder import PromptBuilder
from tagpr.settings import Settings
from tagpr.systems.backbone import Backbone
from tagpr.systems.protocol import Answer, System
from tagpr.systems.r2p_stream import Stream, follow
from tagpr.tasks.answers import label_set, normalise_answer
from tagpr.tasks.types import Example, Kind, Task

TEMPLATES = Path(__file__).parent / "r2p_templates"


class R2POptions(Settings):
    """Options of `r2p`."""

    answers: int = Field(default=3, ge=1)
    """Answers drawn for a question and cross-referenced into one."""
    temperature: float = Field(default=0.7, gt=0)
    """Temperature they are drawn at."""
    part_tokens: int = Field(default=64, ge=4)
    """Longest part of the template, in tokens; a longer one is cut and the next part opened."""


def most_frequent(task: Task, answers: Sequence[str]) -> int:
    """Number of the first answer that is the most frequent one; answers outside the labels lose to any inside."""
    tidy = [normalise_answer(task, answer) for answer in answers]
    known = label_set(task)
    votes = Counter(answer for answer in tidy if answer in known) or Counter(tidy)
    return max(range(len(tidy)), key=lambda i: (votes[tidy[i]], -i))


class R2P(System[R2POptions]):
    """Trains nothing."""

    reasons = True
    Options = R2POptions

    @cached_property
    def backbone(self) -> Backbone:
        """The model that answers."""
        return Backbone(self.context, self.cost)

    @cached_property
    def prompts(self) -> PromptBuilder:
        """The run's prompt builder with R2P's template in place of the tags."""
        settings = self.context.prompt.model_copy(update={"templates": TEMPLATES, "style": "tagged"})
        return replace(self.context, prompt=settings).prompts(False)

    def predict(self, examples: Sequence[Example]) -> list[Answer]:
        """One completion per example: thinking by the template and the answer on which the drafts agree."""
        tasks, count = self.context.tasks, self.options.answers
        ids = [self.prompts.ids(tasks[example.task], example) for example in examples]
        streams = self.streams([own for own in ids for _ in range(count)])
        texts: list[str] = []
        open_ones: list[tuple[int, list[str]]] = []
        for i, example in enumerate(examples):
            own = [stream.text for stream in streams[i * count : (i + 1) * count]]
            task = tasks[example.task]
            drafts = [parse_response(text, self.context.vocabulary).answer for text in own]
            if task.kind is not Kind.TEXT:
                texts.append(own[most_frequent(task, drafts)])
                continue
            texts.append(own[0])
            if len(distinct := list(dict.fromkeys(drafts))) > 1:
                open_ones.append((i, distinct))
        written = self._synthesise([(examples[i], drafts) for i, drafts in open_ones])
        for (i, drafts), answer in zip(open_ones, written, strict=True):
            listed = "\n".join(f"{n}. {draft}" for n, draft in enumerate(drafts, 1))
            texts[i] = f"<think>\nDrafts:\n{listed}\n</think>\n{answer}"
        return [Answer(text) for text in texts]

    def streams(self, prompts: Sequence[Sequence[int]]) -> list[Stream]:
        """One stream a prompt, led through the template. Equal prompts get different samples."""
        from tagpr.engine.generation import generate
        from tagpr.engine.text import decode as decode_ids
        from tagpr.engine.text import end_token_ids, think_opening
        from tagpr.engine.types import Sampling
        from tagpr.training.rollout import derived_seed

        tokenizer, context, options = self.context.tokenizer, self.context, self.options
        ends = end_token_ids(tokenizer, self.backbone.model)
        pad = tokenizer.pad_token_id if isinstance(tokenizer.pad_token_id, int) else 0
        dropped = {*ends, pad}
        rounds = 0

        def encode(text: str) -> list[int]:
            return tokenizer(text, add_special_tokens=False)["input_ids"]

        def decode(ids: Sequence[int]) -> str:
            return decode_ids(tokenizer, ids, ends)

        def draw(rows: list[int], written: list[list[int]], most: int) -> list[tuple[list[int], bool]]:
            nonlocal rounds
            asked = [[*prompts[row], *ids] for row, ids in zip(rows, written, strict=True)]
            drawn = generate(
                self.backbone.model,
                asked,
                Sampling(most, temperature=options.temperature, seed=derived_seed(context.seed, rounds)),
                end_ids=ends,
                pad_id=pad,
                batch_size=context.decoding.generation_batch_size,
                progress=context.progress,
            )
            rounds += 1
            self.cost.prompt_tokens += sum(map(len, asked))
            self.cost.completion_tokens += sum(len(own[0].token_ids) for own in drawn)
            return [([t for t in own[0].token_ids if t not in dropped], own[0].finished) for own in drawn]

        opened = think_opening(tokenizer) is not None
        answer = context.decoding.answer_tokens
        return follow(draw, len(prompts), encode, decode, options.part_tokens, answer, opened)

    def _synthesise(self, asked: Sequence[tuple[Example, list[str]]]) -> list[str]:
        """One answer for each example from its drafts."""
        plain = self.context.prompts(False)
        ids = []
        for example, drafts in asked:
            prompt = plain.build(self.context.tasks[example.task], example)
            listed = "\n".join(f"{n}. {escape(draft)}" for n, draft in enumerate(drafts, 1))
            user = dict(prompt.messages[-1])
            user["content"] += (
                f"\n\nDrafts of the answer:\n{listed}\n\nWrite the one answer these drafts agree on most."
            )
            ids.append(prompt_ids(replace(prompt, messages=[*prompt.messages[:-1], user]), self.context.tokenizer))
        if not ids:
            return []
        written = self.backbone.write(ids, self.context.decoding.answer_tokens, temperature=0.0)
        return [own[0].parse(self.context.vocabulary).answer for own in written]

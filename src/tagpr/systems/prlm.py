"""PrLM (Zhang et al., arXiv 2508.07342): a contrastive reward model, then GRPO on reasoning answers.

As the source has it: the reward model (BERT, its pooler to one number) reads question and answer without the profile
and is taught to prefer answers made with the profile to zero-shot ones; then GRPO from the untrained model with
R = (ROUGE-1 + ROUGE-2 + ROUGE-L) + 0.1 format + 0.1 sigma(reward model), 500 prompts, 4 completions per prompt,
learning rate 1e-6, 5 epochs, temperature 0.7. Rewards are in `prlm_reward`; the loop is the stages' own (`train_gspo`)
with token ratios instead of sequence ratios.

Left open there, chosen here:
- The pairs are direct answers of the untrained model, with and without history; a pair of equal answers says nothing
  and is left out, a tenth of the questions is kept to measure the reward model (`pairs.json`).
- Choices, labels and ratings, for which the source has no reward: three times R_v in the ROUGE sum's place.
- Format is R_f: one `<think>` block, one answer. Clip range 0.2, no KL term. The prompt is RAG-R's, tags included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tagpr.errors import RunError
from tagpr.files import read_json, write_json
from tagpr.prmu.questions import choose_examples
from tagpr.profiles.retrieval import query_of
from tagpr.systems.backbone import Backbone
from tagpr.systems.fit_settings import PrLMOptions
from tagpr.systems.prompted import RAGR
from tagpr.tasks.types import Example

if TYPE_CHECKING:
    from tagpr.systems.prlm_reward import AnswerPair, ContrastiveReward


class PrLM(RAGR[PrLMOptions]):
    """Trains its own reward model and a copy of the backbone."""

    depends = ("decoding",)  # what it learns from is written with the run's decoding
    Options = PrLMOptions

    @cached_property
    def backbone(self) -> Backbone:
        """The trained policy."""
        return Backbone(self.context, self.cost, self.context.folder / "policy" / "model")

    def fit(self, train: Sequence[Example]) -> None:
        """Draw pairs, fit the reward model, train the policy; each is kept once it is there."""
        by_task: dict[str, list[Example]] = {}
        for example in train:
            by_task.setdefault(example.task, []).append(example)
        chosen = choose_examples(by_task, self.options.prompts, self.context.seed)
        self.once("pairs", lambda work: self._draw(chosen, work))
        self.once("reward", self._fit_reward)
        self.once("policy", lambda work: self._train(chosen, work))

    def _draw(self, examples: Sequence[Example], work: Path) -> None:
        """Direct answers of the untrained model with and without the profile, in pairs."""
        context, options = self.context, self.options
        prompts, untrained = context.prompts(False), Backbone(context, self.cost)
        answers: dict[bool, list[list[str]]] = {}
        for shown in (True, False):
            ids = [prompts.ids(context.tasks[e.task], e, with_profile=shown) for e in examples]
            limit, count = context.decoding.answer_tokens, options.pairs_per_prompt
            drawn = untrained.write(ids, limit, count, options.pair_temperature)
            answers[shown] = [[one.parse(context.vocabulary).answer for one in own] for own in drawn]
        rows = []
        for number, example in enumerate(examples):
            asked = query_of(context.tasks[example.task], example)
            for a, b in zip(answers[True][number], answers[False][number], strict=True):
                if a and b and a != b:
                    rows.append({"question": asked, "with_profile": a, "without": b, "heldout": number % 10 == 9})
        write_json(work / "pairs.json", rows)

    def _reward(self, pairs: Sequence[AnswerPair]) -> ContrastiveReward:
        import torch

        from tagpr.systems.encoders import TextEncoder
        from tagpr.systems.prlm_reward import ContrastiveReward

        options = self.options
        device = "cuda" if torch.cuda.is_available() else "cpu"
        encoder = TextEncoder(options.encoder, options.encoder_tokens, "systems: prlm: encoder", device)
        return ContrastiveReward(encoder, pairs, self.context.seed).eval()

    def _fit_reward(self, work: Path) -> None:
        from tagpr.systems.fitting import fit_module
        from tagpr.systems.prlm_reward import AnswerPair

        rows = read_json(self.context.folder / "pairs" / "pairs.json")
        kept = {
            held: [AnswerPair(r["question"], r["with_profile"], r["without"]) for r in rows if r["heldout"] is held]
            for held in (True, False)
        }
        if not kept[False]:
            raise RunError(
                "prlm: no pair to learn from: with and without history the model answers the same, or nothing; raise "
                "systems: prlm: pair_temperature or prompts"
            )
        model = self._reward(kept[False])
        fit = self.options.fit
        self.cost.trained_parameters += fit_module(model, len(kept[False]), fit, self.context.work(work))
        pairs = [asdict(pair) for pair in kept[False]]
        for side in ("with_profile", "without"):
            tokens = model.encoder.tokens([p["question"] for p in pairs], [p[side] for p in pairs])
            self.cost.trained_tokens += round(int(tokens["attention_mask"].sum()) * fit.epochs)
        accuracy = model.accuracy(kept[True]) if kept[True] else None
        write_json(work / "pairs.json", {"train": len(pairs), "heldout": len(kept[True]), "heldout_accuracy": accuracy})

    def _train(self, examples: Sequence[Example], work: Path) -> None:
        from tagpr.systems.fitting import load_trained
        from tagpr.systems.prlm_reward import PrLMReward
        from tagpr.systems.rows import training_row
        from tagpr.training.gspo import train_gspo
        from tagpr.training.gspo_objective import grpo_loss
        from tagpr.training.job import RLJob

        context, options = self.context, self.options
        model = self._reward([])
        load_trained(model, context.folder / "reward" / "trained.safetensors")
        rows, questions = [], {}
        for example in examples:
            task = context.tasks[example.task]
            row = training_row(self.prompts, task, example)
            questions[tuple(row.prompt_ids)] = query_of(task, example)
            rows.append(row)
        reward = PrLMReward(
            context.tasks, context.vocabulary, questions, model.score, options.format_weight, options.personal_weight
        )
        settings = options.grpo
        if settings.max_new_tokens is None:
            settings = settings.model_copy(update={"max_new_tokens": context.decoding.max_new_tokens})
        job = RLJob(context.model, rows, reward, settings, context.work(work), objective=grpo_loss)
        metrics = train_gspo(job)
        self.cost.trained_parameters += metrics.trained_parameters
        self.cost.trained_tokens += metrics.trained_tokens
        self.cost.completion_tokens += metrics.completion_tokens

"""HYDRA-Adapter (Zhuang et al., NeurIPS 2024), the adapter half of HYDRA: choose among a black box's candidates.

As the source has it: 8 candidates per question at temperature 1 from the unchanged language model, with the history in
the prompt; a scorer (Longformer-base by default) with a shared base and one head per user; label 1 iff the candidate is
right, for texts iff its score is above the candidates' mean; cross-entropy, learning rate 2e-5, batch 64, 2 epochs; for
a user not seen in training a new head on candidates for their own past questions, the base frozen; answer = argmax.

Left open there, chosen here:
- Heads have a learning rate of their own: one sees a few candidates while the base sees every user's.
- A new head starts as the mean of the trained ones. Past items are made into questions as far as they hold an answer
  (`past_questions`); if they do not (LaMP-1, LaMP-7), and for users without history, the mean head scores.
- A rating is right if it is exactly the user's. Equal candidates are judged once.
- The reranker half of HYDRA is left out as in the paper's table, so that every system reads the same history.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tagpr.files import read_json, write_json
from tagpr.profiles.past import past_questions
from tagpr.profiles.retrieval import query_of
from tagpr.systems.backbone import Backbone
from tagpr.systems.fit_settings import HydraOptions
from tagpr.systems.protocol import Answer, System
from tagpr.tasks.metrics import correctness
from tagpr.tasks.types import Example, Kind, Task

if TYPE_CHECKING:
    from torch import Tensor

    from tagpr.systems.hydra_scorer import HydraScorer, Judged


def judge(task: Task, candidates: Sequence[str], target: str) -> list[bool]:
    """Which candidates are right; for texts, whose correctness is above the candidates' mean."""
    scores = [correctness(task, candidate, target) for candidate in candidates]
    if task.kind is Kind.TEXT:
        mean = sum(scores) / len(scores)
        return [score > mean for score in scores]
    return [score == 1 for score in scores]


class HydraAdapter(System[HydraOptions]):
    """Trains the scorer and heads, never the language model."""

    depends = ("decoding",)  # the candidates it learns from are written with the run's decoding
    Options = HydraOptions
    CHUNK = 64
    """Questions whose candidates are kept together on disk."""

    @cached_property
    def backbone(self) -> Backbone:
        """The frozen model that draws candidates."""
        return Backbone(self.context, self.cost)

    def candidates(self, examples: Sequence[Example]) -> list[list[str]]:
        """Distinct candidate answers of each example, in the order of sampling; drawn once, then read from disk."""
        prompts, options = self.context.prompts(False), self.options
        ids = [prompts.ids(self.context.tasks[e.task], e) for e in examples]
        found: list[list[str]] = []
        for start in range(0, len(ids), self.CHUNK):
            part = ids[start : start + self.CHUNK]
            how = (options.candidates, options.temperature, self.context.decoding.answer_tokens, self.context.seed)
            key = hashlib.blake2b(repr((part, how)).encode(), digest_size=8).hexdigest()
            folder = self.once(f"candidates-{key}", lambda work, part=part: self._draw(part, work))
            found += read_json(folder / "candidates.json")
        return found

    def _draw(self, ids: list[list[int]], work: Path) -> None:
        options = self.options
        limit = self.context.decoding.answer_tokens
        drawn = self.backbone.write(ids, limit, options.candidates, options.temperature)
        vocabulary = self.context.vocabulary
        rows = [list(dict.fromkeys(one.parse(vocabulary).answer for one in own)) for own in drawn]
        write_json(work / "candidates.json", rows)

    def judged(self, examples: Sequence[Example]) -> list[list[Judged]]:
        """The candidates of each example with their labels."""
        from tagpr.systems.hydra_scorer import Judged

        rows = []
        for example, candidates in zip(examples, self.candidates(examples), strict=True):
            task = self.context.tasks[example.task]
            right = judge(task, candidates, example.target or "")
            asked = query_of(task, example)
            rows.append([Judged(example.user_id, asked, c, r) for c, r in zip(candidates, right, strict=True)])
        return rows

    def _scorer(self, users: Sequence[str], judged: Sequence[Judged]) -> HydraScorer:
        import torch

        from tagpr.systems.encoders import TextEncoder
        from tagpr.systems.hydra_scorer import HydraScorer

        options = self.options
        device = "cuda" if torch.cuda.is_available() else "cpu"
        encoder = TextEncoder(options.encoder, options.encoder_tokens, "systems: hydra-adapter: encoder", device)
        return HydraScorer(encoder, users, judged, self.context.seed).eval()

    def fit(self, train: Sequence[Example]) -> None:
        """Draw and judge candidates for the training questions, fit base and heads."""
        from tagpr.prmu.optimizer import RowAdamW
        from tagpr.systems.fitting import fit_module, load_trained

        def make(work: Path) -> None:
            options = self.options.fit
            judged = [row for rows in self.judged(train) for row in rows]
            scorer = self._scorer(users, judged)
            base = [parameter for parameter in scorer.base.parameters() if parameter.requires_grad]
            heads = {"params": [scorer.heads], "lr": self.options.head_learning_rate, "rows": True}
            self.cost.trained_parameters += fit_module(
                scorer,
                len(judged),
                options,
                self.context.work(work),
                groups=[{"params": base}, heads],
                optimizer=RowAdamW,
            )
            tokens = scorer.base.tokens([j.question for j in judged], [j.candidate for j in judged])
            self.cost.trained_tokens += round(int(tokens["attention_mask"].sum()) * options.epochs)

        users = [example.user_id for example in train]
        folder = self.once("scorer", make)
        self.scorer = self._scorer(users, [])
        load_trained(self.scorer, folder / "trained.safetensors")

    def heads(self, examples: Sequence[Example]) -> list[Tensor]:
        """The head for each example: its user's own if training met the user, else one fitted on the example's past.

        Examples with the same past share a head, so that it makes no difference which are scored together.
        """
        from tagpr.systems.hydra_scorer import fit_head

        options = self.options
        pasts: dict[Any, list[Example]] = {}
        keys = []
        for example in examples:
            past = []
            if example.user_id not in self.scorer.rows:
                task = self.context.tasks[example.task]
                past = past_questions(task, example.user_id, example.profile, options.history)
            keys.append((example.user_id, tuple((q.input, q.target, q.date, len(q.profile)) for q in past)))
            pasts.setdefault(keys[-1], past)
        judged = iter(self.judged([question for past in pasts.values() for question in past]))
        heads = {}
        for key, past in pasts.items():
            heads[key] = self.scorer.head(key[0])
            rows = [row for _ in past for row in next(judged)]
            right = [row.right for row in rows]
            if len(set(right)) == 2:  # all right or all wrong: nothing to tell candidates apart by
                states = self.scorer.states([row.question for row in rows], [row.candidate for row in rows])
                rate, decay = options.head_learning_rate, options.fit.weight_decay
                heads[key] = fit_head(self.scorer, states, right, options.new_head_steps, rate, decay)
        return [heads[key] for key in keys]

    def predict(self, examples: Sequence[Example]) -> list[Answer]:
        """The candidate that the user's head likes best; the first drawn among equals."""
        asked = [replace(example, target=None) for example in examples]
        heads = self.heads(asked)
        answers = []
        for example, head, candidates in zip(asked, heads, self.candidates(asked), strict=True):
            question = query_of(self.context.tasks[example.task], example)
            states = self.scorer.states([question] * len(candidates), candidates)
            answers.append(Answer(candidates[int(self.scorer.scores(head, states).argmax())]))
        return answers

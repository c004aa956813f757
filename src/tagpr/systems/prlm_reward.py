"""PrLM's two rewards: the contrastive reward model, which never sees a profile, and the sum that RL maximises.

f(q, y) = w . pooler(encoder(q, y)) + b
loss    = -log sigma(f(q, y_with) - f(q, y_without)),  y_with made with the profile, y_without without it
R       = (ROUGE-1 + ROUGE-2 + ROUGE-L) + 0.1 format + 0.1 sigma(f(q, y))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from tagpr.chains.grammar import parse_response
from tagpr.chains.vocabulary import Vocabulary
from tagpr.rewards.format import format_reward
from tagpr.systems.encoders import TextEncoder
from tagpr.tasks.answers import normalise_answer
from tagpr.tasks.metrics import correctness
from tagpr.tasks.rouge import rouge, rouge2
from tagpr.tasks.types import Kind, Task


@dataclass(frozen=True)
class AnswerPair:
    """Two answers to one question; the one made with the profile is preferred."""

    question: str
    with_profile: str
    without: str


class ContrastiveReward(nn.Module):
    """The reward model over training pairs; maps their numbers to the mean contrastive loss."""

    def __init__(self, encoder: TextEncoder, pairs: Sequence[AnswerPair], seed: int) -> None:
        super().__init__()
        self.encoder, self.pairs = encoder, pairs
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = nn.Linear(encoder.width, 1)
        self.to(encoder.model.device)

    def logits(self, questions: Sequence[str], answers: Sequence[str]) -> Tensor:
        """f(q, y) of each pair, (N,)."""
        return self.head(self.encoder.pooled(self.encoder.tokens(questions, answers))).squeeze(-1)

    def forward(self, index: Tensor) -> Tensor:
        """Mean contrastive loss of the pairs with these numbers."""
        pairs = [self.pairs[i] for i in index.tolist()]
        answers = [pair.with_profile for pair in pairs] + [pair.without for pair in pairs]
        chosen, rejected = self.logits([pair.question for pair in pairs] * 2, answers).chunk(2)
        return -logsigmoid(chosen - rejected).mean()

    @torch.no_grad()
    def score(self, questions: Sequence[str], answers: Sequence[str], batch_size: int = 64) -> list[float]:
        """sigma(f(q, y)) in (0, 1) of each pair."""
        self.eval()
        parts = [slice(start, start + batch_size) for start in range(0, len(questions), batch_size)]
        return [value for part in parts for value in self.logits(questions[part], answers[part]).sigmoid().tolist()]

    def accuracy(self, pairs: Sequence[AnswerPair]) -> float:
        """Share of pairs whose answer made with the profile has the higher score; a tie counts half."""
        asked = [pair.question for pair in pairs]
        ahead = self.score(asked, [pair.with_profile for pair in pairs])
        behind = self.score(asked, [pair.without for pair in pairs])
        return sum((a > b) + 0.5 * (a == b) for a, b in zip(ahead, behind, strict=True)) / len(pairs)


class PrLMReward:
    """R of a rollout, with its parts, for `train_gspo`. `questions`: what the reward model reads, by prompt ids."""

    def __init__(
        self,
        tasks: Mapping[str, Task],
        vocabulary: Vocabulary,
        questions: Mapping[tuple[int, ...], str],
        personal: Callable[[Sequence[str], Sequence[str]], Sequence[float]],
        format_weight: float = 0.1,
        personal_weight: float = 0.1,
    ) -> None:
        self.tasks, self.vocabulary, self.questions, self.personal = tasks, vocabulary, questions, personal
        self.format_weight, self.personal_weight = format_weight, personal_weight

    def components(
        self,
        completions: Sequence[str],
        task: Sequence[str],
        target: Sequence[str | None],
        prompt_ids: Sequence[Sequence[int]],
        **_: object,
    ) -> list[dict[str, float]]:
        """The parts of each completion's reward and their sum `reward`. No answer: no quality, no personal reward."""
        responses = [parse_response(text, self.vocabulary) for text in completions]
        asked = [self.questions[tuple(ids)] for ids in prompt_ids]
        personal = self.personal(asked, [response.answer for response in responses])
        rows = []
        for response, name, reference, value in zip(responses, task, target, personal, strict=True):
            parts = {
                "quality": quality(self.tasks[name], response.answer, reference or ""),
                "format": format_reward(response),
                "personal": value if response.answer else 0.0,
            }
            total = parts["quality"] + self.format_weight * parts["format"] + self.personal_weight * parts["personal"]
            rows.append({"reward": total, **parts})
        return rows

    def __call__(
        self,
        prompts: Sequence[Sequence[int]],
        completions: Sequence[str],
        *,
        task: Sequence[str],
        target: Sequence[str | None],
        prompt_ids: Sequence[Sequence[int]] = (),
        **_: object,
    ) -> list[float]:
        """The sums alone (TRL's protocol)."""
        rows = self.components(completions, task, target, prompt_ids or prompts)
        return [row["reward"] for row in rows]


def quality(task: Task, answer: str, target: str) -> float:
    """ROUGE-1 + ROUGE-2 + ROUGE-L in [0, 3]; of the other kinds three times `correctness`, on the same scale."""
    if task.kind is not Kind.TEXT:
        return 3 * correctness(task, answer, target)
    answer, target = normalise_answer(task, answer), normalise_answer(task, target)
    rouge1, rouge_l = rouge(answer, target, task.rouge_tokens)
    return rouge1 + rouge2(answer, target, task.rouge_tokens) + rouge_l

"""HYDRA-Adapter's scorer: a shared base and one head per user over (question, candidate); fitting a new user's head.

    z   = CLS(encoder(question, candidate))              shared base
    l_u = W2_u tanh(W1_u z + b1_u) + b2_u  in R^2        head of user u (dense-tanh-out)
    loss: cross-entropy of l_u with 1 iff the candidate is right;  score: l_u[1] - l_u[0]

All heads start from the same weights, lie in one matrix (a row per user) and only rows used in a step move, so heads
are independent of each other. A user without a row is scored by the mean of the heads until one is fitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tagpr.systems.encoders import TextEncoder


@dataclass(frozen=True)
class Judged:
    """One candidate answer of one user's question and whether it is right."""

    user_id: str
    question: str
    candidate: str
    right: bool


class HydraScorer(nn.Module):
    """The scorer over training candidates; maps their numbers to the mean cross-entropy."""

    def __init__(self, encoder: TextEncoder, users: Sequence[str], judged: Sequence[Judged], seed: int) -> None:
        super().__init__()
        self.base, self.judged = encoder, judged
        self.rows = {user: row for row, user in enumerate(sorted(set(users)))}
        for name, parameter in self.base.named_parameters():
            parameter.requires_grad_("pooler" not in name)  # the head is in the pooler's place
        width = encoder.width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            start = torch.cat([torch.randn(width * width) * 0.02, torch.zeros(width)])
            start = torch.cat([start, torch.randn(2 * width) * 0.02, torch.zeros(2)])
        self.heads = nn.Parameter(start.repeat(max(1, len(self.rows)), 1))  # (users, width² + width + 2 width + 2)
        self.to(encoder.model.device)

    def logits(self, states: Tensor, heads: Tensor) -> Tensor:
        """states z (N, width), heads (N, size) -> (N, 2)."""
        width = states.shape[1]
        w1, b1, w2, b2 = heads.split([width * width, width, 2 * width, 2], dim=1)
        hidden = torch.tanh(torch.einsum("nij,nj->ni", w1.view(-1, width, width), states) + b1)
        return torch.einsum("nkj,nj->nk", w2.view(-1, 2, width), hidden) + b2

    def forward(self, index: Tensor) -> Tensor:
        """Mean cross-entropy of the candidates with these numbers."""
        judged = [self.judged[i] for i in index.tolist()]
        states = self.base(self.base.tokens([j.question for j in judged], [j.candidate for j in judged]))
        rows = torch.tensor([self.rows[j.user_id] for j in judged], device=states.device)
        right = torch.tensor([int(j.right) for j in judged], device=states.device)
        return F.cross_entropy(self.logits(states, self.heads[rows]), right)

    @torch.no_grad()
    def states(self, questions: Sequence[str], candidates: Sequence[str], batch_size: int = 32) -> Tensor:
        """z of each pair, (N, width), without gradient or dropout."""
        self.eval()
        pairs = list(zip(questions, candidates, strict=True))
        order = sorted(range(len(pairs)), key=lambda i: (-len(pairs[i][0]) - len(pairs[i][1]), i))
        rows: list[Tensor] = [torch.empty(0)] * len(pairs)
        for start in range(0, len(order), batch_size):
            part = order[start : start + batch_size]
            found = self.base(self.base.tokens([pairs[i][0] for i in part], [pairs[i][1] for i in part]))
            for i, row in zip(part, found, strict=True):
                rows[i] = row
        return torch.stack(rows) if rows else torch.empty(0, self.base.width, device=self.heads.device)

    def head(self, user_id: str) -> Tensor:
        """The head of a user, (size,): a copy of their own, or the mean of all for a user without one."""
        row = self.rows.get(user_id)
        return (self.heads.mean(0) if row is None else self.heads[row]).detach().clone()

    @torch.no_grad()
    def scores(self, head: Tensor, states: Tensor) -> Tensor:
        """How much more right than wrong each candidate is, (N,)."""
        logits = self.logits(states, head.expand(len(states), -1))
        return logits[:, 1] - logits[:, 0]


def fit_head(
    scorer: HydraScorer, states: Tensor, right: Sequence[bool], steps: int, learning_rate: float, weight_decay: float
) -> Tensor:
    """A head for one new user on their judged candidates' states (N, width), from the mean head on, (size,).

    The base only gave the states and no other head takes part, so nothing of the scorer changes.
    """
    head = scorer.head("").requires_grad_(True)  # no user has an empty id: the mean head
    optimizer = torch.optim.AdamW([head], lr=learning_rate, weight_decay=weight_decay)
    target = torch.tensor([int(value) for value in right], device=states.device)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(scorer.logits(states.detach(), head.expand(len(states), -1)), target).backward()
        optimizer.step()
    return head.detach()

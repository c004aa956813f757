"""What the reward model knows about a user: E, one row o_u each, and the generic e_0 (e_u = e_0 + o_u).

Besides vectors in the input, e_u may be weights of what all users share: of a low-rank basis of rewards (`BasisHead`)
or, through a softmax, of a few prototype users (`PrototypeHead`). There a new user has only r or K numbers to fit.

There is deliberately no option that adds e_u to the pooled state in front of a *linear* head: w·(h + e_u) differs from
w·h by a constant of the user, the same on both sides of a pair and for every rollout of a group, so that E would get no
gradient and have no effect (`tests/test_prmu_model.py` shows it).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class UserEmbedding(nn.Module):
    """e_u = e_0 + o_u, entries of unit scale; a negative row is the generic user, o_u = 0.

    In training o_u is dropped for a row of the batch with probability `dropout`, so that e_0 alone also works.
    New rows start at o_u = 0: a user never seen in training *is* the generic user until fitted.
    """

    def __init__(self, users: int, size: int, dropout: float) -> None:
        super().__init__()
        self.generic = nn.Parameter(torch.empty(size).normal_())
        self.offsets = nn.Parameter(torch.zeros(users, size))
        self.dropout = dropout

    def forward(self, user_rows: Tensor) -> Tensor:
        """user_rows [B] -> e_u [B, size]."""
        known = user_rows >= 0
        if self.training and self.dropout:
            known = known & (torch.rand(user_rows.shape, device=user_rows.device) >= self.dropout)
        if not len(self.offsets):
            return self.generic.expand(len(user_rows), -1)
        offsets = self.offsets[user_rows.clamp(min=0)]  # [B, size]
        return self.generic + offsets * known[:, None]


class HistoryEncoder(nn.Module):
    """g: attention of learned queries over frozen encodings of the user's past items, then an MLP.

    Encodings are standardised by the training users' mean and scale (buffers), because averaged token embeddings share
    a large common part that would drown what is personal.
    """

    def __init__(self, input_size: int, size: int, queries: int = 4, hidden: int = 128) -> None:
        super().__init__()
        self.mean = nn.Buffer(torch.zeros(input_size))
        self.scale = nn.Buffer(torch.ones(()))
        self.key = nn.Linear(input_size, hidden)
        self.value = nn.Linear(input_size, hidden)
        self.query = nn.Parameter(torch.randn(queries, hidden) / hidden**0.5)
        self.out = nn.Sequential(nn.Linear(queries * hidden, 2 * hidden), nn.GELU(), nn.Linear(2 * hidden, size))

    def forward(self, history: Tensor, mask: Tensor) -> Tensor:
        """history [B, n, d], mask [B, n] -> [B, size]; a user without any item gets zeros."""
        items = (history - self.mean) / self.scale
        scores = torch.einsum("qh,bnh->bqn", self.query, self.key(items))  # [B, Q, n]
        scores = scores.masked_fill(~mask[:, None], torch.finfo(scores.dtype).min)
        pooled = torch.einsum("bqn,bnh->bqh", scores.softmax(-1), self.value(items)).flatten(1)  # [B, Q*h]
        return self.out(pooled) * mask.any(-1, keepdim=True)


class BasisHead(nn.Module):
    """f = e_u . (B h) / sqrt(r): r reward functions that all users share, weighted by the user (LoRe, 2504.14439).

    LoRe keeps the weights in a simplex; here they are free, so that a user may dislike what another one likes.
    """

    def __init__(self, size: int, rank: int) -> None:
        super().__init__()
        self.basis = nn.Linear(size, rank, bias=False)  # B, [r, d]

    def forward(self, pooled: Tensor, users: Tensor) -> Tensor:
        """pooled h [N, d], users e_u [N, r] -> f [N]."""
        return (users * self.basis(pooled)).sum(-1) / users.shape[-1] ** 0.5


class PrototypeHead(nn.Module):
    """f = -|W h - sum_k softmax(e_u)_k p_k|^2 / sqrt(d): nearness to the user's ideal point (PAL, 2406.08469).

    The ideal point is a convex mixture of K prototypes p_k that all users share.
    """

    def __init__(self, size: int, prototypes: int) -> None:
        super().__init__()
        self.project = nn.Linear(size, size, bias=False)  # W
        self.prototypes = nn.Parameter(torch.randn(prototypes, size))  # p_k, [K, d]

    def forward(self, pooled: Tensor, users: Tensor) -> Tensor:
        """pooled h [N, d], users e_u [N, K] -> f [N]."""
        ideal = users.softmax(-1) @ self.prototypes  # [N, d]
        return -(self.project(pooled) - ideal).pow(2).sum(-1) / pooled.shape[-1] ** 0.5

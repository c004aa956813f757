"""Eq. 10, GSPO's objective, and GRPO's, as pure functions: group advantages, importance ratios, the clipped loss.

    s_i(theta) = (pi_theta(y_i | x) / pi_old(y_i | x))^(1 / |y_i|)
    J_GSPO     = E[ 1/G sum_i min(s_i(theta) A_i, clip(s_i(theta), 1 - epsilon_low, 1 + epsilon_high) A_i) ]   (eq. 10)
    A_i        = (R_i - mean(R_1..R_G)) / std(R_1..R_G)
    r_it       = pi_theta(y_it | x, y_i<t) / pi_old(y_it | x, y_i<t)
    J_GRPO     = E[ 1/G sum_i 1/|y_i| sum_t min(r_it A_i, clip(r_it, 1 - epsilon_low, 1 + epsilon_high) A_i) ]

Shapes: B groups of G completions; N = B G completions of C_i tokens. Nothing here knows models or tokens. The stages
train with GSPO; GRPO is for comparison (`tagpr.systems.prlm`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def group_advantages(rewards_BG: Tensor, epsilon: float = 1e-4, deviation: float | None = None) -> Tensor:
    """(B, G) rewards to advantages: minus the group's mean, over its standard deviation (unbiased) + epsilon.

    `deviation` takes the place of every group's own: with the whole batch's, a group whose rewards differ by a hair
    weighs a hair. A group whose rewards are all equal gets exact zeros.
    """
    mean = rewards_BG.mean(1, keepdim=True)
    scale = rewards_BG.std(1, keepdim=True) if deviation is None else deviation
    same = (rewards_BG == rewards_BG[:, :1]).all(1, keepdim=True)
    return torch.where(same, torch.zeros_like(rewards_BG), (rewards_BG - mean) / (scale + epsilon))


@dataclass(frozen=True)
class SequenceLoss:
    """Per completion: its loss (with gradient), its ratio s_i (GRPO: mean of r_it), and how much of it is clipped."""

    loss: Tensor  # (N,)
    ratio: Tensor  # (N,), no gradient
    clipped: Tensor  # (N,) the share of its tokens whose gradient clipping took: 0 or 1 with GSPO
    outside: Tensor  # (N,) the share of its ratios outside the clip range, on whichever side: 0 or 1 with GSPO


Objective = Callable[[Sequence[Tensor], Sequence[Tensor], Tensor, float, float], SequenceLoss]
"""(log-probs, old log-probs, advantages, epsilon_low, epsilon_high) -> the loss of each completion."""


def gspo_loss(
    logps: Sequence[Tensor],
    old_logps: Sequence[Tensor],
    advantages: Tensor,
    epsilon_low: float,
    epsilon_high: float,
) -> SequenceLoss:
    """Eq. 10: minus the clipped objective of each completion; average it over all completions of the minibatch.

    logps, old_logps: per completion (C_i,) log-probabilities of its tokens; advantages (N,).
    """
    log_ratio = torch.stack([(new - old).mean() for new, old in zip(logps, old_logps, strict=True)])
    ratio = torch.exp(log_ratio)
    bounded = ratio.clamp(1 - epsilon_low, 1 + epsilon_high)
    loss = -torch.minimum(ratio * advantages, bounded * advantages)
    with torch.no_grad():
        too_high = (ratio > 1 + epsilon_high) & (advantages > 0)
        too_low = (ratio < 1 - epsilon_low) & (advantages < 0)
        outside = (ratio > 1 + epsilon_high) | (ratio < 1 - epsilon_low)
    return SequenceLoss(loss, ratio.detach(), (too_high | too_low).float(), outside.float())


def grpo_loss(
    logps: Sequence[Tensor],
    old_logps: Sequence[Tensor],
    advantages: Tensor,
    epsilon_low: float,
    epsilon_high: float,
) -> SequenceLoss:
    """Minus GRPO's clipped objective of each completion, the mean over its tokens; without a KL term.

    logps, old_logps: per completion (C_i,) log-probabilities of its tokens; advantages (N,).
    """
    losses, ratios, clipped, outside = [], [], [], []
    for new, old, advantage in zip(logps, old_logps, advantages, strict=True):
        ratio = torch.exp(new - old)  # (C_i,)
        bounded = ratio.clamp(1 - epsilon_low, 1 + epsilon_high)
        losses.append(-torch.minimum(ratio * advantage, bounded * advantage).mean())
        with torch.no_grad():
            over = (ratio > 1 + epsilon_high) & (advantage > 0) | (ratio < 1 - epsilon_low) & (advantage < 0)
            clipped.append(over.float().mean())
            outside.append(((ratio > 1 + epsilon_high) | (ratio < 1 - epsilon_low)).float().mean())
            ratios.append(ratio.mean())
    return SequenceLoss(torch.stack(losses), torch.stack(ratios), torch.stack(clipped), torch.stack(outside))

"""GSPO's objective as pure functions: group advantages, sequence ratios, the clipped loss.

    s_i = (pi(y_i | x) / pi_old(y_i | x))^(1 / |y_i|)
    J   = E[ 1/G sum_i min(s_i A_i, clip(s_i, 1 - eps_low, 1 + eps_high) A_i) ]

A_i is the reward standardised within its group of G. Nothing here knows models or tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def group_advantages(rewards_BG: Tensor, epsilon: float = 1e-4) -> Tensor:
    """(B, G) rewards to advantages: minus the group's mean, over its standard deviation (unbiased) + epsilon.

    A group whose rewards are all equal gets exact zeros.
    """
    mean = rewards_BG.mean(1, keepdim=True)
    deviation = rewards_BG.std(1, keepdim=True)
    same = (rewards_BG == rewards_BG[:, :1]).all(1, keepdim=True)
    return torch.where(same, torch.zeros_like(rewards_BG), (rewards_BG - mean) / (deviation + epsilon))


@dataclass(frozen=True)
class SequenceLoss:
    """Per completion: its loss (with gradient), its ratio s_i, and whether clipping took its gradient."""

    loss: Tensor  # (N,)
    ratio: Tensor  # (N,), no gradient
    clipped: Tensor  # (N,) bool


def gspo_loss(
    logps: Sequence[Tensor],
    old_logps: Sequence[Tensor],
    advantages: Tensor,
    epsilon_low: float,
    epsilon_high: float,
) -> SequenceLoss:
    """Minus the clipped objective of each completion; average it over all completions of the minibatch.

    logps, old_logps: per completion (C_i,) log-probabilities of its tokens; advantages (N,).
    """
    log_ratio = torch.stack([(new - old).mean() for new, old in zip(logps, old_logps, strict=True)])
    ratio = torch.exp(log_ratio)
    bounded = ratio.clamp(1 - epsilon_low, 1 + epsilon_high)
    loss = -torch.minimum(ratio * advantages, bounded * advantages)
    with torch.no_grad():
        too_high = (ratio > 1 + epsilon_high) & (advantages > 0)
        too_low = (ratio < 1 - epsilon_low) & (advantages < 0)
    return SequenceLoss(loss, ratio.detach(), too_high | too_low)

"""Advantages of one rollout as the settings want them: over which deviation, and of which groups."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tagpr.training.gspo_objective import group_advantages
from tagpr.training.launching import summed
from tagpr.training.rollout import Rollout
from tagpr.training.settings import GSPOSettings


def rollout_advantages(rollout: Rollout, chosen: Sequence[int], settings: GSPOSettings, world: int) -> Tensor:
    """(groups, G) advantages of this process's groups, of which `chosen` are learned from.

    0 for groups that are not learned from and for cut-off completions left out.
    """
    rewards = torch.tensor(rollout.rewards, dtype=torch.float64)
    deviation = _deviation(rewards[list(chosen)], world) if settings.scale_rewards == "batch" else None
    advantages = group_advantages(rewards, deviation=deviation).float()
    counted = torch.tensor([[c.finished or settings.truncated == "penalise" for c in g] for g in rollout.completions])
    advantages = advantages * counted
    if settings.groups == "verifiable":
        differs = rollout.differs("verifiable")
        learned = torch.tensor([g in chosen and differs[g] for g in range(len(differs))])
        advantages = advantages * learned[:, None]
    return advantages


def _deviation(rewards: Tensor, world: int) -> float:
    """Standard deviation (unbiased) of the step's rewards over all processes."""
    count = summed(float(rewards.numel()), world)
    mean = summed(rewards.sum().item(), world) / count
    return math.sqrt(summed((rewards - mean).square().sum().item(), world) / (count - 1))

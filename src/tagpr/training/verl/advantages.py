"""The group advantages of `gspo_objective` as an estimator of verl, `algorithm.adv_estimator=tagpr`.

verl's own `grpo` computes in float32 and adds 1e-6 to the deviation; ours computes in float64 and adds 1e-4.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from verl.trainer.ppo.core_algos import register_adv_est  # pyright: ignore[reportMissingImports]  # verl's environment

from tagpr.training.gspo_objective import group_advantages


@register_adv_est("tagpr")
def grouped(
    token_level_rewards: Tensor, response_mask: Tensor, index: Sequence[str], **_: object
) -> tuple[Tensor, Tensor]:
    """(advantages, returns), both (N, T): each completion's advantage within the group that shares its `index`.

    token_level_rewards (N, T): a completion's reward stands at its last token. response_mask (N, T).
    """
    rewards_N = token_level_rewards.double().sum(1)
    members: dict[str, list[int]] = {}
    for place, group in enumerate(index):
        members.setdefault(group, []).append(place)
    advantages_N = torch.zeros_like(rewards_N)
    for places in members.values():
        advantages_N[places] = group_advantages(rewards_N[None, places])[0]
    advantages_NT = advantages_N.to(response_mask.device).float()[:, None] * response_mask
    return advantages_NT, advantages_NT

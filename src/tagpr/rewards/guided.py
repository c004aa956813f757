"""R, the reward of guided RL (eq. 5): a weighted sum of five signals, in which R_f gates what the answer earns."""

from tagpr.rewards.settings import RewardSettings


def guided_reward(
    verifiable: float, repetition: float, form: float, tag: float, prmu: float, weights: RewardSettings
) -> float:
    """Eq. 5: R = alpha (R_v + R_rep) R_f + beta R_tag + gamma R_PRMU."""
    return weights.alpha * (verifiable + repetition) * form + weights.beta * tag + weights.gamma * prmu

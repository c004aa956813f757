"""R_foundation, the reward of exploratory RL (eq. 11): the fundamental signals alone, no tags and no reward model."""


def foundation_reward(verifiable: float, repetition: float, form: float) -> float:
    """Eq. 11: R_foundation = (R_v + R_rep) R_f."""
    return (verifiable + repetition) * form

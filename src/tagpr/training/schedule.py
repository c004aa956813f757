"""How many steps an RL stage has, after which it evaluates, and the learning rate of each."""

import math

from tagpr.training.settings import GSPOSettings


def total_steps(settings: GSPOSettings, rows: int) -> int:
    """Rollout steps of a stage that trains on so many rows."""
    return settings.steps or max(1, math.ceil(rows * settings.epochs / settings.prompts_per_step))


def learning_rate(settings: GSPOSettings, step: int, total: int) -> float:
    """The rate of rollout step `step` (from 0) of `total`: linear warm-up, then constant or falling; never 0."""
    warmup = settings.warmup_steps
    rate = settings.learning_rate * min(1.0, (step + 1) / (warmup + 1))
    if settings.decay == "none" or step < warmup:
        return rate
    done = (step - warmup) / max(total - warmup, 1)
    return rate * (1 - done if settings.decay == "linear" else (1 + math.cos(math.pi * done)) / 2)


def evaluates_after(settings: GSPOSettings, step: int, total: int) -> bool:
    """Whether the held-out prompts are asked after rollout step `step` (from 1) of `total`; always after the last."""
    return bool(settings.heldout_every) and (step % settings.heldout_every == 0 or step == total)

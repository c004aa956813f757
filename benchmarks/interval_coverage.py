"""Are the intervals honest? Simulated pairs of systems with a known difference, and how often its interval holds it.

A 95% interval must hold the truth 95 times in 100. Not used by any run: it is the check on `paired_bootstrap`.
"""

from dataclasses import dataclass

import numpy as np

from tagpr.statistics import Bootstrap, Floats, paired_bootstrap


@dataclass(frozen=True)
class Simulated:
    """Right or wrong answers of two systems, and whose question each was."""

    scores: Floats  # (n,)
    reference: Floats  # (n,)
    users: list[int]


def simulate(rng: np.random.Generator, users: int, most: int, spread: float, difference: float) -> Simulated:
    """Answers of two systems whose accuracies differ by `difference` on average.

    users: how many people, each with 1 to `most` questions. spread: how much people differ, both in how hard they are
    and in how much the better system helps them; 0 makes all examples alike. Both systems find the same questions hard.
    """
    counts = rng.integers(1, most + 1, users)
    owner = np.repeat(np.arange(users), counts)
    # Two-point effects keep every probability inside [0, 1] (spread <= 0.6), so that the difference is exactly this.
    hard = 0.45 + 0.4 * spread * rng.choice([-1.0, 1.0], users)
    helped = difference + 0.35 * spread * rng.choice([-1.0, 1.0], users)
    luck = rng.random(len(owner))  # shared, which makes the answers paired
    return Simulated(
        scores=(luck < (hard + helped)[owner]).astype(np.float64),
        reference=(luck < hard[owner]).astype(np.float64),
        users=owner.tolist(),
    )


def coverage(
    times: int,
    users: int,
    most: int,
    spread: float,
    difference: float = 0.1,
    clustered: bool = True,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> float:
    """Share of `times` simulations whose interval holds the true `difference`."""
    rng = np.random.default_rng(seed)
    held = 0
    for number in range(times):
        drawn = simulate(rng, users, most, spread, difference)
        clusters = drawn.users if clustered else None
        interval = paired_bootstrap(drawn.scores, drawn.reference, clusters, Bootstrap(resamples, seed + number, level))
        held += interval.low <= difference <= interval.high
    return held / times

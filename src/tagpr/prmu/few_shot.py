"""How soon a reward model knows a new user: accuracy on unseen users after `fit_user` on a few pairs of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tagpr.prmu.data import Pair
from tagpr.prmu.past_pairs import Past
from tagpr.prmu.score import PRMU

SHOTS = (0, 1, 3, 9)
"""Pairs per user that are fitted on; 0: the generic user."""


def few_shot(
    prmu: PRMU, pairs: Sequence[Pair], shots: Sequence[int] = SHOTS
) -> dict[int, tuple[list[Pair], np.ndarray]]:
    """Shots -> (pairs of unseen users, their margins f(x+) - f(x-)).

    Every user's first max(shots) pairs are for fitting, and the same pairs after them are judged at every number of
    shots; users without any are left out. The fitted rows are removed again.
    """
    own: dict[str, list[Pair]] = {}
    for pair in pairs:
        if pair.split == "unseen" and pair.user_id not in prmu.users:
            own.setdefault(pair.user_id, []).append(pair)
    own = {user: found for user, found in own.items() if len(found) > max(shots)}
    judged = [pair for found in own.values() for pair in found[max(shots) :]]
    curve = {}
    for count in shots if judged else ():
        if count and prmu.model.users is None:
            continue
        try:
            for user, found in own.items() if count else ():
                prmu.fit_user(user, Past(tuple(found[:count])))
            curve[count] = judged, margins(prmu, judged)
        finally:
            for user in own:
                if user in prmu.users:
                    prmu.remove_user(user)
    return curve


def margins(
    prmu: PRMU, pairs: Sequence[Pair], histories: Mapping[str, Sequence[Sequence[int]]] | None = None
) -> np.ndarray:
    """f(x+) - f(x-) of each pair with its own user, [pairs]."""
    users, prompts = [pair.user_id for pair in pairs], [pair.prompt_ids for pair in pairs]
    completions = [pair.chosen_ids for pair in pairs] + [pair.rejected_ids for pair in pairs]
    chosen, rejected = prmu.logits(users * 2, prompts * 2, completions, histories).chunk(2)
    return (chosen - rejected).numpy()

"""Does the user embedding do anything? Held-out pair accuracy with the right, a shuffled and the generic user.

If the three agree the embedding carries nothing, and the diagnosis says so in words. PRP can be won without knowing the
user; only PQP, or human pairs if there is no PQP, can show that the model reads the user.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from random import Random
from typing import TypedDict

import numpy as np

from tagpr.errors import DataError
from tagpr.prmu.data import Pair
from tagpr.prmu.score import PRMU
from tagpr.profiles.history_bins import history_bin
from tagpr.statistics import Bootstrap, mean_interval, minimum_detectable_effect, paired_bootstrap

FEWEST_USERS = 8
"""With pairs of fewer users a resampled interval is no measure of anything, and the embedding counts as untested."""
GENERIC = "\0generic"  # an id no data can hold: scored with o_u = 0


class Accuracy(TypedDict):
    """Share of pairs ordered right, its 95% interval over users, and of how many pairs and users."""

    accuracy: float
    low: float
    high: float
    n: int
    users: int


ByUser = dict[str, Accuracy]
"""The accuracy with the right, a shuffled and the generic user."""


class Effect(TypedDict):
    """How much accuracy the right user brings over a shuffled one, and what could have been found."""

    mean: float
    low: float
    high: float
    minimum_detectable: float
    n: int
    users: int


class Bin(TypedDict):
    """Pairs of similar confidence."""

    confidence: float
    accuracy: float
    n: int


class Calibration(TypedDict):
    """Confidence against accuracy."""

    bins: list[Bin]
    expected_calibration_error: float


class Diagnosis(TypedDict):
    """What `prmu/diagnosis.json` holds."""

    seen: dict[str, ByUser]
    """PRP, PQP, human and all held-out pairs of training users."""
    unseen: dict[str, ByUser]
    """The same of held-out users."""
    effect: dict[str, Effect]
    """By split, on PQP; on human pairs if there is no PQP."""
    by_history_length: dict[str, Accuracy]
    calibration: Calibration
    length_correlation: float
    words: str


def diagnose(
    prmu: PRMU,
    pairs: Sequence[Pair],
    seed: int,
    histories: Mapping[str, Sequence[Sequence[int]]] | None = None,
) -> Diagnosis:
    """Metrics of `prmu/diagnosis.json` on the held-out pairs (splits seen and unseen).

    Accuracies carry n and a 95% interval (bootstrap over users, whose pairs are not independent). Raises DataError
    if there is no held-out pair.
    """
    heldout = [pair for pair in pairs if pair.split != "train"]
    if not heldout:
        raise DataError(
            "prmu: no held-out pair to diagnose on; raise prmu.prompts, prmu.heldout_users or heldout_share"
        )
    draws = Bootstrap(seed=seed)
    others = _shuffled_users([pair.user_id for pair in heldout], seed)
    users = {
        "right": {pair.user_id: pair.user_id for pair in heldout},
        "shuffled": others,
        "generic": {pair.user_id: GENERIC for pair in heldout},
    }
    logits = {"right": _logits(prmu, heldout, users["right"], histories)}
    for name in ("shuffled", "generic"):  # a model without users gives everyone the same
        same = prmu.model.users is None
        logits[name] = logits["right"] if same else _logits(prmu, heldout, users[name], histories)
    margins = {name: chosen - rejected for name, (chosen, rejected) in logits.items()}
    accuracies: dict[str, dict[str, ByUser]] = {}
    for split in ("seen", "unseen"):
        accuracies[split] = {
            kind: {
                name: accuracy(values[rows], [heldout[i].user_id for i in rows], draws)
                for name, values in margins.items()
            }
            for kind in ("PRP", "PQP", "human", "all")
            if (rows := [i for i, p in enumerate(heldout) if p.split == split and kind in (p.kind, "all")])
        }
    telling = "PQP" if any(pair.kind == "PQP" for pair in heldout) else "human"
    effects = {
        split: effect(margins["right"][rows], margins["shuffled"][rows], [heldout[i].user_id for i in rows], draws)
        for split in ("seen", "unseen")
        if (rows := [i for i, pair in enumerate(heldout) if pair.split == split and pair.kind == telling])
    }
    return {
        "seen": accuracies["seen"],
        "unseen": accuracies["unseen"],
        "effect": effects,
        "by_history_length": _by_history_length(heldout, margins["right"], draws),
        "calibration": calibration(margins["right"]),
        "length_correlation": _length_correlation(heldout, *logits["right"]),
        "words": words(accuracies, effects, prmu.model.settings.user_option, telling),
    }


def _logits(
    prmu: PRMU,
    pairs: Sequence[Pair],
    as_user: Mapping[str, str],
    histories: Mapping[str, Sequence[Sequence[int]]] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    policy, prmu.on_unknown = prmu.on_unknown, "generic"
    try:
        users = [as_user[pair.user_id] for pair in pairs]
        prompts = [pair.prompt_ids for pair in pairs]
        values = prmu.logits(
            users * 2, prompts * 2, [p.chosen_ids for p in pairs] + [p.rejected_ids for p in pairs], histories
        ).numpy()
    finally:
        prmu.on_unknown = policy
    return values[: len(pairs)], values[len(pairs) :]


def effect(right: np.ndarray, shuffled: np.ndarray, user_ids: Sequence[str], draws: Bootstrap) -> Effect:
    """Accuracy with the right minus with a shuffled user, its 95% interval over users, and the minimum detectable one.

    right, shuffled: margins f(x+) - f(x-) of the same pairs, [pairs].
    """
    found = paired_bootstrap(ordered_right(right), ordered_right(shuffled), user_ids, draws)
    return {
        "mean": found.mean,
        "low": found.low,
        "high": found.high,
        "minimum_detectable": minimum_detectable_effect(found),
        "n": len(right),
        "users": len(set(user_ids)),
    }


def ordered_right(margins: np.ndarray) -> np.ndarray:
    """1 for a pair ordered right, 0 for one ordered wrong, one half for a tie."""
    return np.where(margins > 0, 1.0, np.where(margins == 0, 0.5, 0.0))


def accuracy(margins: np.ndarray, user_ids: Sequence[str], draws: Bootstrap) -> Accuracy:
    """Share of positive margins (a tie counts one half), n, users, and a 95% interval by bootstrap over users."""
    found = mean_interval(ordered_right(margins), user_ids, draws)
    return {
        "accuracy": found.mean,
        "low": found.low,
        "high": found.high,
        "n": len(margins),
        "users": len(set(user_ids)),
    }


def _shuffled_users(user_ids: Sequence[str], seed: int) -> dict[str, str]:
    """Everyone is given someone else's id (a rotation of a seeded order)."""
    users = sorted(set(user_ids))
    Random(f"shuffle-{seed}").shuffle(users)
    return dict(zip(users, users[1:] + users[:1], strict=True))


def _by_history_length(pairs: Sequence[Pair], margins: np.ndarray, draws: Bootstrap) -> dict[str, Accuracy]:
    bins: dict[str, list[int]] = {}  # the shortest histories first
    for i in sorted(range(len(pairs)), key=lambda i: pairs[i].history_length):
        bins.setdefault(history_bin(pairs[i].history_length), []).append(i)
    return {name: accuracy(margins[rows], [pairs[i].user_id for i in rows], draws) for name, rows in bins.items()}


def calibration(margins: np.ndarray, bins: int = 5) -> Calibration:
    """Confidence in its own choice, sigmoid(|margin|), against how often the choice is right; ECE over the bins."""
    confidence = 1 / (1 + np.exp(-np.abs(margins)))
    right = np.where(margins == 0, 0.5, margins > 0).astype(float)
    index = np.minimum(((confidence - 0.5) * 2 * bins).astype(int), bins - 1)
    rows: list[Bin] = [
        {"confidence": float(confidence[index == b].mean()), "accuracy": float(right[index == b].mean()), "n": int(n)}
        for b in range(bins)
        if (n := (index == b).sum())
    ]
    error = sum(row["n"] * abs(row["confidence"] - row["accuracy"]) for row in rows) / len(margins)
    return {"bins": rows, "expected_calibration_error": float(error)}


def _length_correlation(pairs: Sequence[Pair], chosen: np.ndarray, rejected: np.ndarray) -> float:
    """Pearson correlation of reward and length within prompts (both centred on their prompt's mean); 0 if undefined.

    chosen, rejected: f of both sides of each pair, [pairs]. A completion of several pairs counts once.
    """
    by_prompt: dict[tuple[str, tuple[int, ...]], dict[tuple[int, ...], float]] = defaultdict(dict)
    for pair, better, worse in zip(pairs, chosen, rejected, strict=True):
        found = by_prompt[pair.user_id, pair.prompt_ids]
        found[pair.chosen_ids], found[pair.rejected_ids] = float(better), float(worse)
    rewards, lengths = [], []
    for found in by_prompt.values():
        values = 1 / (1 + np.exp(-np.array(list(found.values()))))
        sizes = np.array([float(len(completion)) for completion in found])
        rewards.append(values - values.mean())
        lengths.append(sizes - sizes.mean())
    reward, length = np.concatenate(rewards), np.concatenate(lengths)
    scale = math.sqrt(float((reward**2).sum() * (length**2).sum()))
    return float((reward * length).sum() / scale) if scale else 0.0


def words(
    accuracies: Mapping[str, Mapping[str, ByUser]], effects: Mapping[str, Effect], user_option: str, kind: str = "PQP"
) -> str:
    """What the metrics say about the user embedding, in one or two sentences.

    Only PQP pairs of users seen in training can say it: PRP is won without knowing the user, and a user never seen has
    no row of E (unless the history is encoded).
    """
    if user_option == "none":
        return "This model has no user embedding."
    split = "unseen" if user_option == "profile-encoded" and "unseen" in effects else "seen"
    found = effects.get(split)
    if found is None or found["users"] < FEWEST_USERS:
        had = f"no held-out {kind} pair is of a user seen in training"
        if found is not None:
            had = f"the {found['n']} held-out {kind} pairs are of {found['users']} {split} users"
        return (
            f"Untested: {had}, so nothing says whether the user embedding is used; draw several prompts of each user "
            "(prmu.prompts_per_user) or raise prmu.prompts."
        )
    right, shuffled = accuracies[split][kind]["right"], accuracies[split][kind]["shuffled"]
    said = (
        f"held-out {kind} pairs of {split} users: {right['accuracy']:.1%} with the right user, "
        f"{shuffled['accuracy']:.1%} with a shuffled one, "
        f"difference {found['mean']:+.1%} [{found['low']:+.1%}, {found['high']:+.1%}] "
        f"(n = {found['n']}, {found['users']} users)"
    )
    if found["low"] > 0:
        return f"The user embedding is used: {said}."
    return (
        f"Warning: the user embedding carries nothing here: {said}; a difference below "
        f"{found['minimum_detectable']:.1%} would not have been found."
    )

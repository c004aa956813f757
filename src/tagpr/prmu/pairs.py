"""Preference pairs from a policy's own rollouts: PRP (with the profile over without) and PQP (better over worse).

Length alone cannot win: within each bin of length difference, as many pairs prefer the longer completion as the shorter
one. What this file does not do: it generates nothing (`tagpr.prmu.policy_rollouts`) and scores nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from random import Random

from rapidfuzz.distance import Indel

from tagpr.errors import DataError
from tagpr.prmu.data import KINDS, SPLITS, Pair, PairSet, Rollout
from tagpr.prmu.settings import PRMUSettings

LENGTH_BINS = (4, 16, 48)  # upper edges, in tokens, of the bins of |length difference| that are balanced separately


def build_pairs(rollouts: Sequence[Rollout], settings: PRMUSettings, seed: int) -> PairSet:
    """PRP and PQP pairs, split by user and by time, without ties and near-duplicates, balanced in length.

    Raises DataError when no training pair is left, saying what became of the candidates.
    """
    random = Random(f"pairs-{seed}")
    by_prompt: dict[tuple[str, str], list[Rollout]] = defaultdict(list)
    for rollout in rollouts:
        by_prompt[rollout.task, rollout.example_id].append(rollout)
    split_of = _splits(by_prompt, settings, random)
    dropped: Counter[str] = Counter({"ties": 0, "near_duplicates": 0, "over_cap": 0, "length_balance": 0})
    candidates: list[Pair] = []
    for key in sorted(by_prompt):
        for kind in KINDS:
            found = _candidates(by_prompt[key], kind, split_of[key], settings, dropped)
            random.shuffle(found)
            dropped["over_cap"] += max(0, len(found) - settings.max_pairs_per_prompt)
            candidates += found[: settings.max_pairs_per_prompt]
    pairs: list[Pair] = []
    for split in SPLITS:
        for kind in KINDS:
            group = [pair for pair in candidates if (pair.split, pair.kind) == (split, kind)]
            kept = _length_balanced(group, random)
            dropped["length_balance"] += len(group) - len(kept)
            pairs += kept
    if not any(pair.split == "train" for pair in pairs):
        facts = ", ".join(f"{count} dropped as {name}" for name, count in dropped.items())
        raise DataError(
            f"prmu: no preference pair left for training from {len(rollouts)} rollouts ({facts}); "
            "raise prmu.prompts or prmu.rollouts_with, or lower prmu.min_score_gap"
        )
    return PairSet(tuple(pairs), dict(dropped))


def _splits(
    by_prompt: dict[tuple[str, str], list[Rollout]], settings: PRMUSettings, random: Random
) -> dict[tuple[str, str], str]:
    """Split of each prompt: users drawn by lot are unseen; of the others, the latest prompts are held out."""
    users = sorted({rollouts[0].user_id for rollouts in by_prompt.values()})
    random.shuffle(users)
    unseen = set(users[: round(settings.heldout_users * len(users))])
    split = {key: "unseen" if by_prompt[key][0].user_id in unseen else "train" for key in sorted(by_prompt)}
    prompts_of: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for key in (key for key in split if split[key] == "train"):
        prompts_of[by_prompt[key][0].user_id].append(key)
    # Only a user with another prompt left can be a *seen* one; undated prompts fall back on the lot.
    spare = []
    for user in sorted(prompts_of):
        keys = prompts_of[user]
        random.shuffle(keys)
        keys.sort(key=lambda key: by_prompt[key][0].date or "")
        spare += [(rank, key) for rank, key in enumerate(reversed(keys[1:]))]
    random.shuffle(spare)
    spare.sort(key=lambda item: item[0])  # everyone's latest first, then everyone's second latest, ...
    wanted = round(settings.heldout_share * sum(len(keys) for keys in prompts_of.values()))
    split.update({key: "seen" for _, key in spare[:wanted]})
    return split


def _candidates(
    rollouts: list[Rollout], kind: str, split: str, settings: PRMUSettings, dropped: Counter[str]
) -> list[Pair]:
    with_profile = [r for r in rollouts if r.made_with_profile]
    without = [r for r in rollouts if not r.made_with_profile]
    if kind == "PRP":
        ordered = [(a, b) for a in with_profile for b in without]
    else:
        ordered = []
        for index, a in enumerate(with_profile):
            for b in with_profile[index + 1 :]:
                gap = a.score - b.score
                if gap == 0 or abs(gap) < settings.min_score_gap:
                    dropped["ties"] += 1
                else:
                    ordered.append((a, b) if gap > 0 else (b, a))
    found, seen = [], set()
    for a, b in ordered:
        key = (a.completion_ids, b.completion_ids)
        if key in seen or Indel.normalized_similarity(a.completion_ids, b.completion_ids) >= settings.near_duplicate:
            dropped["near_duplicates"] += 1
            continue
        seen.add(key)
        found.append(
            Pair(
                kind=kind,
                split=split,
                example_id=a.example_id,
                user_id=a.user_id,
                task=a.task,
                prompt_ids=tuple(a.prompt_ids),
                chosen_ids=tuple(a.completion_ids),
                rejected_ids=tuple(b.completion_ids),
                history_length=a.history_length,
            )
        )
    return found


def _length_balanced(pairs: list[Pair], random: Random) -> list[Pair]:
    """Keep, in every bin of |length difference|, as many pairs won by the longer side as by the shorter one."""
    bins: dict[int, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    kept = []
    for index, pair in enumerate(pairs):
        gap = len(pair.chosen_ids) - len(pair.rejected_ids)
        if gap == 0:
            kept.append(index)
            continue
        size = sum(abs(gap) > edge for edge in LENGTH_BINS)
        bins[size][gap > 0].append(index)
    for size in sorted(bins):
        shorter, longer = bins[size]
        count = min(len(shorter), len(longer))
        kept += random.sample(shorter, count) + random.sample(longer, count)
    return [pairs[index] for index in sorted(kept)]

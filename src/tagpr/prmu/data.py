"""Preference pairs from a policy's own rollouts: PRP (with the profile over without) and PQP (better over worse).

Length alone cannot win: within each bin of length difference, as many pairs prefer the longer completion as the shorter
one. What this file does not do: it generates nothing (`tagpr.prmu.rollouts`) and scores nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from random import Random
from typing import Any

from rapidfuzz.distance import Indel

from tagpr.errors import DataError
from tagpr.prmu.settings import PRMUSettings

LENGTH_BINS = (4, 16, 48)  # upper edges, in tokens, of the bins of |length difference| that are balanced separately
SPLITS = ("train", "seen", "unseen")


@dataclass(frozen=True)
class Rollout:
    """One completion of the policy, with the facts that preferences are made from."""

    example_id: str
    user_id: str
    task: str
    prompt_ids: tuple[int, ...]  # always the prompt *with* the profile: the one the reward model reads
    completion_ids: tuple[int, ...]
    score: float  # tagpr.tasks.metrics.correctness of the answer, in [0, 1]
    made_with_profile: bool
    date: str | None = None  # of the example, ISO 8601
    history_length: int = 0  # interactions in the user's profile


@dataclass(frozen=True)
class Pair:
    """x+ and x- of eq. 2: one prompt, one user, two completions."""

    kind: str  # PRP or PQP
    split: str  # train, seen (held-out prompt of a training user) or unseen (held-out user)
    example_id: str
    user_id: str
    task: str
    prompt_ids: tuple[int, ...]
    chosen_ids: tuple[int, ...]
    rejected_ids: tuple[int, ...]
    chosen_score: float
    rejected_score: float
    history_length: int = 0


@dataclass(frozen=True)
class PairSet:
    """All pairs and what was dropped on the way."""

    pairs: tuple[Pair, ...]
    dropped: dict[str, int]  # reason -> count: ties, near-duplicates, over the cap, length balance

    def split(self, *names: str) -> list[Pair]:
        """Pairs of the named splits, in order."""
        return [pair for pair in self.pairs if pair.split in names]

    def card(self) -> dict[str, Any]:
        """Counts, length statistics and the accuracy of a judge that always prefers the longer completion."""
        card: dict[str, Any] = {"dropped": self.dropped}
        for split in SPLITS:
            for kind in ("PRP", "PQP"):
                chosen = [pair for pair in self.split(split) if pair.kind == kind]
                if not chosen:
                    card[f"{split}/{kind}"] = {"pairs": 0}
                    continue
                card[f"{split}/{kind}"] = {
                    "pairs": len(chosen),
                    "users": len({pair.user_id for pair in chosen}),
                    "prompts": len({(pair.task, pair.example_id) for pair in chosen}),
                    "tasks": dict(sorted(Counter(pair.task for pair in chosen).items())),
                    "mean_chosen_tokens": sum(len(pair.chosen_ids) for pair in chosen) / len(chosen),
                    "mean_rejected_tokens": sum(len(pair.rejected_ids) for pair in chosen) / len(chosen),
                    "length_only_accuracy": length_only_accuracy(chosen),
                }
        return card


def card_text(card: dict[str, Any]) -> str:
    """The dataset card of a pair set, in Markdown."""
    lines = [
        "# Preference pairs of the reward model",
        "",
        "Made from the policy's own rollouts. PRP: the answer made with the profile is preferred to one made without.",
        "PQP: of two answers made with the profile, the more correct (or higher-ROUGE) one is preferred. `seen` are",
        "held-out questions of training users, the latest where dates are known; `unseen` are users held out whole.",
        "Pairs are balanced so that length alone cannot win: a judge that always takes the longer answer is at 50%.",
        "",
        "| split | kind | pairs | users | questions | tokens preferred | tokens rejected | length-only judge |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in card.items():
        if "/" in name and row["pairs"]:
            split, kind = name.split("/")
            lines.append(
                f"| {split} | {kind} | {row['pairs']} | {row['users']} | {row['prompts']} | "
                f"{row['mean_chosen_tokens']:.1f} | {row['mean_rejected_tokens']:.1f} | "
                f"{row['length_only_accuracy']:.1%} |"
            )
    dropped = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in card["dropped"].items())
    return "\n".join([*lines, "", f"Dropped: {dropped}.", ""])


def length_only_accuracy(pairs: Sequence[Pair]) -> float:
    """How often "the longer one" is the preferred one; a tie in length counts one half."""
    right = sum(
        0.5 if len(p.chosen_ids) == len(p.rejected_ids) else len(p.chosen_ids) > len(p.rejected_ids) for p in pairs
    )
    return right / len(pairs)


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
        for kind in ("PRP", "PQP"):
            found = _candidates(by_prompt[key], kind, split_of[key], settings, dropped)
            random.shuffle(found)
            dropped["over_cap"] += max(0, len(found) - settings.max_pairs_per_prompt)
            candidates += found[: settings.max_pairs_per_prompt]
    pairs: list[Pair] = []
    for split in SPLITS:
        for kind in ("PRP", "PQP"):
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
                chosen_score=a.score,
                rejected_score=b.score,
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


def write_pairs(path: Path, pairs: Sequence[Pair]) -> None:
    """Write pairs as Parquet (token ids as lists), atomically."""
    import os

    import pyarrow as pa
    import pyarrow.parquet as pq

    ids = pa.list_(pa.int32())
    kinds = {"prompt_ids": ids, "chosen_ids": ids, "rejected_ids": ids, "history_length": pa.int32()}
    kinds |= {"chosen_score": pa.float64(), "rejected_score": pa.float64()}
    schema = pa.schema([(field.name, kinds.get(field.name, pa.string())) for field in fields(Pair)])
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    pq.write_table(pa.Table.from_pylist([asdict(pair) for pair in pairs], schema=schema), temporary)
    os.replace(temporary, path)


def read_pairs(path: Path) -> list[Pair]:
    """Read what `write_pairs` wrote. Raises DataError when the file is not one of those."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(path).to_pylist()
        ids = ("prompt_ids", "chosen_ids", "rejected_ids")
        return [Pair(**{key: tuple(value) if key in ids else value for key, value in row.items()}) for row in rows]
    except (OSError, pa.ArrowInvalid, TypeError) as error:
        raise DataError(f"{path}: not a file of preference pairs ({str(error).splitlines()[0][:120]})") from None

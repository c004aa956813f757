"""What a reward model learns from: `Rollout`, `Pair` (x+ and x- of eq. 2), `PairSet` with its card, and their files.

Pairs are made of a policy's rollouts in `tagpr.prmu.pairs` and of a user's own past in `tagpr.prmu.past_pairs`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tagpr.errors import DataError

KINDS = ("PRP", "PQP")
"""Kinds of pairs that rollouts make; a pair that a user ordered is of kind human."""
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

    kind: str  # PRP, PQP or human
    split: str  # train, seen (held-out prompt of a training user) or unseen (held-out user)
    example_id: str
    user_id: str
    task: str
    prompt_ids: tuple[int, ...]
    chosen_ids: tuple[int, ...]
    rejected_ids: tuple[int, ...]
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
            for kind in (*KINDS, *(["human"] if any(pair.kind == "human" for pair in self.pairs) else [])):
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
        "held-out questions of training users, the latest if dates are known; `unseen` are users held out whole.",
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
    if any(name.endswith("/human") for name in card):
        lines += [
            "",
            "human: a user ordered the two answers; these are as the file has them, not balanced in length.",
        ]
    dropped = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in card["dropped"].items()) or "none"
    return "\n".join([*lines, "", f"Dropped: {dropped}.", ""])


def length_only_accuracy(pairs: Sequence[Pair]) -> float:
    """How often "the longer one" is the preferred one; a tie in length counts one half."""
    right = sum(
        0.5 if len(p.chosen_ids) == len(p.rejected_ids) else len(p.chosen_ids) > len(p.rejected_ids) for p in pairs
    )
    return right / len(pairs)


def write_pairs(path: Path, pairs: Sequence[Pair]) -> None:
    """Write pairs as Parquet (token ids as lists), atomically."""
    import os

    import pyarrow as pa
    import pyarrow.parquet as pq

    ids = pa.list_(pa.int32())
    kinds = {"prompt_ids": ids, "chosen_ids": ids, "rejected_ids": ids, "history_length": pa.int32()}
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
        return [_pair(**row) for row in pq.read_table(path).to_pylist()]
    except (OSError, pa.ArrowInvalid, TypeError) as error:
        raise DataError(f"{path}: not a file of preference pairs ({str(error).splitlines()[0][:120]})") from None


def _pair(*, prompt_ids: list[int], chosen_ids: list[int], rejected_ids: list[int], **facts: Any) -> Pair:
    return Pair(prompt_ids=tuple(prompt_ids), chosen_ids=tuple(chosen_ids), rejected_ids=tuple(rejected_ids), **facts)

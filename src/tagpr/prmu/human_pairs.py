"""Human pairs as a reward model takes them: token ids, and who is trained on, seen or unseen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from tagpr.data.human_pairs import HumanPair, Message, read_human_pairs
from tagpr.errors import DataError
from tagpr.prmu.data import Pair
from tagpr.prmu.settings import PairSettings, PRMUSettings
from tagpr.prompts.ids import inert, message_ids, plain_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TASK = "human"
"""Task and kind of such a pair."""
LONGEST_PAST = 200
"""Characters of each text of an earlier pair that a context shows."""


def human_pairs(settings: PRMUSettings, tokenizer: PreTrainedTokenizerBase, seed: int) -> list[Pair]:
    """The pairs that `prmu.pairs` names, split and in token ids. Raises DataError if none is left to train on."""
    source = settings.pairs
    assert source is not None
    read = read_human_pairs(source.path, source.format, source.fields)
    kept = [pair for pair in read if pair.margin is None or pair.margin >= source.min_margin]
    splits = split_by_user(kept, settings, seed)
    pairs = tokenised(with_past(kept, splits, source.past_shown), splits, tokenizer)
    if not any(pair.split == "train" for pair in pairs):
        raise DataError(
            f"{source.path}: none of {len(read)} pairs is left to train on; lower prmu.pairs.min_margin, "
            "prmu.heldout_users or prmu.heldout_share, or give rows of split train"
        )
    return pairs


def split_by_user(pairs: Sequence[HumanPair], settings: PRMUSettings, seed: int) -> list[str]:
    """train, seen or unseen for each pair.

    A file's own splits stand: what is not `train` is seen if its user has training pairs, else unseen. Without them
    `heldout_users` of the users are drawn as unseen, and of every other user `heldout_share` of the pairs, the last in
    the file and no more than leave one to train on, are seen. Pairs of one context are never parted.
    """
    if any(pair.split for pair in pairs):
        trained = {pair.user_id for pair in pairs if pair.split == "train"}
        return ["train" if p.split == "train" else "seen" if p.user_id in trained else "unseen" for p in pairs]
    users = sorted({pair.user_id for pair in pairs})
    Random(f"human-pairs-{seed}").shuffle(users)
    unseen = set(users[: round(settings.heldout_users * len(users))])
    contexts: dict[str, dict[object, None]] = {}
    for pair in pairs:
        contexts.setdefault(pair.user_id, {})[pair.context] = None
    held = {
        (user, context)
        for user, found in contexts.items()
        for context in list(found)[len(found) - min(len(found) - 1, round(settings.heldout_share * len(found))) :]
    }
    return [
        "unseen" if pair.user_id in unseen else "seen" if (pair.user_id, pair.context) in held else "train"
        for pair in pairs
    ]


def with_past(pairs: Sequence[HumanPair], splits: Sequence[str], most: int) -> list[HumanPair]:
    """The pairs with the user's latest `most` earlier ones (none that is held out of a seen user) told before."""
    past: dict[str, list[HumanPair]] = {}
    found = []
    for pair, split in zip(pairs, splits, strict=True):
        own = past.setdefault(pair.user_id, [])
        shown = [old for old in own if old.context != pair.context][-most:] if most else []
        found.append(replace(pair, context=(_told(shown), *pair.context)) if shown else pair)
        if split != "seen":
            own.append(pair)
    return found


def _told(past: Sequence[HumanPair]) -> Message:
    lines = ["Earlier choices of this person:"]
    for old in past:
        asked = old.context[-1].content[:LONGEST_PAST]
        lines.append(f"- {asked} -> {old.chosen[:LONGEST_PAST]} (rather than: {old.rejected[:LONGEST_PAST]})")
    return Message("user", "\n".join(lines))


def tokenised(pairs: Sequence[HumanPair], splits: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[Pair]:
    """The pairs in token ids; control tokens in users' text are text."""
    found = []
    for pair, split in zip(pairs, splits, strict=True):
        messages = [{"role": turn.role, "content": inert(turn.content, tokenizer)} for turn in pair.context]
        found.append(
            Pair(
                kind=TASK,
                split=split,
                example_id=pair.place,
                user_id=pair.user_id,
                task=TASK,
                prompt_ids=tuple(message_ids(messages, tokenizer)),
                chosen_ids=tuple(plain_ids(pair.chosen, tokenizer)),
                rejected_ids=tuple(plain_ids(pair.rejected, tokenizer)),
                history_length=len(pair.history),
            )
        )
    return found


def human_histories(source: PairSettings, tokenizer: PreTrainedTokenizerBase) -> dict[str, list[tuple[int, ...]]]:
    """Token ids of the past texts that rows bring along, by user, for profile-encoded."""
    texts: dict[str, dict[str, None]] = {}
    for pair in read_human_pairs(source.path, source.format, source.fields):
        texts.setdefault(pair.user_id, {}).update(dict.fromkeys(pair.history))
    return {user: [tuple(plain_ids(text, tokenizer)) for text in found] for user, found in texts.items() if found}

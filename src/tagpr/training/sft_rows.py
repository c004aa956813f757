"""What SFT learns from: prompts with their completions, label rows mixed in, and whose rows are held out."""

import random
from collections.abc import Collection, Sequence
from dataclasses import replace

from tagpr.errors import RunError
from tagpr.training.rows import TrainingRow


def mixed(chains: Sequence[TrainingRow], labels: Sequence[TrainingRow], share: float, seed: int) -> list[TrainingRow]:
    """All chain rows and as many label rows as make `share` of the whole (eq. 4 on both), shuffled by the Trainer.

    Label rows are drawn by `seed`, none a second time before every one was taken. Raises RunError without label rows.
    """
    count = round(len(chains) * share / (1 - share))
    if not count:
        return list(chains)
    if not labels:
        raise RunError("sft.mix needs label rows, but no training example has a target; set sft.mix to 0")
    order = list(labels)
    random.Random(seed).shuffle(order)
    return [*chains, *(order[i % len(order)] for i in range(count))]


def hold_out(
    groups: Sequence[TrainingRow], users: int, seed: int, everyone: Collection[str] | None = None
) -> tuple[list[TrainingRow], list[TrainingRow]]:
    """(rows to train on, rows of `users` users drawn by `seed`).

    everyone: whom they are drawn from, else the users of the rows. Given the same, two trainings hold out the same
    users, whichever rows they have of them. Raises RunError if no row would be left to train on, or none held out.
    """
    names = sorted({group.user_id for group in groups} if everyone is None else set(everyone))
    if users >= len(names):
        raise RunError(
            f"sft.heldout_users={users}: the training rows are of {len(names)} users; hold out fewer of them"
        )
    chosen = set(random.Random(seed).sample(names, users))
    train = [group for group in groups if group.user_id not in chosen]
    heldout = [group for group in groups if group.user_id in chosen]
    if not train:
        raise RunError(f"sft.heldout_users={users}: all training rows are of these users; hold out fewer of them")
    if users and not heldout:
        raise RunError(f"sft.heldout_users={users}: none of these users has a training row; hold out more of them")
    return train, heldout


def within(groups: Sequence[TrainingRow], longest: int) -> tuple[list[TrainingRow], int]:
    """Groups without their over-long completions, and how many completions that left out."""
    kept, left_out = [], 0
    for group in groups:
        short = [i for i, ids in enumerate(group.completion_ids) if len(group.prompt_ids) + len(ids) <= longest]
        left_out += len(group.completion_ids) - len(short)
        if short:
            weights = [group.token_weights[i] for i in short] if group.token_weights else ()
            kept.append(replace(group, completion_ids=[group.completion_ids[i] for i in short], token_weights=weights))
    return kept, left_out


def tokens_seen(groups: Sequence[TrainingRow], examples: int) -> int:
    """Tokens run through the model in so many examples, at the mean length of a group (its prompt counts once)."""
    tokens = sum(len(group.prompt_ids) + sum(map(len, group.completion_ids)) for group in groups)
    return round(tokens / len(groups) * examples)

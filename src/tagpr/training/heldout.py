"""Held-out prompts of an RL stage: whose they are, greedy answers on them, the metric that best weights are kept by."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence

import torch

from tagpr.engine.types import Sampling, TextModel
from tagpr.errors import RunError
from tagpr.training.rollout import Reward, score
from tagpr.training.rows import TrainingRow
from tagpr.training.settings import GSPOSettings

METRIC = "heldout/verifiable"
"""The task's own metric among the metrics of an evaluation, if the reward tells its components."""


def metric_of(figures: Mapping[str, float]) -> float | None:
    """The held-out metric of one row of the log: R_v, else the reward; None if nothing was evaluated."""
    return figures.get(METRIC, figures.get("heldout/reward"))


def keep_out(rows: Sequence[TrainingRow], least: int, seed: int) -> tuple[list[TrainingRow], list[TrainingRow]]:
    """(rows to train on, at least `least` held-out rows): the latter are all rows of users drawn by `seed`.

    Raises RunError if that leaves no row to train on.
    """
    users = sorted({row.user_id for row in rows})
    random.Random(seed).shuffle(users)
    counts, out, kept = Counter(row.user_id for row in rows), set(), 0
    for user in users:
        if kept >= least:
            break
        out.add(user)
        kept += counts[user]
    if rows and len(out) == len(users):
        raise RunError(
            f"heldout_prompts={least}: the {len(rows)} training prompts of {len(users)} users leave none to train on; "
            "hold out fewer"
        )
    return [r for r in rows if r.user_id not in out], [r for r in rows if r.user_id in out]


def greedy_scores(
    model: TextModel,
    rows: Sequence[TrainingRow],
    reward: Reward,
    settings: GSPOSettings,
    rank: int = 0,
    world: int = 1,
) -> dict[str, list[float]]:
    """Reward, its parts and the length of one greedy completion of each row, in the rows' order, on every process."""
    share = rows[rank::world]
    sampling = Sampling(settings.max_new_tokens, temperature=0)
    drawn = [completion for (completion,) in model.generate([row.prompt_ids for row in share], sampling)]
    ids = [completion.token_ids for completion in drawn]
    values, parts = score(reward, share, [completion.text for completion in drawn], ids)
    table = {"reward": values, "length": [float(len(x)) for x in ids], **parts}
    if world == 1:
        return table
    everyone: list[dict[str, list[float]]] = [{} for _ in range(world)]
    torch.distributed.all_gather_object(everyone, table)
    return {key: [everyone[i % world][key][i // world] for i in range(len(rows))] for key in table}


def mean_scores(table: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The log's figures of an evaluation: the mean of every column of `greedy_scores`."""
    return {f"heldout/{key}": sum(column) / len(column) for key, column in table.items()}

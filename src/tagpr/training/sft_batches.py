"""SFT's rows as the Trainer takes them, and the batches of one process divided among several."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import Sampler

from tagpr import processes
from tagpr.engine.shared_prompt import PromptGroup
from tagpr.errors import RecipeError
from tagpr.training.rows import TrainingRow


def sft_dataset(groups: Sequence[TrainingRow], fillers: int = 0) -> Dataset:
    """Rows of weight 1, then `fillers` of weight 0."""
    every = [*groups, *groups[:fillers]]
    return Dataset.from_dict(
        {
            "prompt_ids": [list(group.prompt_ids) for group in every],
            "completion_ids": [[list(ids) for ids in group.completion_ids] for group in every],
            "token_weights": [[list(own) for own in group.token_weights] for group in every],
            "weight": [1.0] * len(groups) + [0.0] * fillers,
        }
    )


def completion_weights(
    completions: Sequence[Sequence[int]], token_weights: Sequence[Sequence[float]]
) -> list[torch.Tensor]:
    """The weights of each completion's tokens, (C_i,) float32; 1 where there are none."""
    if not token_weights:
        return [torch.ones(len(ids)) for ids in completions]
    return [torch.tensor(own or [1.0] * len(ids)) for ids, own in zip(completions, token_weights, strict=True)]


def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A batch: groups, the weights of each one's completions, and labels that only tell how many tokens are learned."""
    groups = [PromptGroup(row["prompt_ids"], row["completion_ids"]) for row in rows]
    weights = [
        [row["weight"] * own for own in completion_weights(row["completion_ids"], row["token_weights"])] for row in rows
    ]
    learned = [group for group, row in zip(groups, rows, strict=True) if row["weight"]]
    count = sum(len(ids) for group in learned for ids in group.completions)
    # `labels` only tells the Trainer how many tokens carry loss (it counts from position 1 on)
    labels = torch.cat([torch.tensor([[-100]]), torch.zeros(1, count, dtype=torch.long)], 1)
    return {"groups": groups, "weights": weights, "labels": labels}


class DividedBatches(Sampler[int]):
    """The batches of one process, divided among several: row numbers by batch, then by process.

    The last batch of an epoch is filled with `filler`, the number of a row that weighs nothing, so that every process
    has its share; accelerate would fill it with other rows, which would then be learned from twice.
    """

    def __init__(self, rows: int, batch_size: int, steps: int, seed: int, processes: int) -> None:
        """steps: optimizer steps of the whole training; batch_size: rows of a step over all processes."""
        self.rows, self.batch_size, self.steps, self.seed, self.processes = rows, batch_size, steps, seed, processes
        self.filler = rows

    def __iter__(self) -> Iterator[int]:
        step = epoch = 0
        while step < self.steps:
            # the order that accelerate's seeded sampler gives one process
            order = torch.randperm(self.rows, generator=torch.Generator().manual_seed(self.seed + epoch)).tolist()
            for start in range(0, self.rows, self.batch_size):
                if step < self.steps:
                    yield from self._divided(order[start : start + self.batch_size])
                step += 1
            epoch += 1

    def _divided(self, batch: list[int]) -> Iterator[int]:
        share = self.batch_size // self.processes
        for rank in range(self.processes):
            own = batch[rank :: self.processes]
            yield from [*own, *[self.filler] * (share - len(own))]

    def __len__(self) -> int:
        return self.steps * self.batch_size


def divided(rows: int, steps: int, batch_size: int, seed: int) -> DividedBatches | None:
    """How several processes share the batches; None for one process. Raises RecipeError if they cannot."""
    count = processes.count()
    if batch_size % count:
        raise RecipeError(f"sft.batch_size={batch_size} cannot be divided among {count} processes; set a multiple")
    return DividedBatches(rows, batch_size, steps, seed, count) if count > 1 else None

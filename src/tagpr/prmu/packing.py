"""Packing one prompt and its completions into one row, so that the prompt is computed once.

    tokens     p0 p1 p2 | a0 a1 | b0 b1 b2 | pad
    segment     0  0  0 |  1  1 |  2  2  2 | -1
    position    0  1  2 |  3  4 |  3  4  5 |  0

A token sees the prompt and its own completion up to itself, nothing else (`tagpr.prmu.model` turns segments and
positions into the attention mask), so every completion gets the score it would get alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from tagpr.prmu.data import Pair


@dataclass(frozen=True)
class Group:
    """One prompt of one user, its completions, and which completion is preferred to which."""

    user_id: str
    prompt_ids: tuple[int, ...]
    completions: tuple[tuple[int, ...], ...]
    preferences: tuple[tuple[int, int], ...] = ()  # (index of the chosen, index of the rejected completion)
    example_id: str = ""
    history: torch.Tensor | None = field(default=None, compare=False)  # [n, d] frozen encodings, profile-encoded only

    @property
    def tokens(self) -> int:
        """Length of the packed row, end tokens included."""
        return len(self.prompt_ids) + sum(len(completion) + 1 for completion in self.completions)


def ended(completion: Sequence[int], end_ids: Sequence[int]) -> list[int]:
    """The completion with exactly one end token: every completion is read off at the same kind of token."""
    ids = list(completion)
    while ids and ids[-1] in end_ids:
        ids.pop()
    return [*ids, end_ids[0]]


def group_pairs(pairs: Sequence[Pair]) -> list[Group]:
    """Pairs of one prompt and user become one group; completions occurring in several pairs occur once."""
    by_prompt: dict[tuple[str, str, str, tuple[int, ...]], list[Pair]] = {}
    for pair in pairs:
        by_prompt.setdefault((pair.task, pair.example_id, pair.user_id, pair.prompt_ids), []).append(pair)
    groups = []
    for (_, example_id, user_id, prompt_ids), members in by_prompt.items():
        index: dict[tuple[int, ...], int] = {}
        preferences = tuple(
            (index.setdefault(pair.chosen_ids, len(index)), index.setdefault(pair.rejected_ids, len(index)))
            for pair in members
        )
        groups.append(Group(user_id, prompt_ids, tuple(index), preferences, example_id))
    return groups


def batches(lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Indices by falling length, in batches whose padded size stays under `token_budget` (at least one a batch)."""
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    batch: list[int] = []
    for index in order:
        if batch and lengths[batch[0]] * (len(batch) + 1) > token_budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def pack(
    groups: Sequence[Group], user_rows: Sequence[int], end_ids: Sequence[int], pad_id: int
) -> dict[str, torch.Tensor]:
    """Tensors of `PRMUModel.forward` for B groups with N completions in all, padded on the right to T tokens.

    Returns input_ids, attention_mask, segment_ids, position_ids [B, T]; ends [N, 2] (row, index of the last token);
    user_rows [B]; where there are preferences, chosen and rejected [pairs] (indices into the N completions); where a
    group has a history, history [B, n, d] and history_mask [B, n].
    """
    rows = [_row(group, end_ids) for group in groups]
    width = max(len(ids) for ids, _, _, _ in rows)
    ends, chosen, rejected = [], [], []
    for row, (group, (_, _, _, row_ends)) in enumerate(zip(groups, rows, strict=True)):
        chosen += [len(ends) + better for better, _ in group.preferences]
        rejected += [len(ends) + worse for _, worse in group.preferences]
        ends += [(row, end) for end in row_ends]
    batch = {
        "input_ids": torch.tensor([ids + [pad_id] * (width - len(ids)) for ids, _, _, _ in rows]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _, _, _ in rows]),
        "segment_ids": torch.tensor([segments + [-1] * (width - len(segments)) for _, segments, _, _ in rows]),
        "position_ids": torch.tensor([positions + [0] * (width - len(positions)) for _, _, positions, _ in rows]),
        "ends": torch.tensor(ends),
        "user_rows": torch.tensor(list(user_rows)),
    }
    if chosen:
        batch |= {"chosen": torch.tensor(chosen), "rejected": torch.tensor(rejected)}
    if any(group.history is not None for group in groups):
        items = [group.history if group.history is not None else torch.empty(0, 0) for group in groups]
        width = max(1, *(len(item) for item in items))
        size = max(item.shape[1] for item in items)
        history = torch.zeros(len(groups), width, size)
        mask = torch.zeros(len(groups), width, dtype=torch.bool)
        for row, item in enumerate(items):
            if len(item):
                history[row, : len(item)] = item
                mask[row, : len(item)] = True
        batch |= {"history": history, "history_mask": mask}
    return batch


def _row(group: Group, end_ids: Sequence[int]) -> tuple[list[int], list[int], list[int], list[int]]:
    start = len(group.prompt_ids)
    ids, segments, positions = list(group.prompt_ids), [0] * start, list(range(start))
    ends = []
    for number, completion in enumerate(group.completions, start=1):
        tokens = ended(completion, end_ids)
        ids += tokens
        segments += [number] * len(tokens)
        positions += range(start, start + len(tokens))
        ends.append(len(ids) - 1)
    return ids, segments, positions, ends

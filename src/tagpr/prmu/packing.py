"""Groups of the reward model: a user's prompt with its completions and preferences, as tensors of `PRMUModel.forward`.

Padding and attention of such rows are `tagpr.engine.padded_rows`'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import torch

from tagpr.engine.padded_rows import pad_rows, padded_batches
from tagpr.engine.shared_prompt import PromptGroup
from tagpr.prmu.data import Pair
from tagpr.prmu.model import PRMUModel


@dataclass(frozen=True)
class PreferenceGroup:
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


def group_pairs(pairs: Sequence[Pair]) -> list[PreferenceGroup]:
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
        groups.append(PreferenceGroup(user_id, prompt_ids, tuple(index), preferences, example_id))
    return groups


def pack(
    groups: Sequence[PreferenceGroup], user_rows: Sequence[int], end_ids: Sequence[int], pad_id: int
) -> dict[str, torch.Tensor]:
    """Tensors of `PRMUModel.forward` for B groups with N completions in all, padded on the right to T tokens.

    Returns input_ids, attention_mask, segment_ids, position_ids [B, T]; ends [N, 2] (row, index of the last token);
    user_rows [B]; if there are preferences, chosen and rejected [pairs] (indices into the N completions); if a
    group has a history, history [B, n, d] and history_mask [B, n].
    """
    rows = pad_rows(
        [PromptGroup(g.prompt_ids, [ended(completion, end_ids) for completion in g.completions]) for g in groups],
        pad_id,
    )
    chosen, rejected, before = [], [], 0
    for group in groups:
        chosen += [before + better for better, _ in group.preferences]
        rejected += [before + worse for _, worse in group.preferences]
        before += len(group.completions)
    batch = {field.name: getattr(rows, field.name) for field in fields(rows)}
    batch["user_rows"] = torch.tensor(list(user_rows))
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


@torch.no_grad()
def encode_texts(model: PRMUModel, groups: Sequence[PreferenceGroup], token_budget: int = 8192) -> torch.Tensor:
    """States [N, d] of a fixed encoder after each distinct completion of each distinct prompt; new texts are run."""
    texts: dict[tuple[int, ...], dict[tuple[int, ...], None]] = {}
    for group in groups:
        texts.setdefault(group.prompt_ids, {}).update(dict.fromkeys(group.completions))
    merged = [PreferenceGroup("", prompt, tuple(completions)) for prompt, completions in texts.items()]
    config, device = model.settings, next(model.parameters()).device
    states = []
    for batch in padded_batches([group.tokens for group in merged], token_budget):
        packed = pack([merged[i] for i in batch], [-1] * len(batch), config.end_ids, config.pad_id)
        names = ("input_ids", "segment_ids", "position_ids", "ends")
        states.append(model.encoded(*(packed[name].to(device) for name in names)))
    return torch.cat(states)

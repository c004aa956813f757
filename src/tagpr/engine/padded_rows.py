"""Batches of rows, each one prompt with all its completions, padded to one width; a prompt is computed once.

    tokens     p0 p1 p2 | a0 a1 | b0 b1 b2 | pad
    segment     0  0  0 |  1  1 |  2  2  2 | -1
    position    0  1  2 |  3  4 |  3  4  5 |  0

A token sees the prompt and its own completion up to itself, nothing else, so every completion is read as it would be
alone. `shared_prompt` packs the same groups without padding, for log-probabilities; padded rows are for models that put
something of each row's own (a user's vectors) among its tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tagpr.engine.group_attention import Layout, causal, hiding, two_part_attention
from tagpr.engine.shared_prompt import PromptGroup


@dataclass(frozen=True)
class PaddedRows:
    """B groups with N completions in all, padded on the right to T tokens."""

    input_ids: Tensor  # [B, T]
    attention_mask: Tensor  # [B, T]
    segment_ids: Tensor  # [B, T]
    position_ids: Tensor  # [B, T]
    ends: Tensor  # [N, 2]: (row, index of the completion's last token)


def pad_rows(groups: Sequence[PromptGroup], pad_id: int) -> PaddedRows:
    """The tensors of some groups. Completions may not be empty."""
    rows = [_row(group) for group in groups]
    width = max(len(ids) for ids, _, _, _ in rows)
    return PaddedRows(
        torch.tensor([ids + [pad_id] * (width - len(ids)) for ids, _, _, _ in rows]),
        torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _, _, _ in rows]),
        torch.tensor([segments + [-1] * (width - len(segments)) for _, segments, _, _ in rows]),
        torch.tensor([positions + [0] * (width - len(positions)) for _, _, positions, _ in rows]),
        torch.tensor([(row, end) for row, (_, _, _, ends) in enumerate(rows) for end in ends]),
    )


def _row(group: PromptGroup) -> tuple[list[int], list[int], list[int], list[int]]:
    start = len(group.prompt)
    ids, segments, positions = list(group.prompt), [0] * start, list(range(start))
    ends = []
    for number, completion in enumerate(group.completions, start=1):
        ids += completion
        segments += [number] * len(completion)
        positions += range(start, start + len(completion))
        ends.append(len(ids) - 1)
    return ids, segments, positions, ends


def padded_batches(lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Indices by falling length, in batches whose padded size stays under `token_budget` (at least one per batch)."""
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    batch: list[int] = []
    for index in order:
        if batch and lengths[batch[0]] * (len(batch) + 1) > token_budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


GATHERED = 2048
"""Longest rows whose completions are gathered: the scores in memory grow with the square of it."""


def padded_layout(segment_ids: Tensor, position_ids: Tensor, dtype: torch.dtype) -> Layout:
    """The attention of padded rows, segment_ids and position_ids [B, T], for a model that computes in `dtype`.

    In bf16 a CPU's plain products are faster than its fused kernel; everything else has that, which keeps no scores.
    """
    if segment_ids.device.type == "cpu" and dtype == torch.bfloat16 and segment_ids.shape[1] <= GATHERED:
        return GatheredLayout(segment_ids)
    return MaskedLayout(segment_ids, position_ids)


class MaskedLayout:
    """Attention of padded rows: causal and unmasked over what is prompt in every row, masked only for what follows.

    A dense mask over a long prompt costs twice the causal kernel's work. Here the first S tokens of every row are known
    to be prompt (S is the shortest prompt of the batch), so that only the remaining queries need a mask.
    """

    def __init__(self, segment_ids: Tensor, position_ids: Tensor) -> None:
        """segment_ids, position_ids [B, T]; every row starts with its prompt, in order."""
        start = int((segment_ids == 0).sum(-1).min())
        asking, at = segment_ids[:, start:, None], position_ids[:, start:, None]  # [B, T - S, 1]
        same = (segment_ids[:, None, :] == asking) | (segment_ids[:, None, :] == 0)
        seen = same & (segment_ids[:, None, :] >= 0) & (position_ids[:, None, :] <= at)
        self.start, self.mask = start, seen[:, None]  # [B, 1, T - S, T], True where query (dim 2) may see key (dim 3)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None) -> Tensor:
        """q [B, H, T, D], k and v [B, Hkv, T, D] -> [B, T, H, D]. Raises RuntimeError for a model that caps scores."""
        if softcap is not None:
            raise RuntimeError("padded rows have no attention softcap")
        repeat = q.shape[1] // k.shape[1]
        if repeat > 1:
            k, v = k.repeat_interleave(repeat, dim=1), v.repeat_interleave(repeat, dim=1)
        start, parts = self.start, []
        if start:
            first = slice(0, start)
            parts.append(
                F.scaled_dot_product_attention(
                    q[:, :, first], k[:, :, first], v[:, :, first], is_causal=True, scale=scale
                )
            )
        if start < q.shape[2]:
            parts.append(F.scaled_dot_product_attention(q[:, :, start:], k, v, self.mask, scale=scale))
        return torch.cat(parts, dim=2).transpose(1, 2).contiguous()


class GatheredLayout:
    """Attention of padded rows by plain products: completions are gathered side by side, so that no score is computed
    that a mask would hide. All scores of a layer are in memory at once.
    """

    def __init__(self, segment_ids: Tensor) -> None:
        """segment_ids [B, T]: 0 a prompt, 1, 2, ... its completions in order, -1 padding; prompts come first."""
        batch, width = segment_ids.shape
        device = segment_ids.device
        prompts = (segment_ids == 0).sum(-1)  # [B]
        numbers = torch.arange(1, int(segment_ids.max()) + 1, device=device)
        member = segment_ids[:, None] == numbers[:, None]  # [B, G, T]
        sizes, starts = member.sum(-1), member.int().argmax(-1)  # [B, G]
        self.prompt, self.completions = int(prompts.max()), len(numbers)
        self.longest = int(sizes.max()) if len(numbers) else 0
        steps = torch.arange(self.longest, device=device)
        rows = torch.arange(batch, device=device)
        real = steps < sizes[..., None]  # [B, G, L]
        places = rows[:, None, None] * width + torch.where(real, starts[..., None] + steps, 0)
        self.own = places.flatten()  # where each completion's tokens lie among all B * T; padded ones repeat a token
        # where each token finds its output among the B * P of prompts and the B * G * L of completions
        back = rows[:, None] * self.prompt + torch.arange(width, device=device).clamp(max=self.prompt - 1)
        found = batch * self.prompt + real.flatten().nonzero().squeeze(1)
        self.back = back.flatten().index_put((self.own[real.flatten()],), found)
        dead = torch.arange(self.prompt, device=device) >= prompts[:, None]
        self.prompt_bias = hiding(dead) if bool(dead.any()) else None
        ahead = torch.ones(self.longest, self.longest, dtype=torch.bool, device=device).triu(1)
        self.own_bias = torch.zeros(ahead.shape, device=device).masked_fill(ahead, float("-inf"))[None, None]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None) -> Tensor:
        """q [B, H, T, D], k and v [B, Hkv, T, D] -> [B, T, H, D]."""
        batch, width = q.shape[0], q.shape[2]
        queries, keys, values = (x[:, :, : self.prompt] for x in (q, k, v))
        out = causal(queries, keys, values, scale, softcap).transpose(1, 2).flatten(0, 1)  # [B * P, H, D]
        if self.completions:
            qc, kc, vc = (self._of_completions(x) for x in (q, k, v))
            kc, vc, biases = kc.flatten(0, 1), vc.flatten(0, 1), (self.prompt_bias, self.own_bias)
            answers = two_part_attention(qc, keys, values, kc, vc, scale, softcap, *biases)
            out = torch.cat([out, answers.transpose(2, 3).flatten(0, 2).to(out.dtype)])
        return out.index_select(0, self.back).unflatten(0, (batch, width))

    def _of_completions(self, x: Tensor) -> Tensor:
        """x [B, H, T, D] to [B, G, H, L, D]."""
        picked = x.transpose(1, 2).flatten(0, 1).index_select(0, self.own)
        return picked.unflatten(0, (x.shape[0], self.completions, self.longest)).transpose(2, 3)

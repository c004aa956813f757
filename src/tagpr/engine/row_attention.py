"""Keys and values of sequences decoded side by side, one row each, and the attention of one step over them.

A step is one packed row of tokens: the next token of every running sequence, then stretches of prompts that join.
Linear layers see them all at once and without padding; attention is per row. Nothing here samples or decides what
runs when; see `continuous`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tagpr.engine.group_attention import causal

LENGTHS = 32
"""Rows grow in length by multiples of this."""


class RowCaches:
    """Per layer (rows, Hkv, length, D), allocated at the first use and grown in both directions as needed."""

    def __init__(self) -> None:
        self.rows, self.length = 0, 0
        self.layers: list[tuple[Tensor, Tensor]] = []

    def reserve(self, rows: int, length: int) -> None:
        """Room for so many rows of so many tokens; what is there stays."""
        length = -(-length // LENGTHS) * LENGTHS
        if rows <= self.rows and length <= self.length:
            return
        before = self.rows, self.length
        self.rows = self.rows if rows <= self.rows else max(rows, 2 * self.rows)  # seldom, since all is copied
        self.length = max(length, self.length)
        self.layers = [(self._grown(k, *before), self._grown(v, *before)) for k, v in self.layers]

    def _grown(self, old: Tensor, rows: int, length: int) -> Tensor:
        new = old.new_zeros(self.rows, old.shape[1], self.length, old.shape[3])
        new[:rows, :, :length] = old
        return new

    def layer(self, index: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer; `like` (1, Hkv, N, D) gives heads, width, dtype and device at the first use."""
        while index >= len(self.layers):
            k = like.new_zeros(self.rows, like.shape[1], self.length, like.shape[3])
            self.layers.append((k, torch.zeros_like(k)))
        return self.layers[index]

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy the first `tokens` of a row to another row."""
        if source != target:
            for pair in self.layers:
                for x in pair:
                    x[target, :, :tokens] = x[source, :, :tokens]

    def read(self, row: int, start: int, end: int) -> Tensor:
        """Keys and values of a stretch of a row, (layers, 2, Hkv, end - start, D)."""
        return torch.stack([torch.stack([x[row, :, start:end] for x in pair]) for pair in self.layers])

    def write(self, row: int, keys_values: Tensor) -> None:
        """Put keys and values (layers, 2, Hkv, n, D) at the beginning of a row."""
        n = keys_values.shape[3]
        for index, own in enumerate(keys_values):
            for x, new in zip(self.layer(index, own[:1]), own, strict=True):
                x[row, :, :n] = new


@dataclass(frozen=True)
class Stretch:
    """`tokens` tokens of a prompt that go to `row` behind the `start` that are there."""

    row: int
    start: int
    tokens: int


class StepLayout:
    """The next token of rows 0 to R - 1, then stretches of prompts.

    lengths (R,): tokens that the rows hold already, the first prompts (R,) of them their prompts'. dtype: the model's.
    """

    def __init__(
        self, caches: RowCaches, lengths: Tensor, prompts: Tensor, stretches: Sequence[Stretch], dtype: torch.dtype
    ) -> None:
        self.caches, self.lengths, self.stretches = caches, lengths, stretches
        self.rows = torch.arange(len(lengths), device=lengths.device)
        longest = int(lengths.max()) + 1 if len(lengths) else 0
        # Whole rows, if most of their length is used: a product would first copy what it is given a part of.
        self.longest = caches.length if 2 * longest > caches.length else longest
        places = torch.arange(self.longest, device=lengths.device)[None]
        bias = torch.zeros(len(lengths), self.longest, dtype=dtype, device=lengths.device)
        self.bias = bias.masked_fill(places > lengths[:, None], float("-inf"))[:, None, None]
        own = places >= prompts[:, None]
        self.parts = torch.stack([~own, own], dim=1).to(dtype)[:, None, :, None]  # (R, 1, 2, 1, longest): 1 or 0
        """Which places are the prompt's, and which the completion's own."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None) -> Tensor:
        """q (1, H, N, D), k and v (1, Hkv, N, D) of the packed row -> (1, N, H, D)."""
        keys, values = self.caches.layer(layer, k)
        place = len(self.lengths)
        parts = [self._next(q, k, v, keys, values, scale, softcap)] if place else []
        for one in self.stretches:
            own = slice(place, place + one.tokens)
            end = one.start + one.tokens
            keys[one.row, :, one.start : end] = k[0, :, own]
            values[one.row, :, one.start : end] = v[0, :, own]
            row = slice(one.row, one.row + 1)
            out = causal(q[:, :, own], keys[row, :, :end], values[row, :, :end], scale, softcap, one.start)
            parts.append(out.transpose(1, 2))
            place = own.stop
        return torch.cat(parts, dim=1)

    def _next(
        self, q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, scale: float, softcap: float | None
    ) -> Tensor:
        count, heads = len(self.lengths), keys.shape[1]
        keys[self.rows, :, self.lengths] = k[0, :, :count].transpose(0, 1)
        values[self.rows, :, self.lengths] = v[0, :, :count].transpose(0, 1)
        queries = q[0, :, :count].transpose(0, 1).unflatten(1, (heads, -1)) * scale  # (R, Hkv, H / Hkv, D)
        scores = torch.matmul(queries, keys[:count, :, : self.longest].transpose(-1, -2))
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        weights = torch.softmax(scores + self.bias, dim=-1)
        # In two parts, as `generation` does it: in bf16 a served answer is then rounded like the evaluation's.
        parts = (weights[:, :, None] * self.parts).flatten(2, 3)  # (R, Hkv, 2 * H / Hkv, longest)
        of_prompt, own = torch.matmul(parts, values[:count, :, : self.longest]).chunk(2, dim=2)
        return (of_prompt + own).flatten(1, 2)[None]

"""The key/value caches of grouped decoding and the two attention layouts that use them: prefill and one decoding step.

A slot is one prompt with up to G completions. Its prompt's keys and values are stored once, its completions' in rows of
their own, all preallocated and written in place. Nothing here samples or decides what runs when; see `generation`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from tagpr.engine.group_attention import causal, hiding, two_part_attention

LENGTHS = 32
"""Completions' rows grow in length by multiples of this, if they grow."""


class Caches:
    """Keys and values of `slots` prompts (up to `prompt_length`) with `samples` completions each (up to `steps`)."""

    def __init__(self, slots: int, samples: int, prompt_length: int, steps: int, growing: bool = False) -> None:
        """growing: the completions' rows begin short and are lengthened as needed, so that steps read whole rows.

        A CPU's product in bf16 first copies what it is given a part of.
        """
        self.slots, self.samples, self.prompt_length, self.steps = slots, samples, prompt_length, steps
        self.growing, self.length = growing, min(LENGTHS, steps) if growing else steps
        self.prompt: list[tuple[Tensor, Tensor]] = []  # per layer, (slots, Hkv, P, D)
        self.own: list[tuple[Tensor, Tensor]] = []  # per layer, (slots * samples, Hkv, T, D)

    def layer(self, index: int, like: Tensor) -> None:
        """Allocate layer `index` at its first use; `like` (1, Hkv, N, D) gives heads, width, dtype and device."""
        if index < len(self.prompt):
            return
        heads, width = like.shape[1], like.shape[3]
        for store, rows, length in (
            (self.prompt, self.slots, self.prompt_length),
            (self.own, self.slots * self.samples, self.length),
        ):
            k = torch.zeros(rows, heads, length, width, dtype=like.dtype, device=like.device)
            store.append((k, torch.zeros_like(k)))

    def reserve(self, tokens: int) -> None:
        """Room for so many tokens of every completion; what is there stays."""
        if tokens > self.length:
            more = min(self.steps, -(-tokens // LENGTHS) * LENGTHS) - self.length
            self.own = [(pad(k, (0, 0, 0, more)), pad(v, (0, 0, 0, more))) for k, v in self.own]
            self.length += more

    def keep(self, slots: Tensor) -> None:
        """Only keep these slots, in this order."""
        rows = (slots[:, None] * self.samples + torch.arange(self.samples, device=slots.device)).flatten()
        self.prompt = [(k[slots], v[slots]) for k, v in self.prompt]
        self.own = [(k[rows], v[rows]) for k, v in self.own]
        self.slots = len(slots)


class PrefixLayout:
    """The tokens that all prompts begin with, run once: their keys go to every slot."""

    def __init__(self, caches: Caches, length: int) -> None:
        self.caches, self.length = caches, length

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None) -> Tensor:
        """q, k, v (1, H or Hkv, L, D)."""
        self.caches.layer(layer, k)
        for store, new in zip(self.caches.prompt[layer], (k, v), strict=True):
            store[:, :, : self.length] = new
        return causal(q, k, v, scale, softcap).transpose(1, 2)


class PrefillLayout:
    """Prompts of some slots after a common prefix of `offset` tokens, right-padded to one length in a (b, L) batch."""

    def __init__(self, caches: Caches, slots: Tensor, offset: int) -> None:
        self.caches, self.slots, self.offset = caches, slots, offset

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None) -> Tensor:
        """q (b, H, L, D), k and v (b, Hkv, L, D)."""
        self.caches.layer(layer, k)
        length = k.shape[2]
        stores = self.caches.prompt[layer]
        for store, new in zip(stores, (k, v), strict=True):
            store[self.slots, :, self.offset : self.offset + length] = new
        if self.offset:
            first = slice(0, 1)
            k, v = (
                torch.cat([store[first, :, : self.offset].expand(k.shape[0], -1, -1, -1), new], dim=2)
                for store, new in zip(stores, (k, v), strict=True)
            )
        return causal(q, k, v, scale, softcap, self.offset).transpose(1, 2)


class StepLayout:
    """One token of every active row. rows (R,): slot * samples + sample; counts (R,): own tokens already cached."""

    def __init__(self, caches: Caches, rows: Tensor, counts: Tensor, prompt_lengths: Tensor) -> None:
        self.caches, self.rows, self.counts = caches, rows, counts
        self.all_rows = len(rows) == caches.slots * caches.samples
        slot_lengths = prompt_lengths[: caches.slots]
        self.p = int(slot_lengths.max())
        if caches.growing and 2 * self.p > caches.prompt_length:  # a copy would cost more than the rest of the row
            self.p = caches.prompt_length
        tokens = int(counts.max()) + 1
        caches.reserve(tokens)
        self.t = caches.length if caches.growing else tokens
        device = rows.device
        dead = torch.arange(self.p, device=device)[None] >= slot_lengths[:, None]
        self.prompt_bias = hiding(dead) if bool(dead.any()) else None
        seen = torch.zeros(caches.slots * caches.samples, dtype=torch.long, device=device)
        seen[rows] = counts
        hidden = torch.arange(self.t, device=device)[None] > seen[:, None]
        self.own_bias = hiding(hidden) if bool(hidden.any()) else None

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None) -> Tensor:
        """q (1, H, R, D), k and v (1, Hkv, R, D)."""
        c = self.caches
        own_k, own_v = c.own[layer]
        own_k[self.rows, :, self.counts] = k[0].transpose(0, 1)
        # a model in training may run under autocast, whose values are bf16 while rotated keys are not
        own_v[self.rows, :, self.counts] = v[0].transpose(0, 1).to(own_v.dtype)
        queries = q[0].transpose(0, 1)  # (R, H, D)
        if not self.all_rows:
            full = queries.new_zeros(c.slots * c.samples, *queries.shape[1:])
            full[self.rows] = queries
            queries = full
        prompt_k, prompt_v = c.prompt[layer]
        out = two_part_attention(
            queries.unflatten(0, (c.slots, c.samples)).unsqueeze(3),
            prompt_k[:, :, : self.p],
            prompt_v[:, :, : self.p],
            own_k[:, :, : self.t],
            own_v[:, :, : self.t],
            scale,
            softcap,
            self.prompt_bias,
            self.own_bias,
        )
        out = out.flatten(0, 1).squeeze(2)  # (slots * samples, H, D)
        return (out if self.all_rows else out[self.rows]).unsqueeze(0)

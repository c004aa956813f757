"""Drawing the next token so that a sample depends on its prompt, its number and the seed alone, not on the batch.

Each (prompt, sample) has its own stream of uniform numbers, one per step. The number, found in the cumulative
distribution, is the token: one random number per step instead of one per vocabulary entry.
"""

from __future__ import annotations

import hashlib
import struct
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor


def seeds_of(prompts: Sequence[Sequence[int]], seed: int) -> list[int]:
    """A 31-bit seed for each prompt of a call, for engines that draw themselves; equal prompts get different ones."""
    seen: Counter[tuple[int, ...]] = Counter()
    seeds = []
    for prompt in prompts:
        key = tuple(prompt)
        seeds.append(int.from_bytes(_digest(key, seen[key], 0, seed), "little") >> 33)
        seen[key] += 1
    return seeds


def uniforms(prompt: Sequence[int], occurrence: int, sample: int, seed: int, steps: int) -> Tensor:
    """(steps,) numbers in [0, 1) for one sample of one prompt; `occurrence` tells equal prompts of one call apart."""
    digest = _digest(prompt, occurrence, sample, seed)
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
    return torch.rand(steps, generator=generator)


def _digest(prompt: Sequence[int], occurrence: int, sample: int, seed: int) -> bytes:
    digest = hashlib.blake2b(digest_size=8)
    digest.update(struct.pack("<qqq", seed, occurrence, sample))
    digest.update(struct.pack(f"<{len(prompt)}q", *prompt))
    return digest.digest()


CPU_NUMBERS = 2**18
"""Most logits that a CPU works on at a time: 1 MiB in fp32 stays in its cache, and blocks of memory larger than
malloc keeps would be fetched from the system, page by page, at every step."""


def choose(logits: Tensor, numbers: Tensor, temperature: float, top_p: float) -> Tensor:
    """The next token of each row, (R,), from logits (R, V) and this step's uniform numbers (R,).

    temperature 0 is greedy. top_p < 1 keeps the smallest set of tokens whose probability reaches top_p.
    """
    rows = max(1, CPU_NUMBERS // logits.shape[1]) if logits.device.type == "cpu" else len(logits)
    parts = zip(logits.split(rows), numbers.split(rows), strict=True)
    return torch.cat([_choose(some, own, temperature, top_p) for some, own in parts])


def _choose(logits: Tensor, numbers: Tensor, temperature: float, top_p: float) -> Tensor:
    logits = logits.float()  # in bf16 argmax is slower than this copy and fp32's
    if temperature == 0:
        return logits.argmax(-1)
    probabilities = torch.softmax(logits if temperature == 1.0 else logits / temperature, dim=-1)
    if top_p < 1.0:
        ordered, index = probabilities.sort(dim=-1, descending=True)
        ordered[ordered.cumsum(-1) - ordered >= top_p] = 0.0
        total = ordered.cumsum(-1)
        place = torch.searchsorted(total, (numbers * total[:, -1])[:, None], right=True)
        return index.gather(1, place.clamp(max=logits.shape[1] - 1)).squeeze(1)
    total = probabilities.cumsum(-1)
    place = torch.searchsorted(total, (numbers * total[:, -1])[:, None], right=True).squeeze(1)
    return place.clamp(max=logits.shape[1] - 1)

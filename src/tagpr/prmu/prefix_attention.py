"""Attention for rows that begin with a prompt: causal and unmasked over the prompt, masked only for what follows.

A dense mask over a long prompt costs twice the causal kernel's work. Here the first S tokens of every row are known to
be prompt (S is the shortest prompt of the batch), so that only the remaining queries need a mask.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "tagpr_prefix"


def prefix_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """query [B, H, T, D], key and value [B, Hkv, T, D]; attention_mask [B, 1, T - S, T] for the last T - S queries."""
    repeat = query.shape[1] // key.shape[1]
    if repeat > 1:
        key, value = key.repeat_interleave(repeat, dim=1), value.repeat_interleave(repeat, dim=1)
    start = query.shape[2] - attention_mask.shape[2]
    parts = []
    if start:
        head = (part[:, :, :start] for part in (query, key, value))
        parts.append(F.scaled_dot_product_attention(*head, is_causal=True, scale=scaling, dropout_p=dropout))
    if start < query.shape[2]:
        tail = query[:, :, start:]
        parts.append(F.scaled_dot_product_attention(tail, key, value, attention_mask, scale=scaling, dropout_p=dropout))
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


ALL_ATTENTION_FUNCTIONS.register(NAME, prefix_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, sdpa_mask)  # never called: masks are given whole


def prefix_mask(segments: Tensor, positions: Tensor) -> Tensor:
    """[B, 1, T - S, T], True where query (dim 2) may see key (dim 3): the prompt, or its own completion, up to itself.

    segments, positions [B, T] as in `tagpr.prmu.packing`; every row starts with its prompt, in order.
    """
    start = int((segments == 0).sum(-1).min())
    asking, at = segments[:, start:, None], positions[:, start:, None]  # [B, T - S, 1]
    same = (segments[:, None, :] == asking) | (segments[:, None, :] == 0)
    seen = same & (segments[:, None, :] >= 0) & (positions[:, None, :] <= at)
    return seen[:, None]

"""Attention that knows which tokens share a prompt, plugged into any transformers decoder by name.

`with group_attention(model): model(..., group_attention=layout)` sends every attention layer to `layout.attend`. The
layouts live elsewhere: one row of packed groups with gradient (`shared_prompt`), padded rows of groups (`padded_rows`)
and cached decoding (`decoding`). This file holds what they need: the registration, grouped-query shapes, and a softmax
over keys that lie in two places (the prompt's and a completion's own) so that the prompt's keys are never copied once
per completion.

On CPUs the fused bf16 kernel is slower than its fp32 one, and than plain matrix products if many queries share their
keys (measured in docs/engine.md), which is why causal attention is computed in fp32 there and the rest by products.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "tagpr_group"
_QUERIES = 64
"""Queries of one masked attention on a CPU: the kernel computes what a mask hides, so later keys are left out."""


class Layout(Protocol):
    """Where each token of a forward pass belongs. `attend` gets q (B, H, N, D), k and v (B, Hkv, N, D)."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None) -> Tensor:
        """The attention output, (B, N, H, D)."""
        ...


def _forward(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    group_attention: Layout | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    if group_attention is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, softcap=softcap, **others
        )
    if dropout:
        raise RuntimeError("group attention has no attention dropout; set attention_dropout to 0")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return group_attention.attend(cast("int", module.layer_idx), query, key, value, scale, softcap), None


ALL_ATTENTION_FUNCTIONS.register(NAME, _forward)
_inside = contextvars.ContextVar("tagpr_group_attention", default=False)


def _mask(*args: Any, **kwargs: Any) -> Tensor | None:
    return None if _inside.get() else sdpa_mask(*args, **kwargs)  # layouts know their masks


ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, _mask)


@contextlib.contextmanager
def masks_left_to_layouts() -> Iterator[None]:
    """No attention masks are built inside, for models whose attention implementation is NAME for good."""
    token = _inside.set(True)
    try:
        yield
    finally:
        _inside.reset(token)


@contextlib.contextmanager
def group_attention(model: torch.nn.Module) -> Iterator[None]:
    """Route the attention of `model` (a decoder, wrapped or not) to the layout passed as `group_attention=`.

    Under gradient checkpointing the route stays set afterwards, because layers run again during backward; calls without
    a layout then go to SDPA as before.
    """
    configs = {id(m.config): m.config for m in model.modules() if isinstance(m, PreTrainedModel)}
    before = {key: config._attn_implementation for key, config in configs.items()}
    for config in configs.values():
        config._attn_implementation_internal = NAME
    try:
        with masks_left_to_layouts():
            yield
    finally:
        if not (torch.is_grad_enabled() and checkpointed(model)):
            for key, config in configs.items():
                config._attn_implementation_internal = before[key]


def checkpointed(model: torch.nn.Module) -> bool:
    """Whether the model recomputes its layers during backward."""
    return model.training and any(getattr(m, "gradient_checkpointing", False) for m in model.modules())


def why_not_shared(model: PreTrainedModel, longest: int) -> str | None:
    """Why prompts cannot be shared in `model` for sequences of up to `longest` tokens; None if they can."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds - {"full_attention", "sliding_attention"}:
        return f"{config.model_type} has {', '.join(sorted(kinds))} layers"
    window = getattr(config, "sliding_window", None)
    sliding = "sliding_attention" in kinds or (getattr(config, "use_sliding_window", True) and window)
    if sliding and window and longest > window:
        return f"{config.model_type} attends within a window of {window} tokens, and sequences have up to {longest}"
    if getattr(config, "is_encoder_decoder", False):
        return f"{config.model_type} is an encoder-decoder"
    if not getattr(model, "_supports_attention_backend", True):
        return f"{config.model_type} does not let its attention be replaced"
    if checkpointed(model) and model.config._attn_implementation not in ("sdpa", NAME):
        return "gradient checkpointing needs attn_implementation='sdpa'"
    if any(
        getattr(config, key, None) not in (None, 1.0) for key in ("logit_scale", "logits_scaling", "lm_head_multiplier")
    ):
        return f"{config.model_type} scales its logits"
    if getattr(config, "attention_dropout", 0.0):
        return f"{config.model_type} is set to drop out attention"
    return None


def causal(q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None, offset: int = 0) -> Tensor:
    """Causal attention of q (B, H, L, D) to k, v (B, Hkv, offset + L, D); the last L keys are the queries' own.

    Right padding needs no mask: a real query never sees a later key.
    """
    rep = q.shape[1] // k.shape[1]
    if q.device.type == "cpu" and (v.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu")):
        with torch.autocast("cpu", enabled=False):
            return causal(q.float(), k.float(), v.float(), scale, softcap, offset).to(v.dtype)
    if rep > 1:
        k, v = k.repeat_interleave(rep, dim=1), v.repeat_interleave(rep, dim=1)
    if softcap is None and offset == 0:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    length = q.shape[2]
    mask = torch.ones(length, offset + length, dtype=torch.bool, device=q.device).tril(offset)
    if softcap is None:
        size = _QUERIES if q.device.type == "cpu" else length
        blocks = [(slice(i, i + size), slice(offset + i + size)) for i in range(0, length, size)]  # queries, their keys
        parts = [
            F.scaled_dot_product_attention(
                q[:, :, own], k[:, :, seen], v[:, :, seen], attn_mask=mask[own, seen], scale=scale
            )
            for own, seen in blocks
        ]
        return torch.cat(parts, dim=2)
    scores = torch.tanh(q @ k.transpose(-1, -2) * (scale / softcap)) * softcap
    return torch.softmax(scores.masked_fill(~mask, float("-inf")), dim=-1) @ v


def hiding(keys: Tensor) -> Tensor:
    """What is added to the scores so that these keys are not seen: keys (B, P) -> (B, 1, 1, P)."""
    return torch.zeros(keys.shape, device=keys.device).masked_fill(keys, float("-inf"))[:, None, None]


def two_part_attention(
    q: Tensor,
    prompt_k: Tensor,
    prompt_v: Tensor,
    own_k: Tensor,
    own_v: Tensor,
    scale: float,
    softcap: float | None,
    prompt_bias: Tensor | None,
    own_bias: Tensor | None,
) -> Tensor:
    """One softmax over a prompt's keys and a completion's own, without copying the prompt's keys per completion.

    q (B, G, H, L, D): L queries of G completions of B prompts; prompt_k/v (B, Hkv, P, D); own_k/v (B * G, Hkv, T, D).
    Biases are added to the scores: prompt_bias broadcasts to (B, 1, 1, P), own_bias to (B * G, 1, L, T).
    Returns (B, G, H, L, D).
    """
    b, g, h, length, d = q.shape
    kv, p, t = prompt_k.shape[1], prompt_k.shape[2], own_k.shape[2]
    rep = h // kv
    # All queries of a group that read the same key head form one matrix: (B, Hkv, G * rep * L, D).
    stacked = (q * scale).view(b, g, kv, rep, length, d)
    by_group = stacked.transpose(1, 2).reshape(b, kv, g * rep * length, d)
    to_prompt = torch.matmul(by_group, prompt_k.transpose(-1, -2))
    own = stacked.reshape(b * g, kv, rep * length, d)
    to_own = torch.matmul(own, own_k.transpose(-1, -2))
    if softcap is not None:
        to_prompt, to_own = (torch.tanh(scores / softcap) * softcap for scores in (to_prompt, to_own))
    if prompt_bias is not None:
        to_prompt = to_prompt + prompt_bias.to(to_prompt.dtype)
    if own_bias is not None:
        to_own = (to_own.view(b * g, kv, rep, length, t) + own_bias.to(to_own.dtype).unsqueeze(2)).view_as(to_own)
    # Back to one row per query so that the softmax runs over both parts at once: (B * G, Hkv, rep * L, P + T).
    prompt_rows = to_prompt.view(b, kv, g, rep * length, p).transpose(1, 2).reshape(b * g, kv, rep * length, p)
    weights = torch.softmax(torch.cat([prompt_rows, to_own], dim=-1), dim=-1).to(q.dtype)
    on_prompt = weights[..., :p].view(b, g, kv, rep * length, p).transpose(1, 2).reshape(b, kv, g * rep * length, p)
    from_prompt = torch.matmul(on_prompt, prompt_v).view(b, kv, g, rep, length, d).transpose(1, 2)
    from_own = torch.matmul(weights[..., p:], own_v).view(b, g, kv, rep, length, d)
    return (from_prompt + from_own).reshape(b, g, h, length, d)

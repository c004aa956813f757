"""log p of chosen tokens from hidden states, a chunk of positions at a time.

The logits of a chunk exist only while the chunk is computed, in forward and again in backward; what is kept between is
one number per position. Gradients reach hidden states, the head's weight and its bias.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 1 << 25
"""Logits of one chunk (positions x vocabulary): 64 MiB in bf16."""


def token_logprobs(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    temperature: float = 1.0,
    softcap: float | None = None,
    with_entropy: bool = False,
) -> tuple[Tensor, Tensor]:
    """(log p(targets), entropy), each (K,) fp32, of softmax(hidden @ weight.T + bias) at `temperature`.

    hidden (K, H), weight (V, H), bias (V,) or None, targets (K,). Entropy is zeros unless requested; no gradient.
    """
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
        bias = bias if bias is None else bias.to(dtype)
    with torch.autocast(device, enabled=False):
        return _TokenLogprobs.apply(hidden, weight, bias, targets, temperature, softcap, with_entropy)


def _logits(h: Tensor, weight: Tensor, bias: Tensor | None, temperature: float, softcap: float | None) -> Tensor:
    logits = F.linear(h, weight, bias)
    if softcap is not None:
        logits = torch.tanh(logits / softcap) * softcap
    return logits if temperature == 1.0 else logits / temperature


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: float,
        softcap: float | None,
        with_entropy: bool,
    ) -> tuple[Tensor, Tensor]:
        size = max(1, CHUNK // weight.shape[0])
        logps, entropies = [], []
        for h, t in zip(hidden.split(size), targets.split(size), strict=True):
            logits = _logits(h, weight, bias, temperature, softcap)
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            lse = torch.logsumexp(logits, dim=-1)
            logps.append(logits.gather(1, t[:, None]).squeeze(1) - lse)
            if with_entropy:
                p = torch.softmax(logits, dim=-1)
                entropies.append(lse - torch.linalg.vecdot(p, logits))
        ctx.save_for_backward(hidden, weight, bias, targets)
        ctx.settings = (temperature, softcap, size)
        logp = torch.cat(logps)
        entropy = torch.cat(entropies) if with_entropy else torch.zeros_like(logp)
        ctx.mark_non_differentiable(entropy)
        return logp, entropy

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        grad = grad_outputs[0]  # of the log-probs; the entropies have none
        hidden, weight, bias, targets = ctx.saved_tensors
        temperature, softcap, size = ctx.settings
        need_h, need_w, need_b = ctx.needs_input_grad[:3]
        grads_h = []
        grad_w: Tensor | None = None
        grad_b = torch.zeros_like(bias, dtype=torch.float32) if need_b and bias is not None else None
        for h, t, g in zip(hidden.split(size), targets.split(size), grad.split(size), strict=True):
            logits = _logits(h, weight, bias, temperature, softcap)
            # d logp / d logits = onehot(target) - softmax, scaled by the incoming gradient; in place, in one dtype.
            d = torch.softmax(logits, dim=-1).mul_(-g[:, None].to(logits.dtype) / temperature)
            d.scatter_add_(1, t[:, None], g[:, None].to(d.dtype) / temperature)
            if softcap is not None:
                d = d * (1 - (logits * temperature / softcap) ** 2)
            if need_h:
                grads_h.append(d @ weight)
            if need_w:
                part = d.t() @ h
                grad_w = part if grad_w is None else grad_w.add_(part)
            if grad_b is not None:
                grad_b += d.sum(0, dtype=torch.float32)
        return (
            torch.cat(grads_h) if need_h else None,
            grad_w,
            grad_b.to(bias.dtype) if grad_b is not None and bias is not None else None,
            None,
            None,
            None,
            None,
        )

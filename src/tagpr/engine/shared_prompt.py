"""Exact log-probabilities, with gradient, of several completions per prompt; each prompt runs through the model once.

A micro-batch is one packed row: the opening that all its prompts share (the task's instructions), then the rest of each
prompt, then all completions. Tokens are never padded in the linear layers; attention pads to the longest prompt and
completion of the micro-batch only. Logits exist for completion positions alone, a chunk at a time. Works under DDP and
gradient checkpointing, with LoRA and tied embeddings.

It does not decide micro-batches' order or what the loss is; see `tagpr.training.gspo`.

    logps = completion_logprobs(model, [PromptGroup(prompt_ids, [c1, c2, c3])])   # list of (C_i,) tensors, in order
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tagpr.engine.group_attention import causal, group_attention, two_part_attention, why_not_shared
from tagpr.engine.models import embedding_weight, inner_model, output_head
from tagpr.engine.token_logprobs import token_logprobs
from tagpr.errors import ModelError


@dataclass(frozen=True)
class PromptGroup:
    """One prompt and its completions, in token ids. Completions may be empty lists; prompts may not."""

    prompt: Sequence[int]
    completions: Sequence[Sequence[int]]

    @property
    def tokens(self) -> int:
        """Tokens the packed forward pass computes for this group (a completion's last token is only a target)."""
        return len(self.prompt) + sum(max(len(c) - 1, 0) for c in self.completions)


def micro_batches(groups: Sequence[PromptGroup], budget: int, device: torch.device) -> list[list[int]]:
    """Indices of `groups` in micro-batches of at most `budget` tokens, an opening that the row shares counted once.

    Prompts that open alike come together, and among them similar lengths. A group over the budget is a micro-batch of
    its own. The order is deterministic. device: where they will be computed, by which openings are shared or not.
    """
    order = sorted(range(len(groups)), key=lambda i: (tuple(groups[i].prompt[:_ALIKE]), -len(groups[i].prompt), i))
    batches: list[list[int]] = []
    used = opening = shared = together = 0
    joined = False
    for i in order:
        tokens = groups[i].tokens
        if batches:
            alike = [groups[batches[-1][0]].prompt[: opening + 1], groups[i].prompt]
            joined = joined and _is_joined([groups[i]], device)
            shared = 0 if joined else common_opening(alike)
            together = used + opening * (len(batches[-1]) - 1) + tokens - shared * len(batches[-1])
        if not batches or together > budget:
            batches.append([i])
            used, opening, joined = tokens, len(groups[i].prompt) - 1, _is_joined([groups[i]], device)
        else:
            batches[-1].append(i)
            used, opening = together, shared
    return batches


_ALIKE = 64  # tokens by which prompts are sorted: instructions differ early, histories later


def common_opening(prompts: Sequence[Sequence[int]]) -> int:
    """Tokens that all prompts begin with, leaving each at least one of its own; 0 for a single prompt."""
    if len(prompts) < 2:
        return 0
    first, last = min(map(list, prompts)), max(map(list, prompts))  # the two that differ earliest
    limit = min(len(prompt) for prompt in prompts) - 1
    return next((i for i in range(limit) if first[i] != last[i]), limit)


def few_launches(device: torch.device) -> bool:
    """Whether few kernels matter more than few tokens: on a GPU, which computes sooner than the host launches."""
    return device.type == "cuda"


def _is_joined(groups: Sequence[PromptGroup], device: torch.device) -> bool:
    """Whether each completion goes on from its prompt as one sequence, and no opening is shared."""
    return few_launches(device) and all(len(group.completions) < 2 for group in groups)


class PackedLayout:
    """Index tensors of one packed row [opening | prompts after it | completion inputs] and its attention."""

    def __init__(self, groups: Sequence[PromptGroup], device: torch.device) -> None:
        joined = _is_joined(groups, device)
        self.opening = 0 if joined else common_opening([group.prompt for group in groups])
        prompts = [list(group.prompt)[self.opening :] for group in groups]
        last = [len(prompt) - 1 for prompt in prompts]  # where in its prompt a completion's first token is predicted
        rows = [(b, list(c)) for b, group in enumerate(groups) for c in group.completions if len(c)]
        targets = [token for _, completion in rows for token in completion]
        alone = rows if joined else []
        if joined:
            rows = []
            for b, completion in alone:
                prompts[b] += completion[:-1]
        slots = max(sum(1 for row, _ in rows if row == b) for b in range(len(groups))) if rows else 0
        self.shape = (len(groups), max(map(len, prompts)), slots, max((len(c) - 1 for _, c in rows), default=0))
        n, p_max, g, t_max = self.shape
        flat = list(groups[0].prompt[: self.opening])
        positions = list(range(self.opening))
        starts = []
        for prompt in prompts:
            starts.append(len(flat))
            flat += prompt
            positions += range(self.opening, self.opening + len(prompt))
        self.prompt_tokens = len(flat)
        pads = torch.zeros(n, p_max, dtype=torch.long)
        for b, prompt in enumerate(prompts):
            pads[b, : len(prompt)] = torch.arange(starts[b], starts[b] + len(prompt))
        prompt_lengths = torch.tensor([len(prompt) for prompt in prompts])
        own = torch.zeros(n, g, t_max, dtype=torch.long)
        back: list[int] = []  # where each flat token finds its output among the padded ones
        predict_from = [starts[b] + last[b] + i for b, completion in alone for i in range(len(completion))]
        filled = [0] * n
        for b, completion in rows:
            inputs = completion[:-1]
            start = len(flat)
            own[b, filled[b], : len(inputs)] = torch.arange(start, start + len(inputs))
            base = (b * g + filled[b]) * t_max
            back += range(base, base + len(inputs))
            predict_from += [starts[b] + last[b], *range(start, start + len(inputs))]
            flat += inputs
            after = self.opening + len(prompts[b])
            positions += range(after, after + len(inputs))
            filled[b] += 1
        self.input_ids = torch.tensor([flat], device=device)
        self.position_ids = torch.tensor([positions], device=device)
        self.targets = torch.tensor(targets, dtype=torch.long, device=device)
        self.predict_from = torch.tensor(predict_from, dtype=torch.long, device=device)
        self.prompt_index = pads.to(device)
        self.own_index = own.to(device)
        real_prompt = torch.arange(p_max)[None] < prompt_lengths[:, None]
        self.prompt_back = real_prompt.flatten().nonzero().squeeze(1).to(device)
        self.own_back = torch.tensor(back, dtype=torch.long, device=device)
        self.dense_prompts = bool(real_prompt.all())
        self.dense_own = len(back) == own.numel()
        dead = torch.nn.functional.pad(~real_prompt, (self.opening, 0))[:, None, None]
        bias = torch.zeros(dead.shape).masked_fill(dead, float("-inf"))
        self.prompt_bias = None if self.dense_prompts else bias.to(device)
        self.own_bias = torch.full((t_max, t_max), float("-inf")).triu(1)[None, None].to(device)
        self.lengths = [len(c) for group in groups for c in group.completions]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None) -> Tensor:
        """Prompts causally among themselves; completions to their prompt and their own earlier tokens."""
        n, _, g, t_max = self.shape
        opening, split = self.opening, self.prompt_tokens
        qp, kp, vp = (
            self._padded(x[0, :, opening:split], self.prompt_index, self.dense_prompts, opening) for x in (q, k, v)
        )
        parts = []
        if opening:
            qo, ko, vo = (x[:, :, :opening] for x in (q, k, v))
            parts.append(causal(qo, ko, vo, scale, softcap)[0].transpose(0, 1))  # (opening, H, D)
            kp, vp = (torch.cat([x.expand(n, -1, -1, -1), y], dim=2) for x, y in ((ko, kp), (vo, vp)))
        out = causal(qp, kp, vp, scale, softcap, opening).transpose(1, 2).flatten(0, 1)  # (B * P, H, D)
        parts.append(out if self.dense_prompts else out.index_select(0, self.prompt_back))
        if t_max:
            own = self.own_index.flatten(0, 1)
            qc, kc, vc = (self._padded(x[0, :, split:], own, self.dense_own, split) for x in (q, k, v))
            answer = two_part_attention(
                qc.unflatten(0, (n, g)), kp, vp, kc, vc, scale, softcap, self.prompt_bias, self.own_bias
            )
            answer = answer.transpose(2, 3).flatten(0, 2)  # (B * G * T, H, D)
            parts.append(answer if self.dense_own else answer.index_select(0, self.own_back))
        return torch.cat([part.to(parts[0].dtype) for part in parts]).unsqueeze(0)

    @staticmethod
    def _padded(x: Tensor, index: Tensor, dense: bool, offset: int) -> Tensor:
        """x (H, N, D) to (rows, H, length, D); padded places repeat some real token and are masked or never read."""
        if dense:
            return x.unflatten(1, index.shape).transpose(0, 1)
        picked = x.index_select(1, (index - offset).clamp(min=0).flatten())
        return picked.unflatten(1, index.shape).transpose(0, 1)


_SOFTCAP = "final_logit_softcapping"


@contextlib.contextmanager
def _head_replaced(
    model: PreTrainedModel, layout: PackedLayout, entropy: bool, temperature: float, fp32: bool
) -> Iterator[None]:
    """The output head yields (1, K, 1 or 2) log-probs (and entropies) of the targets instead of logits.

    Inside the model's own forward, so that wrappers (DDP, FSDP) see an ordinary forward pass.
    """
    head = output_head(model)
    config = model.config.get_text_config()
    softcap: float | None = getattr(config, _SOFTCAP, None)

    def forward(hidden: Tensor) -> Tensor:
        inputs, weight, bias = hidden[0], head.weight, head.bias
        if fp32:
            inputs, weight, bias = inputs.float(), weight.float(), bias if bias is None else bias.float()
        with torch.autocast(hidden.device.type, enabled=not fp32 and torch.is_autocast_enabled(hidden.device.type)):
            logps, entropies = token_logprobs(
                inputs, weight, bias, layout.targets, temperature, softcap, with_entropy=entropy
            )
        return torch.stack([logps, entropies] if entropy else [logps], dim=-1).unsqueeze(0)

    vars(head)["forward"] = forward
    if softcap is not None:
        setattr(config, _SOFTCAP, None)
    try:
        yield
    finally:
        del vars(head)["forward"]
        if softcap is not None:
            setattr(config, _SOFTCAP, softcap)


def completion_logprobs(
    model: nn.Module,
    groups: Sequence[PromptGroup],
    *,
    temperature: float = 1.0,
    forward: nn.Module | None = None,
    fp32_head: bool = False,
) -> list[Tensor]:
    """log p(c_t | prompt, c_<t) of every completion, (C_i,) fp32 each, in the order of `groups`; with gradient.

    One forward pass: split many groups with `micro_batches` first. `forward` is the wrapper to call (DDP) if it is not
    `model` itself. `fp32_head`: logits in fp32 whatever the model computes in. Raises ModelError for a model whose
    attention cannot be shared (see `why_not_shared`).
    """
    columns, lengths = _packed_forward(model, groups, temperature, False, forward, fp32_head)
    return list(columns[:, 0].split(lengths))


def completion_logprobs_and_entropies(
    model: nn.Module,
    groups: Sequence[PromptGroup],
    *,
    temperature: float = 1.0,
    forward: nn.Module | None = None,
    fp32_head: bool = False,
) -> tuple[list[Tensor], list[Tensor]]:
    """`completion_logprobs`, and the entropy of the distribution at each of their positions (no gradient)."""
    columns, lengths = _packed_forward(model, groups, temperature, True, forward, fp32_head)
    return list(columns[:, 0].split(lengths)), list(columns[:, 1].detach().split(lengths))


def _packed_forward(
    model: nn.Module,
    groups: Sequence[PromptGroup],
    temperature: float,
    entropy: bool,
    forward: nn.Module | None,
    fp32_head: bool = False,
) -> tuple[Tensor, list[int]]:
    """(K, 1 or 2) log-probs (and entropies) of all K completion tokens, and the completions' lengths."""
    base = inner_model(model)
    longest = max(len(group.prompt) + max(map(len, group.completions), default=0) for group in groups)
    if reason := why_not_shared(base, longest):
        raise ModelError(f"this model cannot share prompts: {reason}; train it with TRL's own trainer")
    layout = PackedLayout(groups, embedding_weight(base).device)
    if not layout.targets.numel():
        return torch.zeros(0, 2 if entropy else 1, device=layout.targets.device), layout.lengths
    return packed_forward(model, layout, temperature, entropy, forward, fp32_head), layout.lengths


def packed_forward(
    model: nn.Module,
    layout: PackedLayout,
    temperature: float = 1.0,
    entropy: bool = False,
    forward: nn.Module | None = None,
    fp32_head: bool = False,
) -> Tensor:
    """(K, 1 or 2) log-probs (and entropies) of the layout's K targets, which must not be none, in one forward pass."""
    base = inner_model(model)
    with group_attention(base), _head_replaced(base, layout, entropy, temperature, fp32_head):
        return (forward or model)(
            input_ids=layout.input_ids,
            position_ids=layout.position_ids,
            use_cache=False,
            logits_to_keep=layout.predict_from,
            group_attention=layout,
        ).logits[0]

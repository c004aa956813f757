"""One optimizer step on some groups of a rollout, the old policy's log-probabilities, divergence from a reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tagpr.engine.shared_prompt import PromptGroup, completion_logprobs, micro_batches
from tagpr.training.gspo_objective import Objective
from tagpr.training.launching import summed
from tagpr.training.master_weights import MasterAdamW
from tagpr.training.rollout import Rollout
from tagpr.training.settings import GSPOSettings

Logps = list[list[Tensor]]
"""Per group, per completion: (C_i,) log-probabilities of its tokens."""


class NotFiniteError(Exception):
    """A loss or gradient norm that is no number: the caller saves the batch and stops."""


@dataclass(frozen=True)
class Update:
    """What one update tells the log: sums over this process's completions, and the gradient norm."""

    loss: float
    clipped: float
    outside: float
    logp: float
    tokens: float
    count: int
    """Completions of the minibatch over all processes."""
    norm: float


class Updater:
    """Updates `model` through `optimizer`. Parts are lists of group indices of a rollout."""

    def __init__(
        self, model: PreTrainedModel, optimizer: MasterAdamW, objective: Objective, settings: GSPOSettings, world: int
    ) -> None:
        self.model, self.optimizer, self.objective = model, optimizer, objective
        self.settings, self.world = settings, world

    def logps(self, model: PreTrainedModel, rollout: Rollout, part: Sequence[int]) -> Logps:
        """What `model` says of the completions of `part`, without gradient."""
        groups = [rollout.group(g) for g in part]
        found: dict[int, list[Tensor]] = {}
        with torch.no_grad():
            # the same micro-batches as in the update, so that unchanged weights give a ratio of exactly 1
            for batch in micro_batches(groups, self.settings.tokens_per_forward, model.device):
                logps = iter(self._forward(model, [groups[i] for i in batch]))
                for i in batch:
                    found[i] = [next(logps) for _ in groups[i].completions]
        return [found[i] for i in range(len(groups))]

    def update(
        self, rollout: Rollout, part: Sequence[int], old: Logps | None, advantages: Tensor, count: int, rate: float
    ) -> Update:
        """One step at learning rate `rate` on the groups `part`; the loss is the mean over all `count` completions.

        old: log-probabilities under the policy that sampled; None if that is the model as it is. advantages
        (groups, G). Raises NotFiniteError.
        """
        s = self.settings
        groups = [rollout.group(g) for g in part]
        loss = clipped = outside = logp_sum = tokens = 0.0
        for batch in micro_batches(groups, s.tokens_per_forward, self.model.device):
            logps = self._forward(self.model, [groups[i] for i in batch])
            held = [x for i in batch for x in old[i]] if old is not None else [x.detach() for x in logps]
            weights = torch.cat([advantages[part[i]] for i in batch]).to(logps[0].device)
            result = self.objective(logps, held, weights, s.epsilon_low, s.epsilon_high)
            batch_loss = result.loss.sum() / count
            if not torch.isfinite(batch_loss):
                raise NotFiniteError(f"the loss is {batch_loss.item()}")
            batch_loss.backward()
            self.optimizer.collect()
            loss += batch_loss.item()
            clipped += result.clipped.sum().item()
            outside += result.outside.sum().item()
            logp_sum += sum(x.detach().sum().item() for x in logps)
            tokens += sum(len(x) for x in logps)
        norm = 0.0
        if summed(float(len(part)), self.world):
            if self.world > 1:
                self.optimizer.reduce()
            norm = self.optimizer.step(rate, s.max_grad_norm)
            if not math.isfinite(norm):
                raise NotFiniteError(f"the gradient norm is {norm}")
        return Update(loss, clipped, outside, logp_sum, tokens, count, norm)

    def divergence(
        self, reference: PreTrainedModel, rollout: Rollout, parts: Sequence[Sequence[int]], old: Sequence[Logps | None]
    ) -> float:
        """KL(policy | reference) per token before this step's updates, estimated on the step's completions.

        With d = log p_reference - log p_policy of a sampled token, exp(d) - 1 - d is unbiased and never negative.
        """
        total = tokens = 0.0
        for part, known in zip(parts, old, strict=True):
            ours = known if known is not None else self.logps(self.model, rollout, part)
            theirs = self.logps(reference, rollout, part)
            for a, b in zip(ours, theirs, strict=True):
                d = torch.cat(b) - torch.cat(a)
                total += (torch.expm1(d) - d).sum().item()
                tokens += d.numel()
        total, tokens = summed(total, self.world), summed(tokens, self.world)
        return total / tokens if tokens else 0.0

    def _forward(self, model: PreTrainedModel, groups: Sequence[PromptGroup]) -> list[Tensor]:
        s = self.settings
        return completion_logprobs(model, groups, temperature=s.temperature, fp32_head=s.fp32_head)

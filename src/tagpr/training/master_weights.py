"""AdamW on fp32 master weights for a model that computes in bf16.

bf16 has 8 bits of mantissa: an update of 1e-6 to a weight of 0.1 is lost in it, and RL would not move. The optimizer
therefore updates fp32 copies, gradients of micro-batches are summed in fp32, and the model gets rounded copies.
For an fp32 model the masters are its own weights and nothing is copied.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class MasterAdamW:
    """`collect()` after each backward pass, then `step(lr)`; `tensors()`/`load()` for checkpoints."""

    def __init__(self, model: nn.Module, weight_decay: float = 0.0, bf16: bool = False) -> None:
        """`model` comes in fp32; with `bf16` it leaves in bf16, and its weights as they came become the masters."""
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.names = [name for name, _ in named]
        self.parameters = [p for _, p in named]
        # copied before the model is rounded, so that nothing of the policy's precision is lost on the way
        self.masters = [p.detach().clone() if bf16 else p for p in self.parameters]
        if bf16:
            model.to(torch.bfloat16)
        self.optimizer = torch.optim.AdamW(self.masters, lr=0.0, weight_decay=weight_decay, fused=True)

    def collect(self) -> None:
        """Add the parameters' gradients to the masters' and clear them."""
        for p, master in zip(self.parameters, self.masters, strict=True):
            if p is master or p.grad is None:
                continue
            if master.grad is None:
                master.grad = p.grad.float()
            else:
                master.grad.add_(p.grad)
            p.grad = None

    def reduce(self) -> None:
        """Sum the gradients over all processes (each holds its share of the minibatch's loss)."""
        for master in self.masters:
            if master.grad is None:
                master.grad = torch.zeros_like(master)
            torch.distributed.all_reduce(master.grad)

    def step(self, lr: float, max_grad_norm: float) -> float:
        """Clip, update the masters, round them into the model; returns the gradient norm before clipping.

        A norm that is not finite changes nothing: the caller stops.
        """
        norm = torch.nn.utils.clip_grad_norm_(self.masters, max_grad_norm)
        if torch.isfinite(norm):
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            self.optimizer.step()
            self.round()
        self.optimizer.zero_grad(set_to_none=True)
        return norm.item()

    @torch.no_grad()
    def round(self) -> None:
        """Copy the masters into the model."""
        for p, master in zip(self.parameters, self.masters, strict=True):
            if p is not master:
                p.copy_(master)

    @torch.no_grad()
    def restore(self, model: nn.Module) -> None:
        """Make `model` an fp32 model that holds the masters themselves, to be saved."""
        model.to(torch.float32)
        self.round()

    def tensors(self, moments: bool = True) -> dict[str, Tensor]:
        """Masters and, unless left out, the optimizer's moments, by parameter name."""
        found: dict[str, Tensor] = {}
        for name, master in zip(self.names, self.masters, strict=True):
            found[f"master.{name}"] = master.detach()
            for key, value in (self.optimizer.state.get(master, {}) if moments else {}).items():
                found[f"{key}.{name}"] = value
        return found

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from what `tensors` returned."""
        for name, master in zip(self.names, self.masters, strict=True):
            master.copy_(tensors[f"master.{name}"])
            moments = {key: tensors.get(f"{key}.{name}") for key in ("step", "exp_avg", "exp_avg_sq")}
            if moments["exp_avg"] is not None:
                # `step` stays where AdamW(fused) keeps it: on the parameter's device
                self.optimizer.state[master] = {
                    key: value.to(master.device).clone() for key, value in moments.items() if value is not None
                }
        self.round()

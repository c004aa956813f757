"""The optimizer of a PRMU: a rate for each part, and rows of E that move only in the steps that use them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tagpr.prmu.model import PRMUModel
from tagpr.prmu.settings import PRMUSettings


class RowAdamW(torch.optim.AdamW):
    """AdamW that, in groups marked `rows`, leaves alone every row whose gradient is zero, momentum included.

    Plain Adam goes on moving a user's row for many steps after the user was last seen; here exactly the rows used in a
    step move.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # no overloads
        """One update; the loss of `closure`, as of every torch optimizer."""
        kept = []
        for parameter in (p for group in self.param_groups if group.get("rows") for p in group["params"]):
            if parameter.grad is None or not self.state.get(parameter):
                idle = parameter.grad.abs().sum(-1) == 0 if parameter.grad is not None else None
                kept.append((parameter, idle, None))
                continue
            state = self.state[parameter]
            idle = parameter.grad.abs().sum(-1) == 0
            kept.append((parameter, idle, {key: state[key][idle].clone() for key in ("exp_avg", "exp_avg_sq")}))
        before = [parameter[idle].clone() if idle is not None else None for parameter, idle, _ in kept]
        loss = super().step(closure)
        for (parameter, idle, moments), rows in zip(kept, before, strict=True):
            if idle is None:
                continue
            parameter[idle] = rows
            for key, value in (moments or {}).items():
                self.state[parameter][key][idle] = value
        return loss


def parameter_groups(model: PRMUModel, rates: PRMUSettings) -> list[dict[str, Any]]:
    """Optimizer groups: backbone, head with history encoder, e_0, and the rows of E, each at its own rate."""
    backbone = [p for p in model.backbone.parameters() if p.requires_grad]
    fresh = list(model.head.parameters()) + (list(model.history.parameters()) if model.history is not None else [])
    groups = [
        {"params": backbone, "lr": rates.learning_rate, "betas": (0.9, 0.95)},
        {"params": fresh, "lr": rates.head_learning_rate, "betas": (0.9, 0.95)},
    ]
    if model.users is not None:
        # beta2 .99: a row used for the first time late in training then moves by lr, not by a multiple of it.
        shared = {"lr": rates.user_learning_rate, "betas": (0.9, 0.99)}
        groups.append({"params": [model.users.generic], **shared})
        groups.append({"params": [model.users.offsets], "rows": True, **shared})
    return [group for group in groups if group["params"]]

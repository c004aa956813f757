"""Fitting one new user's row of E on a few pairs, everything else frozen: for users who come after training.

With eight pairs there is little to fit on, so the rows already learned serve as the prior: the search starts from the
existing row (or the generic user) that explains the pairs best, and moves on from there by a few small steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tagpr.prmu.loss import bradley_terry_loss
from tagpr.prmu.model import PRMUModel
from tagpr.prmu.optimizer import RowAdamW
from tagpr.prmu.packing import PreferenceGroup, pack


def fit_row(
    model: PRMUModel, groups: Sequence[PreferenceGroup], row: int, starts: int, steps: int, learning_rate: float
) -> float:
    """Set o_u of `row` by eq. 2 on `groups`; returns the loss reached. No other parameter changes.

    `starts`: how many other rows, spread over what was learned, are tried besides the generic user
    and the row as it is.
    """
    assert model.users is not None
    offsets = model.users.offsets
    wanted = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.eval()
    model.requires_grad_(False)
    try:
        own = offsets.data[row : row + 1].clone()
        candidates = torch.cat([torch.zeros_like(offsets[:1]), own, _spread(offsets, row, starts)])
        batch = _batch(model, groups, row)
        losses = []
        for candidate in candidates:
            offsets.data[row] = candidate
            with torch.no_grad():
                losses.append(_loss(model, batch).item())
        offsets.data[row] = candidates[int(torch.tensor(losses).argmin())]
        offsets.requires_grad_(True)
        optimizer = RowAdamW([{"params": [offsets], "rows": True}], lr=learning_rate, weight_decay=0.0)
        best, kept = min(losses), offsets.data[row].clone()
        for step in range(steps + 1):
            optimizer.zero_grad()
            loss = _loss(model, batch)
            if loss.item() < best:
                best, kept = loss.item(), offsets.data[row].clone()
            if step < steps:  # the row that the last step leads to is judged too
                loss.backward()
                optimizer.step()
        offsets.data[row] = kept
    finally:
        offsets.grad = None
        for parameter, flag in wanted.items():
            parameter.requires_grad_(flag)
    return best


def _spread(offsets: Tensor, row: int, count: int) -> Tensor:
    """`count` existing rows as far from each other as can be (farthest-point order, from the largest row on)."""
    others = torch.cat([offsets.data[:row], offsets.data[row + 1 :]])
    if not len(others) or count < 1:
        return others[:0]
    chosen = [int(others.norm(dim=-1).argmax())]
    distance = (others - others[chosen[0]]).norm(dim=-1)
    while len(chosen) < min(count, len(others)):
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (others - others[chosen[-1]]).norm(dim=-1))
    return others[chosen]


def _batch(model: PRMUModel, groups: Sequence[PreferenceGroup], row: int) -> dict[str, Tensor]:
    """The groups as inputs of the model, all of the user in `row`."""
    config, device = model.settings, next(model.parameters()).device
    batch = pack(groups, [row] * len(groups), config.end_ids, config.pad_id)
    return {key: value.to(device) for key, value in batch.items()}


def _loss(model: PRMUModel, batch: Mapping[str, Tensor]) -> Tensor:
    return bradley_terry_loss(*model(**batch).logits.chunk(2))

"""What a backbone that is frozen whole says of each text, computed once.

With `frozen_layers` equal to the number of layers, and users who enter at the head alone, the backbone is a fixed text
encoder: the pooled state of a prompt with a completion is the same in every epoch, for every user and in every fit of a
new user. It is kept here by its token ids, for all reward models of this process on the same weights, so that training
on it costs as much as a small regression.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Key = tuple[bytes, bytes]
"""Token ids of a prompt and of the completion after it."""
LIMIT = 400_000
"""States kept, at most; 576 numbers each are about 0.9 GB. Beyond it the oldest go."""


_of_weights: dict[str, FrozenStates] = {}


def states_of(backbone: nn.Module) -> FrozenStates:
    """The states that the process knows of a backbone with these very weights."""
    digest = hashlib.sha256()
    for name, parameter in sorted(backbone.named_parameters()):
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode())
        digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return _of_weights.setdefault(digest.hexdigest(), FrozenStates())


class FrozenStates:
    """Pooled states [d] by text."""

    def __init__(self) -> None:
        self._known: dict[Key, Tensor] = {}

    def pooled(
        self, input_ids: Tensor, segment_ids: Tensor, ends: Tensor, encode: Callable[[list[int]], Tensor]
    ) -> Tensor:
        """The states [N, d] at `ends` [N, 2], on the CPU; `encode` runs the rows that hold a new text, [b, T, d]."""
        keys = keys_of(input_ids, segment_ids, ends)
        places = ends.tolist()
        new = {key: place for key, place in zip(keys, places, strict=True) if key not in self._known}
        if new:
            rows = sorted({row for row, _ in new.values()})
            hidden = encode(rows)
            at = {row: number for number, row in enumerate(rows)}
            for key, (row, end) in new.items():
                self._known[key] = hidden[at[row], end].float().cpu()
        found = torch.stack([self._known[key] for key in keys])
        while len(self._known) > LIMIT:
            self._known.pop(next(iter(self._known)))
        return found


def keys_of(input_ids: Tensor, segment_ids: Tensor, ends: Tensor) -> Sequence[Key]:
    """The text that each of the N completions of B packed rows [B, T] is read off after."""
    tokens, segments = input_ids.cpu().numpy(), segment_ids.cpu().numpy()
    keys = []
    for row, end in ends.tolist():
        own = segments[row] == segments[row, end]
        keys.append((tokens[row][segments[row] == 0].tobytes(), tokens[row][own].tobytes()))
    return keys

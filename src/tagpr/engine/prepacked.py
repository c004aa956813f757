"""Linear layers with weights laid out once for oneDNN's bf16 kernels, for decoding on CPUs.

A decoding step multiplies few rows by every weight, and oneDNN otherwise rearranges each weight at every call: for 64
rows that costs as much as the product. The layout lives as long as the context; the model's own weights stay.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tagpr.engine.models import embedding_weight


@contextlib.contextmanager
def prepacked_linears(model: PreTrainedModel, rows: int) -> Iterator[None]:
    """Run every plain bf16 `nn.Linear` of a CPU model with prepacked weights inside the context; else do nothing."""
    weight = embedding_weight(model)
    usable = (
        weight.device.type == "cpu"
        and weight.dtype == torch.bfloat16
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )
    changed: list[nn.Linear] = []
    try:
        if usable:
            for module in model.modules():
                if type(module) is nn.Linear and "forward" not in vars(module):
                    packed = torch.ops.mkldnn._reorder_linear_weight(module.weight.detach(), rows)
                    vars(module)["forward"] = _forward(packed, module.bias)
                    changed.append(module)
        yield
    finally:
        for module in changed:
            del vars(module)["forward"]


def _forward(packed: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")

    return forward

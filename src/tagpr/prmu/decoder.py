"""A backbone as PRMU sees it: a stack of layers, run in parts."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import cast

from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.modeling_outputs import BaseModelOutput

from tagpr.engine.group_attention import Layout, masks_left_to_layouts


class Decoder(nn.Module):
    """The parts of a Hugging Face decoder without its output layer (`LlamaModel`, `Qwen3Model`, ...) that are used.

    A type for the checker, never made: `as_decoder` gives a loaded model this type.
    """

    config: PreTrainedConfig
    layers: nn.ModuleList
    norm: nn.Module
    get_input_embeddings: Callable[[], nn.Embedding]
    """The table of token embeddings, [V, d]."""


def as_decoder(model: object) -> Decoder:
    """`model`, a decoder as `AutoModel` makes it, with the type of one."""
    return cast(Decoder, model)


def run_layers(
    decoder: Decoder, first: int, last: int | None, embeddings: Tensor, layout: Layout, positions: Tensor
) -> Tensor:
    """Layers first..last of the decoder, [B, T, d] -> [B, T, d]; the final norm only after its very last layer.

    The decoder's attention implementation is `group_attention.NAME`.
    """
    part = decoder
    if first or last is not None:
        part = copy.copy(decoder)
        part._modules = dict(decoder._modules)
        part._modules["layers"] = decoder.layers[first:last]
        if last is not None:
            part._modules["norm"] = nn.Identity()
        part.config = copy.copy(decoder.config)
        part.config.num_hidden_layers = len(part.layers)
    if not len(part.layers):
        return part.norm(embeddings)
    with masks_left_to_layouts():
        output: BaseModelOutput = part(
            inputs_embeds=embeddings, position_ids=positions, use_cache=False, group_attention=layout
        )
    assert output.last_hidden_state is not None
    return output.last_hidden_state

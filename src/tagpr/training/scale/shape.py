"""A model's size from its configuration alone: no weight is downloaded, loaded or allocated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from tagpr.engine.models import embedding_weight, output_head, quiet, resolve_model
from tagpr.engine.shared_prompt import PackedLayout, PromptGroup, packed_forward
from tagpr.errors import ModelError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


@dataclass(frozen=True)
class Pass:
    """How a forward and backward pass is made."""

    bf16: bool = False
    """Under autocast."""
    rounded: bool = False
    """The weights that it reads are bf16 already: frozen under adapters, or gathered so. Else autocast copies them."""
    checkpointing: bool = False
    lora_rank: int | None = None

    @property
    def weights(self) -> torch.dtype:
        """The dtype of the weights that it reads."""
        return torch.bfloat16 if self.bf16 and self.rounded else torch.float32


@dataclass(frozen=True, eq=False)
class ModelShape:
    """Counts of parameters, and what passes through the model take."""

    config: PretrainedConfig

    @cached_property
    def _empty(self) -> PreTrainedModel:
        with torch.device("meta"):
            return _from_config(self.config)

    @cached_property
    def parameters(self) -> int:
        """All of them; tied ones once."""
        return sum(p.numel() for p in self._empty.parameters())

    @cached_property
    def layer(self) -> int:
        """Parameters of one decoder layer, which FSDP2 and ZeRO-3 gather together."""
        layers = cast("Sequence[nn.Module]", getattr(self._empty.base_model, "layers", None))
        return sum(p.numel() for p in layers[0].parameters())

    @property
    def layers(self) -> int:
        """Decoder layers."""
        return int(self.config.get_text_config().num_hidden_layers)

    @property
    def root(self) -> int:
        """Parameters outside of the decoder layers: embedding, head, last norm."""
        return self.parameters - self.layers * self.layer

    @cached_property
    def embedding(self) -> int:
        """Parameters of the token embeddings."""
        return embedding_weight(self._empty).numel()

    def adapters(self, rank: int) -> int:
        """Parameters of LoRA adapters of this rank on every linear layer but the head."""
        head = output_head(self._empty)
        linear = (m for m in self._empty.modules() if isinstance(m, nn.Linear) and m is not head)
        return sum(rank * (m.in_features + m.out_features) for m in linear)

    @property
    def cache_per_token(self) -> int:
        """Numbers that generation keeps per token: keys and values of every layer."""
        config = self.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return 2 * self.layers * heads * width

    def activations(self, groups: Sequence[PromptGroup], how: Pass) -> int:
        """Bytes beside weights and gradients at the peak of a forward and backward pass over `groups`.

        The real pass runs on tensors without content for 2 and 3 layers; more layers add as much each.
        """
        two, three = (self._peak(groups, layers, how) for layers in (2, 3))
        return two + (self.layers - 2) * (three - two)

    def _peak(self, groups: Sequence[PromptGroup], layers: int, how: Pass) -> int:
        from torch._subclasses.fake_tensor import FakeTensorMode
        from torch.distributed._tools.mem_tracker import MemTracker

        config = type(self.config).from_dict(self.config.to_dict() | {"num_hidden_layers": layers, "layer_types": None})
        layout = PackedLayout(groups, torch.device("cpu"))  # of numbers that the pass reads: outside of the fake mode
        with FakeTensorMode(allow_non_fake_inputs=True):
            model = _from_config(config, how.weights)
            if how.lora_rank is not None:
                _adapt(model, how.lora_rank)
            if how.checkpointing:
                model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            model.train()
            tracker = MemTracker()
            tracker.track_external(model)
            with tracker, torch.autocast("cpu", torch.bfloat16, enabled=how.bf16):
                packed_forward(model, layout).sum().backward()
            snapshot = tracker.get_tracker_snapshot("peak")
        held = {"Parameter", "Gradient"}
        kinds = next(iter(snapshot.values()))
        return sum(size for kind, size in kinds.items() if getattr(kind, "value", kind) not in {*held, "Total"})


class _Adapted(nn.Module):
    """A frozen linear layer with a LoRA adapter; peft's own moves its weights, which tensors without content cannot."""

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__()
        self.linear = linear
        self.down = nn.Linear(linear.in_features, rank, bias=False, dtype=torch.float32)
        self.up = nn.Linear(rank, linear.out_features, bias=False, dtype=torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in) -> (..., out)."""
        return self.linear(x) + self.up(self.down(x.float())).to(x.dtype)


def _adapt(model: PreTrainedModel, rank: int) -> None:
    """Put adapters on every linear layer but the head.

    The other weights keep their gradients, which the tracker asks for and counts apart.
    """
    head = output_head(model)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear) and child is not head and not isinstance(module, _Adapted):
                setattr(module, name, _Adapted(child, rank))


def shape_of(spec: str) -> ModelShape:
    """The shape of model `spec`. A folder needs no more than its config.json; a hub id is asked for that file alone.

    Raises ModelError (one line) if there is none.
    """
    from transformers import AutoConfig

    folder = Path(spec).expanduser()
    path = folder if (folder / "config.json").is_file() else None
    if path is None:
        path = _hub_config(spec) if spec.count("/") == 1 and not folder.exists() else resolve_model(spec)
    with quiet():
        return ModelShape(AutoConfig.from_pretrained(path, trust_remote_code=False))


def _hub_config(spec: str) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(spec, "config.json")).parent
    except Exception as error:  # the hub's many: no network, no such model, no permission
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise ModelError(f"model {spec!r}: no config.json to plan by ({reason}); give a folder that has one") from None


def _from_config(config: PretrainedConfig, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    return cast("PreTrainedModel", AutoModelForCausalLM.from_config(config, dtype=dtype))

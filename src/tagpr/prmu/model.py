"""f_PRMU(id_u, q, p_u, c, y): a language-model backbone, the user embedding, and a head giving one logit (eqs. 2-3).

The user's m vectors stand right after the prompt's first token (the attention sink keeps its place), scaled to the norm
of what flows there: token embeddings, or hidden states when the lowest layers are frozen and the vectors enter above
them. Loading, users' names and scoring are in `tagpr.prmu.score`, training in `tagpr.prmu.trainer`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import logging as hf_logging

from tagpr.errors import ModelError
from tagpr.prmu.prefix_attention import NAME, prefix_mask
from tagpr.prmu.users import HistoryEncoder, UserEmbedding


@dataclass
class PRMUConfig:
    """Shape of a PRMU; written to `prmu.json` beside the weights. `backbone` is the Hugging Face config as a dict."""

    backbone: dict[str, Any]
    user_option: str
    user_tokens: int
    users: int
    frozen_layers: int
    user_dropout: float
    end_ids: list[int]
    pad_id: int
    token_scale: float = 1.0


class PRMUModel(nn.Module):
    """Backbone + users + head. All completions of a prompt may share a row (`tagpr.prmu.packing`)."""

    supports_gradient_checkpointing = False

    def __init__(self, config: PRMUConfig, backbone: nn.Module, head: Tensor | None = None) -> None:
        super().__init__()
        self.settings = config
        # What TRL's RewardTrainer reads of a model's config.
        self.config = _TrainerView(config.pad_id)
        self.backbone = backbone
        size = backbone.config.hidden_size
        self.users: UserEmbedding | None = None
        self.history: HistoryEncoder | None = None
        if config.user_option != "none":
            width = size if config.user_option == "mlp-head" else size * config.user_tokens
            self.users = UserEmbedding(config.users, width, config.user_dropout)
        if config.user_option == "profile-encoded":
            self.history = HistoryEncoder(size, size * config.user_tokens)
        if config.user_option == "mlp-head":
            self.head: nn.Module = nn.Sequential(nn.Linear(2 * size, size), nn.GELU(), nn.Linear(size, 1, bias=False))
        else:
            self.head = nn.Linear(size, 1, bias=False)
            with torch.no_grad():
                self.head.weight.normal_(std=size**-1) if head is None else self.head.weight.copy_(head)
        self.compute_dtype = torch.float32

    @property
    def tokens_per_user(self) -> int:
        """How many vectors stand in the input for a user."""
        return self.settings.user_tokens if self.settings.user_option in ("soft-token", "profile-encoded") else 0

    def add_model_tags(self, tags: Any) -> None:
        """Asked of every model by TRL; tags belong to hub cards, which are not written here."""

    def user_vectors(
        self, user_rows: Tensor, history: Tensor | None = None, history_mask: Tensor | None = None
    ) -> Tensor | None:
        """e_u [B, size], None for user_option none."""
        if self.users is None:
            return None
        vectors = self.users(user_rows)
        if self.history is not None and history is not None and history_mask is not None:
            vectors = vectors + self.history(history.to(vectors.device), history_mask)
        return vectors

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        user_rows: Tensor | None = None,
        segment_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        ends: Tensor | None = None,
        chosen: Tensor | None = None,
        rejected: Tensor | None = None,
        history: Tensor | None = None,
        history_mask: Tensor | None = None,
        use_cache: bool | None = None,
    ) -> SequenceClassifierOutput:
        """Logits of N completions packed in B rows of T tokens (see `pack`).

        Without segment_ids every row is one sequence, padded on either side, read off at its last real token. With
        chosen and rejected (indices into the N) the logits are those of the chosen, then those of the rejected: what
        TRL's RewardTrainer splits in two.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if segment_ids is None:
            # One sequence a row, brought to the left: stable sort, so that real tokens keep their order.
            order = attention_mask.argsort(dim=-1, descending=True, stable=True)
            input_ids, attention_mask = input_ids.gather(-1, order), attention_mask.gather(-1, order)
            segment_ids = attention_mask - 1  # 0 where real, -1 where padding
            position_ids = (attention_mask.cumsum(-1) - 1) * attention_mask
            last = attention_mask.sum(-1) - 1
            ends = torch.stack([torch.arange(len(last), device=last.device), last], dim=-1)
        assert position_ids is not None and ends is not None
        if user_rows is None:
            user_rows = torch.full((len(input_ids),), -1, device=input_ids.device)
        users = self.user_vectors(user_rows, history, history_mask)

        with torch.autocast(input_ids.device.type, self.compute_dtype, enabled=self.compute_dtype != torch.float32):
            hidden = self._hidden(input_ids, segment_ids, position_ids, users)  # [B, m + T, d]
            pooled = hidden[ends[:, 0], ends[:, 1] + self.tokens_per_user]  # [N, d]
        pooled = pooled.float()
        if self.settings.user_option == "mlp-head":
            assert users is not None
            pooled = torch.cat([pooled, users[ends[:, 0]]], dim=-1)
        with torch.autocast(input_ids.device.type, enabled=False):
            logits = self.head(pooled).squeeze(-1)  # [N]
        if chosen is not None and rejected is not None:
            logits = torch.cat([logits[chosen], logits[rejected]])
        return SequenceClassifierOutput(logits=logits)

    def _hidden(self, input_ids: Tensor, segments: Tensor, positions: Tensor, users: Tensor | None) -> Tensor:
        m, frozen = self.tokens_per_user, self.settings.frozen_layers
        if m:  # the prompt's first token keeps position 0, the user's m vectors take 1..m
            positions = positions + m * (positions > 0)
        embeddings = self.backbone.get_input_embeddings()(input_ids)
        if frozen:
            with torch.no_grad():
                embeddings = _run(self.backbone, 0, frozen, embeddings, prefix_mask(segments, positions), positions)
        if m:
            assert users is not None
            batch = len(users)
            vectors = (users * self.settings.token_scale).view(batch, m, -1).to(embeddings.dtype)
            places = torch.arange(1, m + 1, device=positions.device).expand(batch, m)
            embeddings = torch.cat([embeddings[:, :1], vectors, embeddings[:, 1:]], dim=1)
            positions = torch.cat([positions[:, :1], places, positions[:, 1:]], dim=1)
            segments = torch.cat([segments[:, :1], torch.zeros_like(places), segments[:, 1:]], dim=1)
        return _run(self.backbone, frozen, None, embeddings, prefix_mask(segments, positions), positions)


def build_model(
    folder: Path, config: PRMUConfig, layers: int | None, seed: int, dtype: torch.dtype = torch.float32
) -> PRMUModel:
    """A fresh PRMU on the backbone in `folder` (causal, sequence classification or base), in `dtype`.

    A sequence-classification backbone keeps its trained linear head. Raises ModelError for a backbone whose layers do
    not all attend fully, or with fewer layers than asked for.
    """
    # A causal checkpoint has an output layer that is not needed here; no report of it, and no bar.
    bars, verbosity = hf_logging.is_progress_bar_enabled(), hf_logging.get_verbosity()
    hf_logging.disable_progress_bar()
    hf_logging.set_verbosity_error()
    try:
        hf = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        options = {
            "dtype": dtype,
            "trust_remote_code": False,
            "use_safetensors": True,
            "attn_implementation": NAME,
        }
        head = None
        if any(name.endswith("ForSequenceClassification") for name in hf.architectures or ()):
            model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, **options)
            backbone, head = model.base_model, model.score.weight.detach().float()
        else:
            backbone = AutoModel.from_pretrained(folder, **options)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(f"prmu backbone {str(folder)!r}: does not load ({reason})") from None
    finally:
        hf_logging.set_verbosity(verbosity)
        if bars:
            hf_logging.enable_progress_bar()
    if any(kind != "full_attention" for kind in getattr(backbone.config, "layer_types", None) or ()):
        raise ModelError(f"prmu backbone {str(folder)!r}: has sliding-window layers; use one with full attention")
    keep_layers(backbone, layers, config.frozen_layers, folder)
    config.backbone = backbone.config.to_dict()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        prmu = PRMUModel(config, backbone, head)
    config.token_scale = _token_scale(prmu)
    return prmu.eval()


def keep_layers(backbone: nn.Module, layers: int | None, frozen_layers: int, folder: Path) -> None:
    """Cut the backbone down to its first `layers` decoder layers, in place."""
    have = len(backbone.layers)
    wanted = have if layers is None else layers
    if wanted > have or frozen_layers > wanted:
        raise ModelError(
            f"prmu backbone {str(folder)!r}: has {have} layers, the settings ask for layers={layers} and "
            f"frozen_layers={frozen_layers}; lower them"
        )
    backbone.layers = backbone.layers[:wanted]
    backbone.config.num_hidden_layers = wanted
    if getattr(backbone.config, "layer_types", None):
        backbone.config.layer_types = list(backbone.config.layer_types)[:wanted]


def empty_model(config: PRMUConfig) -> PRMUModel:
    """A PRMU of this shape with unset weights, for loading a state dict into."""
    values = dict(config.backbone)
    hf = AutoConfig.for_model(values.pop("model_type"), **values)
    return PRMUModel(config, AutoModel.from_config(hf, attn_implementation=NAME)).eval()


def _run(
    backbone: nn.Module, first: int, last: int | None, embeddings: Tensor, mask: Tensor, positions: Tensor
) -> Tensor:
    """Layers first..last of the backbone; the final norm only after its very last layer."""
    part = backbone
    if first or last is not None:
        part = copy.copy(backbone)
        part._modules = dict(backbone._modules)
        part._modules["layers"] = backbone.layers[first:last]
        if last is not None:
            part._modules["norm"] = nn.Identity()
        part.config = copy.copy(backbone.config)
        part.config.num_hidden_layers = len(part.layers)
    if not len(part.layers):
        return part.norm(embeddings)
    output = part(inputs_embeds=embeddings, attention_mask=mask, position_ids=positions, use_cache=False)
    return output.last_hidden_state


@torch.no_grad()
def _token_scale(model: PRMUModel) -> float:
    """Factor that brings a vector of unit-scale entries to the typical norm of what the user's vectors stand among."""
    table = model.backbone.get_input_embeddings().weight
    ids = torch.arange(0, len(table), max(1, len(table) // 64))[None, :64]
    hidden = model.backbone.get_input_embeddings()(ids)
    if model.settings.frozen_layers:
        segments, positions = torch.zeros_like(ids), torch.arange(ids.shape[1])[None]
        hidden = _run(
            model.backbone, 0, model.settings.frozen_layers, hidden, prefix_mask(segments, positions), positions
        )
    return float(hidden.float().norm(dim=-1).median()) / hidden.shape[-1] ** 0.5


class _TrainerView(SimpleNamespace):
    """The few attributes of a Hugging Face config that the trainers touch."""

    def __init__(self, pad_id: int) -> None:
        super().__init__(num_labels=1, pad_token_id=pad_id, eos_token_id=None, model_type="prmu", _name_or_path="prmu")

    def get_text_config(self, **_: Any) -> _TrainerView:
        return self

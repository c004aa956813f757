"""Settings of the training stages. Light: importing this loads no torch."""

from typing import Literal

from pydantic import Field

from tagpr.settings import Settings


class SFTSettings(Settings):
    """Stage 1 (eq. 4): maximise log p(c, y | q, p_u) on the completion's tokens only."""

    checkpoint: str | None = None
    """A checkpoint that takes this stage's place (folder or hub id): no chains are made and nothing is fine-tuned, RL
    starts from what another task's run taught (table 7). Its tags must be `chains.vocabulary`."""
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


class GSPOSettings(Settings):
    """Stages 2 and 3: group sequence policy optimisation. Defaults are the paper's where it prints them."""

    learning_rate: float = Field(1e-6, gt=0)
    """AdamW's learning rate, constant after `warmup_steps`."""
    warmup_steps: int = Field(0, ge=0)
    """Rollout steps over which the learning rate rises linearly."""
    epochs: float = Field(1.0, gt=0)
    """Passes over the prompts; `steps` overrides it."""
    steps: int | None = Field(None, ge=1)
    """Rollout steps; None: as many as `epochs` asks for."""
    prompts_per_step: int = Field(16, ge=1)
    """Prompts of one rollout, over all processes."""
    group_size: int = Field(5, ge=2)
    """G, completions a prompt."""
    minibatches: int = Field(2, ge=1)
    """Updates a rollout is split into. With 1 the ratio is always 1 and clipping does nothing."""
    epsilon_low: float = Field(3e-4, gt=0, lt=1)
    """Lower clip range of the sequence ratio."""
    epsilon_high: float = Field(4e-4, gt=0)
    """Upper clip range of the sequence ratio."""
    temperature: float = Field(1.0, gt=0)
    """Sampling temperature, which log-probabilities are taken at too."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Nucleus of the sampling."""
    max_new_tokens: int = Field(512, ge=1)
    """Longest completion; longer ones are cut off and counted (`truncated`)."""
    truncated: Literal["penalise", "mask"] = "penalise"
    """Cut-off completions: `penalise` leaves them the reward they earn (no answer earns none); `mask` keeps them out of
    the loss, as TRL's mask_truncated_completions does."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's weight decay."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradient clipping."""
    tokens_per_forward: int = Field(4096, ge=64)
    """Micro-batches are filled with whole groups up to this many tokens."""
    decode_rows: int = Field(96, ge=1)
    """Completions decoded side by side."""
    lora_rank: int | None = Field(None, ge=1)
    """Train LoRA adapters of this rank (merged at the end) instead of all weights."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the model; the weights that the optimizer updates are fp32 in any case. auto: bf16 where fast."""
    save_steps: int = Field(10, ge=1)
    """Rollout steps between checkpoints; a killed stage continues from the last one with bit-equal results on CPU."""
    heldout_every: int = Field(0, ge=0)
    """Rollout steps between greedy looks at held-out prompts; 0: never."""
    tag_rate_floor: float = Field(0.0, ge=0, le=1)
    """Stop when the share of completions with valid tags stays below this for `tag_rate_steps` steps."""
    tag_rate_steps: int = Field(5, ge=1)
    """See `tag_rate_floor`."""

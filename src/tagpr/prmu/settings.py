"""Settings of the personalization reward model. Light: no torch here."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tagpr.settings import ModelSpec, Settings


class PairSettings(Settings):
    """Pairs of answers that users ordered."""

    path: str
    """JSONL, JSON, CSV or Parquet file, or a server's feedback (`.sqlite`), relative to the recipe, or
    `hub:OWNER/NAME/CONFIG/SPLIT`."""
    format: Literal["auto", "pairs", "prism", "prism-utterances", "personalized-rewardbench", "hh", "feedback"] = "auto"
    """How rows are read (docs/prmu.md); auto: by the first row's fields."""
    fields: dict[str, str] = Field(default_factory=dict)
    """Our field name -> the file's (user_id, context, chosen, rejected, split, scores), for those that differ."""
    past_shown: int = Field(default=0, ge=0)
    """Show so many of the user's earlier pairs before the context: with `user_option: none` the in-context rival."""
    min_margin: float = Field(default=0.0, ge=0)
    """Leave out pairs whose scores differ by less, in the file's unit (PRISM: of 1); pairs without scores stay."""
    rollouts: bool = True
    """Mix them with PRP and PQP pairs of the policy's rollouts; false: human pairs alone, without a policy."""

    @field_validator("path")
    @classmethod
    def _beside_recipe(cls, path: str, info: ValidationInfo) -> str:
        return path if path.startswith("hub:") or not info.context else str(Path(info.context["folder"]) / path)


class PRMUSettings(Settings):
    """How preference pairs are made, how user information enters the reward model, and how it is trained."""

    renamed: ClassVar[Mapping[str, str]] = {"save_every": "save_steps"}

    backbone: ModelSpec | None = None
    """Backbone as a model spec (causal or sequence classification); none: the model the policy starts from."""
    reward_model: ModelSpec | None = None
    """A reward model off the shelf (sequence classification, one label) that `tagpr prmu bench` judges beside it."""
    user_option: Literal["soft-token", "profile-encoded", "mlp-head", "basis", "prototypes", "none"] = "soft-token"
    """How e_u enters: tokens in the input, the same plus an encoding of the history, through an MLP head, as weights of
    a low-rank basis of rewards, as a mixture of prototype users, or not."""
    user_tokens: int = Field(default=4, ge=1, le=64)
    """m, the number of vectors a user has (soft-token and profile-encoded)."""
    basis_rank: int = Field(default=8, ge=1)
    """r, the number of reward functions that users share (basis)."""
    prototypes: int = Field(default=4, ge=1)
    """K, the number of prototype users (prototypes)."""
    user_dropout: float = Field(default=0.2, ge=0, lt=1)
    """Probability that o_u is dropped for a training prompt, so that e_0 becomes a sensible generic user."""
    on_unknown: Literal["error", "generic", "encode"] = "generic"
    """A user id without a row when scoring: refuse, use e_0, or encode the history given (profile-encoded only)."""

    pairs: PairSettings | None = None
    """Human pairs to learn from; none: only those of the policy's rollouts."""
    prompts: int = Field(default=64, ge=1)
    """Training examples (over all tasks) that the policy is rolled out on to make pairs."""
    prompts_per_user: int | None = Field(default=None, ge=1)
    """Draw users, each with up to this many of their examples (those with as many first), until `prompts` are drawn: an
    embedding can only be learned of users with several pairs. None: draw examples, whoever's they are."""
    rollouts_with: int = Field(default=4, ge=1)
    """Completions sampled for a prompt with the profile."""
    rollouts_without: int = Field(default=2, ge=0)
    """Completions sampled for the same question without the profile (the rejected side of PRP)."""
    rollout_server: str | None = None
    """Address of a `vllm serve RUN/sft/model` that draws them, in chunks that survive a kill; none: this process."""
    max_new_tokens: int = Field(default=256, ge=1)
    """Longest completion rolled out."""
    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature of the rollouts."""
    min_score_gap: float = Field(default=0.05, ge=0)
    """PQP: smallest difference in correctness (in [0, 1]) that is a preference and not a tie."""
    near_duplicate: float = Field(default=0.95, gt=0, le=1)
    """A pair whose two completions are this similar (normalised Indel similarity of tokens) or more is dropped."""
    max_pairs_per_prompt: int = Field(default=6, ge=1)
    """Most pairs of each kind kept for one prompt; they share one forward pass."""
    heldout_users: float = Field(default=0.1, ge=0, lt=1)
    """Share of users all of whose pairs are held out (the diagnosis' unseen users)."""
    heldout_share: float = Field(default=0.1, ge=0, lt=1)
    """Share of the other users' prompts held out, the latest ones if dates are known (the seen users)."""

    layers: int | None = Field(default=None, ge=1)
    """Keep only the backbone's first layers; none: all. Fewer layers score and train proportionally faster."""
    frozen_layers: int = Field(default=0, ge=0)
    """The lowest layers stay as they are and run without gradient; user tokens then enter above them."""
    lora_rank: int | None = Field(default=None, ge=1)
    """Rank of LoRA on the trained layers' linear maps (merged when saved); null trains the weights themselves."""
    learning_rate: float = Field(default=2e-5, gt=0)
    """Peak learning rate of the backbone (or its LoRA)."""
    head_learning_rate: float = Field(default=1e-3, gt=0)
    """Peak learning rate of the head and the history encoder."""
    user_learning_rate: float = Field(default=1e-2, gt=0)
    """Peak learning rate of E and e_0, whose entries have unit scale."""
    epochs: float = Field(default=1.0, ge=0)
    """Passes over the training prompts; 0 leaves the reward model untrained (a row of Table 4)."""
    batch_size: int = Field(default=8, ge=1)
    """Prompts (each with all their pairs) in one optimizer step, over all processes."""
    micro_batch_size: int = Field(default=4, ge=1)
    """Prompts in one forward pass of one process, at most; divides batch_size."""
    max_length: int = Field(default=4096, ge=16)
    """Pairs whose prompt plus longer completion exceeds this many tokens are dropped and counted."""
    save_steps: int = Field(default=10, ge=1)
    """Optimizer steps between checkpoints; a killed training continues from the last one."""

    @property
    def uses_rollouts(self) -> bool:
        """Whether the policy is rolled out for pairs."""
        return self.pairs is None or self.pairs.rollouts

    @model_validator(mode="after")
    def _consistent(self) -> "PRMUSettings":
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} must be a multiple of micro_batch_size {self.micro_batch_size}"
            )
        if self.on_unknown == "encode" and self.user_option != "profile-encoded":
            raise ValueError("on_unknown: encode needs user_option: profile-encoded")
        if self.layers is not None and self.frozen_layers > self.layers:
            raise ValueError(f"frozen_layers {self.frozen_layers} exceeds layers {self.layers}")
        return self

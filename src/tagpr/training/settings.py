"""Settings of the training stages. Light: importing this loads no torch."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from tagpr.settings import ModelSpec, Settings


class TrainingSettings(Settings):
    """What SFT and RL have in common."""

    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW's weight decay."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradient clipping."""
    tokens_per_forward: int = Field(default=4096, ge=64)
    """Micro-batches are filled with whole groups (a prompt and all its completions) up to this many tokens."""
    lora_rank: int | None = Field(default=None, ge=1)
    """Train LoRA adapters of this rank (merged at the end) instead of all weights."""
    frozen_layers: int = Field(default=0, ge=0)
    """The lowest layers, and the token embeddings with them, stay as they are: a step takes less time and memory."""
    quantization: Literal["nf4"] | None = None
    """Hold the frozen weights under the adapters in 4 bits (QLoRA); needs lora_rank and bitsandbytes."""
    optimizer: Literal["adamw", "adamw-8bit"] = "adamw"
    """adamw-8bit holds AdamW's moments in 8 bits instead of 32; needs bitsandbytes and a GPU."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the model; the weights that the optimizer updates are fp32 in any case. auto: bf16 if fast."""
    gradient_checkpointing: bool = False
    """Compute each layer's activations again in backward instead of keeping them: a third more time, less memory."""
    keep: Literal["best", "last"] | None = None
    """Which weights become the stage's model: the last ones, or those with the best held-out metric. Null: the best
    if held-out users or prompts are evaluated, else the last."""

    @model_validator(mode="after")
    def _adapters_to_train(self) -> "TrainingSettings":
        """Refuse frozen weights without anything to train."""
        if self.quantization is not None and self.lora_rank is None:
            raise ValueError("quantization freezes the weights; set lora_rank too")
        return self

    @property
    def keeps_best(self) -> bool:
        """Whether the weights of the best evaluation become the stage's model."""
        return self.keep == "best" or (self.keep is None and self.evaluates)

    @property
    @abstractmethod
    def evaluates(self) -> bool:
        """Whether anything held out is evaluated during training."""

    @model_validator(mode="after")
    def _one_part_trained(self) -> "TrainingSettings":
        """Refuse two answers to the question which weights are trained."""
        if self.lora_rank is not None and self.frozen_layers:
            raise ValueError("lora_rank and frozen_layers both say what is trained; set one of them")
        return self


class SFTSettings(TrainingSettings):
    """Stage 1 (eq. 4): maximise log p(c, y | q, p_u) on the completion's tokens only."""

    checkpoint: ModelSpec | None = None
    """A checkpoint that takes this stage's place (folder or hub id): no chains are made and nothing is fine-tuned, RL
    starts from what another task's run taught (table 7). Its tags must be `chains.vocabulary`."""
    learning_rate: float = Field(default=1e-5, gt=0)
    """Peak learning rate of AdamW; linear warm-up, then linear decay to 0."""
    warmup_ratio: float = Field(default=0.05, ge=0, le=1)
    """Share of the steps spent warming up."""
    epochs: float = Field(default=2.0, gt=0)
    """Passes over the examples."""
    batch_size: int = Field(default=16, ge=1)
    """Examples (prompts with all their kept chains) per optimizer step, over all processes."""
    max_length: int = Field(default=4096, ge=16)
    """Longest prompt + completion in tokens; longer chains are left out and counted."""
    save_steps: int = Field(default=50, ge=1)
    """Optimizer steps between checkpoints; a killed stage continues from the last one."""
    mix: float = Field(default=0.0, ge=0, lt=1)
    """Share of the training rows with the bare answer (question and history to label, without a chain). Label
    rows and chain rows are shuffled together, because one after the other forgets; 0: chains only, as in the paper."""
    answer_weight: float = Field(default=1.0, ge=1)
    """Weight in the loss of a chain's tokens that write its answer, in the chain and after it, over that of the others:
    few tokens decide whether a chain is right. 1: all alike, as in the paper."""
    heldout_users: int = Field(default=0, ge=0)
    """Users of the training split that are kept out of training, to choose the number of steps by; 0: none. SFT on
    chains and on labels keep out the same ones."""
    heldout_every: int | None = Field(default=None, ge=1)
    """Optimizer steps between evaluations on the held-out users; None: once per epoch."""
    patience: int = Field(default=0, ge=0)
    """Early stopping: end after this many evaluations without a better one; 0: train to the end."""

    @property
    def evaluates(self) -> bool:
        """Whether users are held out of training."""
        return self.heldout_users > 0

    @model_validator(mode="after")
    def _nothing_idle(self) -> "SFTSettings":
        """Refuse settings of which nothing would come."""
        idle = [name for name in ("heldout_every", "patience") if getattr(self, name)]
        if self.keep == "best":
            idle.append("keep")
        if idle and not self.heldout_users:
            raise ValueError(f"{idle[0]} does nothing with heldout_users=0; set heldout_users")
        return self


class ExpertSettings(Settings):
    """One round of expert iteration (`tagpr.training.expert`): sample, keep what is right, SFT."""

    samples: int = Field(default=8, ge=1)
    """Completions per prompt."""
    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature."""
    max_new_tokens: int = Field(default=512, ge=1)
    """Longest completion; cut-off ones are never kept."""
    least: float = Field(default=1.0, ge=0)
    """R_v from which a completion is right."""
    keep_per_prompt: int = Field(default=2, ge=1)
    """Different completions of a prompt that are learned from at most."""
    generation_batch_size: int = Field(default=96, ge=1)
    """Completions decoded side by side."""
    sft: SFTSettings = SFTSettings()
    """How the policy is fine-tuned on them; all tokens weigh alike."""

    @model_validator(mode="after")
    def _weighs_alike(self) -> "ExpertSettings":
        """Refuse a setting that would do nothing."""
        if self.sft.answer_weight != 1:
            raise ValueError("sft.answer_weight does nothing in expert iteration; remove it")
        return self


class GSPOSettings(TrainingSettings):
    """Stages 2 and 3: group sequence policy optimisation. Defaults are the paper's if it prints them."""

    renamed: ClassVar[Mapping[str, str]] = {
        "decode_rows": "generation_batch_size",
        "plateau_looks": "plateau_evaluations",
    }

    learning_rate: float = Field(default=1e-6, gt=0)
    """AdamW's peak learning rate."""
    warmup_steps: int = Field(default=0, ge=0)
    """Rollout steps over which the learning rate rises linearly."""
    decay: Literal["none", "linear", "cosine"] = "none"
    """How the learning rate falls to 0 after the warm-up, over the stage's steps."""
    epochs: float = Field(default=1.0, gt=0)
    """Passes over the prompts; `steps` overrides it."""
    steps: int | None = Field(default=None, ge=1)
    """Rollout steps; None: as many as `epochs` makes."""
    prompts_per_step: int = Field(default=16, ge=1)
    """Prompts of one rollout, over all processes."""
    max_prompts: PositiveInt | dict[str, PositiveInt] | None = None
    """Train on so many prompts of every task, or of each named one, drawn by the seed; None: on all. SFT has all."""
    prompts_per_user: int | None = Field(default=None, ge=1)
    """Train and evaluate on so many prompts of every user, drawn by the seed; None: on all. Without it a few users with
    long histories decide, and what suits them is unlearned for the many who have short ones."""
    group_size: int = Field(default=5, ge=2)
    """G, completions per prompt."""
    groups: Literal["all", "verifiable"] = "all"
    """Groups that are learned from: all, as in the paper, or only those whose completions differ in R_v. The others
    only tell apart format, tags and repetition."""
    oversample: int = Field(default=1, ge=1)
    """With `groups: verifiable`: rollouts per step at most, until `prompts_per_step` such groups are found."""
    minibatches: int = Field(default=2, ge=1)
    """Updates a rollout is split into. With 1 the ratio is always 1 and clipping does nothing."""
    epsilon_low: float = Field(default=3e-4, gt=0, lt=1)
    """Lower clip range of the sequence ratio."""
    epsilon_high: float = Field(default=4e-4, gt=0)
    """Upper clip range of the sequence ratio."""
    scale_rewards: Literal["group", "batch"] = "group"
    """Whose standard deviation advantages are over: the group's, as in the paper, or the whole rollout's, so that wrong
    answers are not separated by small differences of R_rep as strongly as right from wrong (TRL's name and meaning)."""
    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature, which log-probabilities are taken at too."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus of the sampling."""
    max_new_tokens: int = Field(default=512, ge=1)
    """Longest completion; longer ones are cut off and counted (`truncated`)."""
    truncated: Literal["penalise", "mask"] = "penalise"
    """Cut-off completions: `penalise` leaves them the reward they earn (no answer earns none); `mask` keeps them out of
    the loss, as TRL's mask_truncated_completions does."""
    generation_batch_size: int = Field(default=96, ge=1)
    """Completions decoded side by side."""
    fp32_head: bool = False
    """Take log-probabilities from fp32 logits if the model computes in bf16, whose rounding exceeds the clip range."""
    samples_per_step: int = Field(default=512, ge=0)
    """Completions of each step, in whole groups, that are kept in `samples.parquet` at most; 0: no such file."""
    save_steps: int = Field(default=10, ge=1)
    """Rollout steps between checkpoints; a killed stage continues from the last one with bit-equal results on CPU."""
    heldout_every: int = Field(default=0, ge=0)
    """Rollout steps between evaluations on held-out prompts (greedy answers, KL to the SFT model); 0: never."""
    heldout_prompts: int = Field(default=0, ge=0)
    """At least this many training prompts, those of whole users, are kept out of RL for evaluation."""
    plateau_evaluations: int = Field(default=0, ge=0)
    """End when the best held-out reward of this many evaluations is no better than before; 0: at a fixed step."""
    plateau_tolerance: float = Field(default=0.0, ge=0)
    """The best of the last `plateau_evaluations` evaluations must exceed the best before by more than this to go on."""
    tag_rate_floor: float = Field(default=0.0, ge=0, le=1)
    """Stop when the share of completions with valid tags stays below this for `tag_rate_steps` steps."""
    tag_rate_steps: int = Field(default=5, ge=1)
    """See `tag_rate_floor`."""
    report_to: tuple[Literal["tensorboard", "trackio", "wandb"], ...] = ()
    """Where every step's metrics go besides `log.jsonl`; TensorBoard's files are in `runs/NAME/trackers`."""

    @property
    def evaluates(self) -> bool:
        """Whether held-out prompts are evaluated."""
        return self.heldout_every > 0

    @model_validator(mode="after")
    def _nothing_idle(self) -> "GSPOSettings":
        """Refuse settings of which nothing would come."""
        if self.minibatches == 1 and {"epsilon_low", "epsilon_high"} & self.model_fields_set:
            raise ValueError("epsilon_low and epsilon_high do nothing with minibatches=1; set minibatches to 2 or more")
        if self.minibatches > self.prompts_per_step:
            raise ValueError(
                f"minibatches={self.minibatches} of prompts_per_step={self.prompts_per_step} leaves some without a "
                "prompt; lower minibatches"
            )
        if self.oversample > 1 and self.groups == "all":
            raise ValueError("oversample does nothing with groups=all; set groups to verifiable")
        if self.keep == "best" and not self.heldout_every:
            raise ValueError("keep=best needs evaluations on held-out prompts; set heldout_every and heldout_prompts")
        if self.heldout_prompts and not self.heldout_every:
            raise ValueError("heldout_prompts does nothing with heldout_every=0; set both")
        if self.plateau_evaluations and not self.heldout_every:
            raise ValueError("plateau_evaluations needs evaluations on held-out prompts; set heldout_every")
        if self.plateau_tolerance and not self.plateau_evaluations:
            raise ValueError("plateau_tolerance does nothing with plateau_evaluations=0; set both")
        return self

"""Whether the training stages of a run fit into the GPUs they are to run on, before anything is loaded.

Says per stage: parameters, what stays on a GPU, what a pass adds, what generation takes, and tokens per step, all for
the longest prompts and completions that the settings allow. What does not fit comes with the first change of a setting
that makes it fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache as remembered

from tagpr.engine.shared_prompt import PromptGroup
from tagpr.training.scale.memory_model import GIB, Training, cache
from tagpr.training.scale.settings import EngineSettings
from tagpr.training.scale.shape import ModelShape, Pass
from tagpr.training.settings import GSPOSettings, SFTSettings, TrainingSettings

_USABLE = 0.92
"""Share of a GPU that a plan may fill: the rest is the driver's, the collectives' and lost between blocks."""


@dataclass(frozen=True)
class Hardware:
    """The GPUs of a plan."""

    gpus: int
    gib: float
    """Memory of one of them."""
    sharded: bool
    """Whether the launch shards weights, gradients and moments (FSDP2, ZeRO-3)."""


@dataclass(frozen=True)
class Lengths:
    """Longest texts, in tokens."""

    prompt: int
    completion: int
    completions: int
    """Completions that share a prompt: G in RL, kept chains in SFT."""

    @property
    def group(self) -> PromptGroup:
        """A group of them, of meaningless tokens."""
        return PromptGroup(range(1, self.prompt + 1), [range(1, self.completion + 1)] * self.completions)

    @property
    def tokens(self) -> int:
        """Tokens of a group, the prompt once."""
        return self.prompt + self.completions * self.completion


@dataclass(frozen=True)
class StagePlan:
    """One stage on one GPU; sizes in GiB."""

    stage: str
    parameters: int
    trained: int
    state: float
    """Weights, gradients and the optimizer's moments."""
    update: float
    """Beside the state in an update: weights gathered or copied, activations."""
    generation: float
    """Beside the state while completions are drawn; 0 in SFT."""
    others: float
    """Other models on the GPU: the reward model, the reference of the KL divergence."""
    tokens_per_step: int
    limit: float
    """What may be used."""

    @property
    def peak(self) -> float:
        """The most that is held at once."""
        return self.state + self.others + max(self.update, self.generation)

    @property
    def fits(self) -> bool:
        """Whether that is no more than may be used."""
        return self.peak <= self.limit


@dataclass(frozen=True)
class Models:
    """The models of a stage by their shapes."""

    policy: ModelShape
    reward: ModelShape | None = None
    """R_PRMU's backbone, in guided RL."""


def plan_sft(settings: SFTSettings, models: Models, lengths: Lengths, hardware: Hardware) -> StagePlan:
    """SFT on whole groups of the longest chains."""
    training = _training(settings, models.policy, hardware)
    return _plan("sft", settings, training, lengths, hardware, tokens=settings.batch_size * lengths.tokens)


def plan_rl(
    stage: str, settings: GSPOSettings, engine: EngineSettings, models: Models, lengths: Lengths, hardware: Hardware
) -> StagePlan:
    """An RL stage: the larger of an update and a rollout."""
    training = _training(settings, models.policy, hardware)
    prompts = max(1, settings.prompts_per_step // hardware.gpus)
    if engine.vllm is None:
        rows = min(settings.generation_batch_size, prompts * settings.group_size)
        held = cache(models.policy, -(-rows // settings.group_size), lengths.prompt, rows, lengths.completion, True)
        generation = training.whole() + held
    else:
        generation = engine.vllm.memory * hardware.gib * GIB if engine.vllm.mode == "colocate" else 0.0
    others = 0.0
    if models.reward is not None:
        others += 2 * models.reward.parameters
    if settings.heldout_every and settings.lora_rank is None:
        others += 2 * models.policy.parameters / training.parts
    tokens = settings.prompts_per_step * lengths.tokens
    if engine.vllm is not None and not engine.vllm.sleep:  # it keeps its memory during updates
        others, generation = others + generation, 0.0
    plan = _plan(stage, settings, training, lengths, hardware, tokens)
    return replace(plan, generation=generation / GIB, others=others / GIB)


def _training(settings: TrainingSettings, shape: ModelShape, hardware: Hardware) -> Training:
    return Training(
        shape,
        hardware.gpus,
        hardware.sharded,
        settings.precision != "fp32",
        settings.lora_rank,
        settings.frozen_layers,
        settings.quantization is not None,
        settings.optimizer == "adamw-8bit",
    )


def _plan(
    stage: str, settings: TrainingSettings, training: Training, lengths: Lengths, hardware: Hardware, tokens: int
) -> StagePlan:
    count = max(1, settings.tokens_per_forward // lengths.tokens)
    rounded = training.sharded or training.lora_rank is not None
    how = Pass(training.bf16, rounded, settings.gradient_checkpointing, training.lora_rank)
    activations = _activations(training.shape, lengths, count, how)
    return StagePlan(
        stage,
        training.shape.parameters,
        training.trained,
        training.state() / GIB,
        (training.copies() + activations) / GIB,
        0.0,
        0.0,
        tokens,
        hardware.gib * _USABLE,
    )


@remembered
def _activations(shape: ModelShape, lengths: Lengths, groups: int, how: Pass) -> int:
    return shape.activations([lengths.group] * groups, how)


@dataclass(frozen=True)
class Change:
    """Settings of a stage, or of its launch, that together take less memory."""

    settings: Mapping[str, object]
    """By their keys in the stage's block."""
    sharded: bool
    """Launched with FSDP2, which it was not."""

    def words(self, stage: str) -> str:
        """What to do, as a part of a sentence."""
        values = {key: str(value).lower() for key, value in self.settings.items()}
        parts = [f"set {' and '.join(f'{stage}.{key}={value}' for key, value in values.items())}"] if values else []
        return " and ".join([*parts, *(["launch with --config fsdp2"] if self.sharded else [])])


def changes(settings: TrainingSettings, lengths: Lengths, hardware: Hardware) -> Iterator[Change]:
    """Changes from the one that costs least to those that cost most, each with all before it that go with it."""
    steps: dict[str, object] = {}
    if settings.tokens_per_forward > lengths.tokens:
        steps["tokens_per_forward"] = max(64, lengths.tokens)
        yield Change(dict(steps), False)
    if not settings.gradient_checkpointing:
        steps["gradient_checkpointing"] = True
        yield Change(dict(steps), False)
    divide = hardware.gpus > 1 and not hardware.sharded
    if divide:
        yield Change(dict(steps), True)
    if settings.optimizer == "adamw":
        yield Change(steps | {"optimizer": "adamw-8bit"}, divide)
    if settings.lora_rank is None:
        steps["lora_rank"] = 16
        yield Change(dict(steps), divide)
    if settings.quantization is None:
        steps["quantization"] = "nf4"
        yield Change(dict(steps), divide)

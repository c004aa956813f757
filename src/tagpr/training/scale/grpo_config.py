"""Our settings in TRL's words: `GSPOSettings` and `rl:` -> `GRPOConfig`. What TRL cannot do is refused."""

from __future__ import annotations

from typing import TypedDict

from trl.trainer.grpo_config import GRPOConfig

from tagpr.engine.trainer_setup import on_cpu
from tagpr.errors import RecipeError
from tagpr.training.gspo_objective import gspo_loss
from tagpr.training.job import RLJob
from tagpr.training.policy import computes_in_bf16, optimizer_name
from tagpr.training.scale.settings import EngineSettings, VLLMSettings


class _VLLM(TypedDict, total=False):
    use_vllm: bool
    vllm_mode: str
    vllm_server_base_url: str
    vllm_group_port: int
    vllm_gpu_memory_utilization: float
    vllm_tensor_parallel_size: int
    vllm_max_model_length: int | None
    vllm_enable_sleep_mode: bool
    vllm_importance_sampling_mode: str


def grpo_config(job: RLJob, engine: EngineSettings, total: int, processes: int) -> GRPOConfig:
    """The arguments of TRL's trainer for `total` rollout steps of a job.

    Raises RecipeError if a step's prompts cannot be divided, and for what only the local engine does.
    """
    s = job.settings
    share, rest = divmod(s.prompts_per_step, processes * s.minibatches)
    if rest:
        raise RecipeError(
            f"prompts_per_step={s.prompts_per_step} cannot be divided into {s.minibatches} minibatches of {processes} "
            f"processes; set it to a multiple of {processes * s.minibatches}"
        )
    if s.oversample > 1:
        raise RecipeError(f"oversample={s.oversample} needs rl.engine=local; set oversample to 1")
    return GRPOConfig(
        output_dir=str(job.context.out / "checkpoints"),
        seed=job.context.seed,
        data_seed=job.context.seed,
        num_generations=s.group_size,
        per_device_train_batch_size=share * s.group_size,
        steps_per_generation=s.minibatches,
        gradient_accumulation_steps=1,
        max_steps=total * s.minibatches,
        max_completion_length=s.max_new_tokens,
        importance_sampling_level="sequence" if job.objective is gspo_loss else "token",
        loss_type="grpo",  # a mean over each sequence, then over sequences; TRL's default weighs them by length
        beta=0.0,
        # with one update per rollout the ratio is 1 and TRL's own range says that nothing is meant to be clipped
        epsilon=s.epsilon_low if s.minibatches > 1 else 0.2,
        epsilon_high=s.epsilon_high if s.minibatches > 1 else None,
        scale_rewards=s.scale_rewards,
        temperature=s.temperature,
        top_p=s.top_p,
        top_k=0,
        learning_rate=s.learning_rate,
        lr_scheduler_type="constant",  # replaced by StepTrainer.create_scheduler
        weight_decay=s.weight_decay,
        max_grad_norm=s.max_grad_norm,
        optim=optimizer_name(s),
        bf16=computes_in_bf16(s),
        gradient_checkpointing=s.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if s.gradient_checkpointing else None,
        disable_dropout=True,
        save_strategy="no",  # the callbacks save, between two rollouts
        save_total_limit=2,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
        use_cpu=on_cpu(),
        **_vllm(engine.vllm),
    )


def _vllm(settings: VLLMSettings | None) -> _VLLM:
    if settings is None:
        return {"use_vllm": False}
    shared: _VLLM = {
        "use_vllm": True,
        "vllm_mode": settings.mode,
        # the default leaves long completions out: the product of their tokens' ratios is far from 1
        "vllm_importance_sampling_mode": "token_truncate",
    }
    if settings.mode == "server":
        return shared | {"vllm_server_base_url": settings.server, "vllm_group_port": settings.group_port}
    return shared | {
        "vllm_gpu_memory_utilization": settings.memory,
        "vllm_tensor_parallel_size": settings.tensor_parallel,
        "vllm_max_model_length": settings.max_length,
        "vllm_enable_sleep_mode": settings.sleep,
    }

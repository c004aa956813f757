"""Our settings in verl's words: `GSPOSettings` and `rl:` -> the configuration of `verl.trainer.main_ppo`.

Written for verl 0.9. What verl cannot do is refused.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import JsonValue

from tagpr.errors import RecipeError
from tagpr.training.scale.settings import EngineSettings, VLLMSettings
from tagpr.training.settings import GSPOSettings
from tagpr.training.verl.layout import METRICS, VerlFolder
from tagpr.training.verl.settings import VerlSettings


@dataclass(frozen=True)
class RewardSource:
    """From which the reward manager of verl makes the reward: the run, opened again in verl's processes."""

    recipe: str
    changes: tuple[str, ...]
    """The `key=value` overrides that the recipe was opened with."""
    runs: Path
    manager: str
    """The reward manager's module and class, `MODULE:CLASS`."""


@dataclass(frozen=True)
class VerlJob:
    """One RL stage as verl is told of it."""

    stage: str
    policy: Path
    steps: int
    seed: int
    longest_prompt: int
    """In tokens, over all rows."""
    heldout: bool
    """Whether there are held-out rows."""
    reward: RewardSource


def config_text(job: VerlJob, s: GSPOSettings, engine: EngineSettings, folder: VerlFolder) -> str:
    """`verl_config` as YAML."""
    return yaml.safe_dump(verl_config(job, s, engine, folder), sort_keys=False, width=120)


def verl_config(job: VerlJob, s: GSPOSettings, engine: EngineSettings, folder: VerlFolder) -> dict[str, JsonValue]:
    """A primary configuration of hydra, over verl's own `ppo_trainer`. Raises RecipeError for what verl cannot do."""
    _refuse(s, engine)
    machines = engine.verl or VerlSettings()
    width = machines.gpus_per_node * machines.nodes
    prompts = s.prompts_per_step // s.minibatches
    if prompts * s.group_size % width:
        raise RecipeError(
            f"{job.stage}: minibatches of {prompts} prompts, {s.group_size} completions each, "
            f"cannot be divided among {width} GPUs; change prompts_per_step, minibatches or rl.verl.gpus_per_node"
        )
    return {
        "hydra": {
            "searchpath": ["pkg://verl.trainer.config"],
            "run": {"dir": str(folder.path)},
            "output_subdir": None,
        },
        "defaults": ["ppo_trainer", "_self_"],
        # ours, in float64 and with our epsilon (`advantages`); weights correct for vLLM's other log-probabilities
        "algorithm": {
            "adv_estimator": "tagpr",
            "use_kl_in_reward": False,
            "rollout_correction": {"rollout_is": "token"},
        },
        "data": _data(job, s, folder),
        "actor_rollout_ref": {
            "model": {
                "path": str(job.policy),
                "enable_gradient_checkpointing": s.gradient_checkpointing,
            },
            "actor": _actor(job, s),
            "rollout": _rollout(job, s, engine.vllm or VLLMSettings()),
        },
        "reward": _reward(job, machines, folder),
        "trainer": _trainer(job, s, machines, folder),
        "ray_kwargs": {
            "ray_init": {"runtime_env": {"env_vars": {"VERL_FILE_LOGGER_PATH": str(folder.launch() / METRICS)}}}
        },
    }


def _data(job: VerlJob, s: GSPOSettings, folder: VerlFolder) -> JsonValue:
    return {
        "train_files": str(folder.train),
        "val_files": str(folder.heldout if job.heldout else folder.train),
        # every step the rows that the other engines have
        "custom_cls": {"path": "pkg://tagpr.training.verl.dataset", "name": "StepDataset"},
        "shuffle": False,
        "validation_shuffle": False,
        "seed": job.seed,
        "tagpr": {"steps": job.steps, "prompts_per_step": s.prompts_per_step, "seed": job.seed},
        "train_batch_size": s.prompts_per_step,
        "max_prompt_length": job.longest_prompt,
        "max_response_length": s.max_new_tokens,
        "filter_overlong_prompts": False,
        "truncation": "error",
        "dataloader_num_workers": 0,
    }


def _actor(job: VerlJob, s: GSPOSettings) -> JsonValue:
    fsdp: dict[str, JsonValue] = {}
    if s.precision == "fp32":
        fsdp = {"mixed_precision": {"param_dtype": "fp32", "reduce_dtype": "fp32", "buffer_dtype": "fp32"}}
    return {
        "strategy": "fsdp2",
        "fsdp_config": fsdp,
        "ppo_mini_batch_size": s.prompts_per_step // s.minibatches,
        "use_dynamic_bsz": True,
        "ppo_max_token_len_per_gpu": max(s.tokens_per_forward, job.longest_prompt + s.max_new_tokens),
        "policy_loss": {"loss_mode": "gspo"},
        "loss_agg_mode": "seq-mean-token-mean",
        "clip_ratio_low": s.epsilon_low,
        "clip_ratio_high": s.epsilon_high,
        "use_kl_loss": False,
        "entropy_coeff": 0,
        "optim": {
            "clip_grad": s.max_grad_norm,  # what the FSDP engine reads; `actor.grad_clip` it does not
            "lr": s.learning_rate,
            "weight_decay": s.weight_decay,
            "lr_warmup_steps": s.warmup_steps,
            "lr_scheduler_type": "constant" if s.decay == "none" else s.decay,
        },
    }


def _rollout(job: VerlJob, s: GSPOSettings, vllm: VLLMSettings) -> JsonValue:
    return {
        "name": "vllm",
        "n": s.group_size,
        "temperature": s.temperature,
        "top_p": s.top_p,
        "top_k": -1,
        "seed": job.seed,
        "dtype": "float32" if s.precision == "fp32" else "bfloat16",
        "tensor_model_parallel_size": vllm.tensor_parallel,
        "gpu_memory_utilization": vllm.memory,
        "max_model_len": vllm.max_length or job.longest_prompt + s.max_new_tokens,
        "free_cache_engine": vllm.sleep,
    }


def _reward(job: VerlJob, machines: VerlSettings, folder: VerlFolder) -> JsonValue:
    module, _, name = job.reward.manager.partition(":")
    return {
        "num_workers": 1,  # one process meets all completions of a step, so that R_PRMU reads each prompt once
        "reward_manager": {"source": "importlib", "name": name, "module": {"path": f"pkg://{module}"}},
        "tagpr": {
            "stage": job.stage,
            "recipe": job.reward.recipe,
            "changes": list(job.reward.changes),
            "runs": str(job.reward.runs),
            "log": str(folder.launch()),
            "gpus": machines.reward_gpus,
        },
    }


def _trainer(job: VerlJob, s: GSPOSettings, machines: VerlSettings, folder: VerlFolder) -> JsonValue:
    # the best step has to be a checkpoint; else the two last ones do
    save = math.gcd(s.save_steps, s.heldout_every) if s.keeps_best else s.save_steps
    return {
        "n_gpus_per_node": machines.gpus_per_node,
        "nnodes": machines.nodes,
        "total_epochs": 1,
        "total_training_steps": job.steps,
        "save_freq": save,
        "max_actor_ckpt_to_keep": None if s.keeps_best else 2,
        "test_freq": s.heldout_every or -1,
        "val_before_train": bool(s.heldout_every),
        "logger": ["console", "file", *s.report_to],
        "project_name": "tagpr",
        "experiment_name": job.stage,
        "default_local_dir": str(folder.checkpoints),
        "resume_mode": "auto",
    }


def _refuse(s: GSPOSettings, engine: EngineSettings) -> None:
    """Raise RecipeError for a setting that verl cannot carry out."""
    if engine.vllm is not None and engine.vllm.mode == "server":
        raise RecipeError("rl.vllm.mode=server: verl starts vLLM itself; set colocate")
    wanted = {
        "oversample": (s.oversample, 1),
        "groups": (s.groups, "all"),
        "scale_rewards": (s.scale_rewards, "group"),
        "truncated": (s.truncated, "penalise"),
        "lora_rank": (s.lora_rank, None),
        "frozen_layers": (s.frozen_layers, 0),
        "quantization": (s.quantization, None),
        "optimizer": (s.optimizer, "adamw"),
        "fp32_head": (s.fp32_head, False),
        "plateau_evaluations": (s.plateau_evaluations, 0),
        "tag_rate_floor": (s.tag_rate_floor, 0.0),
    }
    for name, (value, only) in wanted.items():
        if value != only:
            fix = "leave it out" if only is None else f"set it to {only}"
            raise RecipeError(f"{name}={value} cannot be had with rl.engine=verl; {fix}, or set rl.engine to trl")
    if s.decay == "linear":
        raise RecipeError("decay=linear cannot be had with rl.engine=verl; set it to none or cosine")
    if s.prompts_per_step % s.minibatches:
        raise RecipeError(
            f"prompts_per_step={s.prompts_per_step} cannot be divided into {s.minibatches} equal minibatches"
        )

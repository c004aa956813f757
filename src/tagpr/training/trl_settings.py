"""Settings of TRL's GRPOTrainer, or of its launch, of which nothing or something else would come: refused."""

import os
from collections.abc import Sized
from typing import cast

from accelerate import DistributedType
from accelerate.logging import get_logger
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from tagpr.errors import RecipeError
from tagpr.training.launching import refuse_fewer_processes

logger = get_logger(__name__)


def refuse_idle_settings(trainer: GRPOTrainer) -> None:
    """Raise RecipeError for settings that TRL or accelerate would silently ignore."""
    args, accelerator = cast(GRPOConfig, trainer.args), trainer.accelerator
    per_generation, in_batch = args.steps_per_generation or 1, args.generation_batch_size or 1
    updates = per_generation * trainer.num_iterations // args.gradient_accumulation_steps
    own_clip = args.epsilon != 0.2 or args.epsilon_high not in (None, 0.2)
    if updates <= 1 and own_clip:
        raise RecipeError(
            f"epsilon={args.epsilon} does nothing with one update a rollout; set steps_per_generation above "
            f"gradient_accumulation_steps={args.gradient_accumulation_steps} or num_iterations above 1"
        )
    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true" and accelerator.distributed_type not in (
        DistributedType.FSDP,
    ):
        raise RecipeError(
            f"FSDP was requested but accelerate runs {accelerator.distributed_type.value}; FSDP needs GPUs, "
            "use torchrun (DDP) on CPUs"
        )
    if args.use_vllm and args.vllm_importance_sampling_correction and "sequence" in args.vllm_importance_sampling_mode:
        raise RecipeError(
            f"vllm_importance_sampling_mode={args.vllm_importance_sampling_mode!r} weighs a completion by the product "
            "of its tokens' ratios, which leaves long ones out; set vllm_importance_sampling_mode='token_truncate'"
        )
    refuse_fewer_processes(accelerator.num_processes)
    prompts = len(cast(Sized, trainer.train_dataset or ()))
    if left_out := prompts % (in_batch // (trainer.num_generations or 1)):
        logger.warning(f"{left_out} prompts of every epoch are left out: they do not fill a generation batch")

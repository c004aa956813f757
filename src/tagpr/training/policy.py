"""The model that is trained, as SFT and RL both need it: which arithmetic, LoRA adapters, and saving it whole."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tagpr import processes
from tagpr.engine.models import fast_dtype, quiet
from tagpr.errors import ModelError
from tagpr.training.settings import TrainingSettings

if TYPE_CHECKING:
    from peft import LoraConfig


def device_name() -> str:
    """This process's device: its GPU if there is one, else the CPU."""
    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"


def computes_in_bf16(settings: TrainingSettings) -> bool:
    """Whether the forward pass runs in bf16."""
    return settings.precision == "bf16" or (
        settings.precision == "auto" and fast_dtype(device_name()) is torch.bfloat16
    )


def optimizer_name(settings: TrainingSettings) -> str:
    """The optimizer in transformers' words."""
    if settings.optimizer == "adamw-8bit":
        return "adamw_8bit"
    return "adamw_torch" if processes.sharding() else "adamw_torch_fused"


def lora_config(rank: int | None) -> "LoraConfig | None":
    """peft's LoraConfig for adapters on every linear layer, or None. Raises ModelError if peft is missing."""
    if rank is None:
        return None
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise ModelError("lora_rank needs peft; install it with pip install 'tagpr[train]'") from error
    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")


def freeze(model: PreTrainedModel, layers: int) -> None:
    """Leave the lowest layers and the token embeddings (a tied output head with them) out of training.

    Raises ModelError if the model has no more layers than that, or none by that name.
    """
    if not layers:
        return
    stack = getattr(model.base_model, "layers", None)
    if not isinstance(stack, torch.nn.ModuleList) or len(stack) <= layers:
        count = len(stack) if isinstance(stack, torch.nn.ModuleList) else "no list of"
        raise ModelError(f"frozen_layers={layers}: the model has {count} layers; lower it")
    for module in (model.get_input_embeddings(), *stack[:layers]):
        module.requires_grad_(False)


def checkpoint_layers(model: PreTrainedModel) -> None:
    """Recompute every layer's activations in backward. Layers do so in training mode only, so dropout is taken out."""
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.train()


def save_policy(model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a plain Hugging Face folder (adapters merged), loadable without this package; it appears whole."""
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    work = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(work, ignore_errors=True)
    with quiet():
        model.save_pretrained(work)
        tokenizer.save_pretrained(work)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(work, folder)

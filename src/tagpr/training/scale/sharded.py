"""Weights that FSDP2 or ZeRO-3 divides among processes: whole for a generation, gathered to save, of a second model.

FSDP1 is not handled: its flat parameters have no names.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from accelerate import Accelerator, DistributedType
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from tagpr.engine.models import load_causal_lm
from tagpr.training.policy import computes_in_bf16, lora_config, save_policy
from tagpr.training.settings import TrainingSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer


@contextmanager
def whole_weights(model: nn.Module) -> Iterator[None]:
    """Every process holds all of an FSDP2 model's weights, in the dtype of its forward pass; nothing for another model.

    A generation then needs no step in common with the other processes: each decodes its own prompts at its own pace.
    """
    parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
    if not parts:
        yield
        return
    parts[0]._get_fsdp_state()._lazy_init()  # before the first forward pass, each part would think itself the root
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for number, part in enumerate(parts):
            # the root keeps its weights between forward and backward, as FSDP2 has it by default
            part.set_reshard_after_forward(number > 0, recurse=False)
            part.reshard()


def is_sharded(accelerator: Accelerator) -> bool:
    """Whether every forward pass gathers weights, so that all processes must make equally many."""
    return accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)


@contextmanager
def accumulating(model: nn.Module, accelerator: Accelerator) -> Iterator[None]:
    """Around a backward pass that others of the same update follow: no optimizer step, and gradients as is cheapest.

    DDP waits with the exchange. FSDP2 does not: what it would keep until the last pass is not sharded.
    """
    if not is_sharded(accelerator):
        with accelerator.no_sync(model):
            yield
    elif accelerator.distributed_type == DistributedType.FSDP:
        yield
    else:
        accelerator.gradient_state._set_sync_gradients(False)  # else accelerate has DeepSpeed step after each pass
        try:
            yield
        finally:
            accelerator.gradient_state._set_sync_gradients(True)


def gathered_weights(trainer: Trainer) -> dict[str, Tensor]:
    """The trained weights by name, fp32, on the CPU: all of them on the first process, {} on the others.

    Every process must call this.
    """
    model, accelerator = cast(nn.Module, trainer.model_wrapped), trainer.accelerator
    plain = cast(nn.Module, accelerator.unwrap_model(model))
    trained = [name for name, parameter in plain.named_parameters() if parameter.requires_grad]
    first = accelerator.is_main_process
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        from deepspeed.utils import safe_get_full_fp32_param  # pyright: ignore[reportMissingImports]  # optional

        found: dict[str, Tensor] = {}
        for name, parameter in plain.named_parameters():
            if parameter.requires_grad:
                whole = safe_get_full_fp32_param(parameter)  # the master that the optimizer updates, not its bf16 copy
                if first:
                    found[name] = whole.cpu()
        return found
    whole = accelerator.get_state_dict(model) if isinstance(plain, FSDPModule) else plain.state_dict()
    state = cast("dict[str, Tensor]", whole)
    return {name: state[name].detach().float().cpu() for name in trained} if first else {}


def save_gathered(
    policy: Path, weights: dict[str, Tensor], lora_rank: int | None, tokenizer: PreTrainedTokenizerBase, folder: Path
) -> None:
    """Write `policy` with these trained weights to `folder`, in fp32 and with adapters merged."""
    model = load_causal_lm(policy, dtype="float32", device="cpu")
    if adapters := lora_config(lora_rank):
        from peft import get_peft_model

        model = cast("PreTrainedModel", get_peft_model(model, adapters))
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in weights.items():
            own[name].copy_(value)
    save_policy(model, tokenizer, folder)


def save_trained(
    trainer: Trainer,
    policy: Path,
    settings: TrainingSettings,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
) -> None:
    """Write the model as the trainer has it now; every process must call this.

    Weights that are divided, or adapters on weights that are not in fp32, go into a copy of `policy` that is.
    """
    rounded = settings.lora_rank is not None and (computes_in_bf16(settings) or settings.quantization is not None)
    if is_sharded(trainer.accelerator) or rounded:
        weights = gathered_weights(trainer)
        if trainer.accelerator.is_main_process:
            save_gathered(policy, weights, settings.lora_rank, tokenizer, folder)
    elif trainer.accelerator.is_main_process:
        save_policy(trainer.accelerator.unwrap_model(trainer.model), tokenizer, folder)
    trainer.accelerator.wait_for_everyone()


def size_of(parameter: nn.Parameter) -> int:
    """Numbers in a weight. ZeRO-3 leaves an empty tensor of it and keeps its true size beside it."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def reference_model(path: Path, accelerator: Accelerator) -> nn.Module:
    """The checkpoint at `path`, divided among the processes as the policy is, to take log-probabilities from."""
    dtype = torch.bfloat16 if accelerator.mixed_precision == "bf16" else torch.float32
    model = load_causal_lm(path, dtype=dtype, device=str(accelerator.device)).requires_grad_(False)
    if accelerator.distributed_type == DistributedType.FSDP:
        from trl.models.utils import prepare_fsdp

        return cast(nn.Module, prepare_fsdp(model, accelerator))
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        from trl.models.utils import prepare_deepspeed

        return prepare_deepspeed(model, accelerator)
    return model

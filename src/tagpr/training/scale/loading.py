"""The policy as a sharded or adapted training wants it: where its weights are loaded, and in which precision."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch

from tagpr import processes
from tagpr.engine.checkpoint_files import check_weights
from tagpr.engine.models import load_causal_lm, quiet
from tagpr.errors import ModelError
from tagpr.training.policy import computes_in_bf16, device_name, freeze, lora_config
from tagpr.training.settings import TrainingSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_for_training(policy: Path, settings: TrainingSettings, seed: int) -> PreTrainedModel:
    """The checkpoint, with LoRA adapters (drawn by `seed`) if the settings want them.

    Weights that are trained are fp32. Frozen ones under adapters are in the dtype of the forward pass, or in 4 bits.
    With sharding they stay where transformers puts them: accelerate divides them among the processes.
    """
    check_weights(policy)
    adapters = lora_config(settings.lora_rank)
    frozen_bf16 = adapters is not None and computes_in_bf16(settings)
    dtype = torch.bfloat16 if frozen_bf16 else torch.float32
    if settings.quantization is not None:
        model = _quantized(policy)
    elif processes.sharding():
        from transformers import AutoModelForCausalLM

        with quiet():
            model = AutoModelForCausalLM.from_pretrained(
                policy, dtype=dtype, trust_remote_code=False, use_safetensors=True
            )
    else:
        model = load_causal_lm(policy, dtype=dtype, device=device_name())
    freeze(model, settings.frozen_layers)
    if adapters is not None:
        from peft import get_peft_model

        torch.manual_seed(seed)
        model = cast("PreTrainedModel", get_peft_model(model, adapters))  # what it wraps, by all that is used here
    return model


def _quantized(policy: Path) -> PreTrainedModel:
    """NF4 weights with double quantization (QLoRA), frozen."""
    try:
        import bitsandbytes  # noqa: F401  # pyright: ignore[reportMissingImports]  # optional
    except ImportError:
        raise ModelError("quantization: nf4 needs bitsandbytes; pip install bitsandbytes") from None
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    with quiet():
        return AutoModelForCausalLM.from_pretrained(
            policy,
            quantization_config=config,
            dtype=torch.bfloat16,
            device_map={"": device_name()},
            trust_remote_code=False,
            use_safetensors=True,
        )

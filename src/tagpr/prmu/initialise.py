"""A fresh PRMU from a backbone's folder: which layers are kept, which are trained, in which precision; LoRA in and out.

What a PRMU computes is `tagpr.prmu.model`'s; training it is `tagpr.prmu.trainer`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, PreTrainedTokenizerBase
from transformers.utils import logging as hf_logging

from tagpr.engine.group_attention import NAME
from tagpr.engine.models import fast_dtype, undivided
from tagpr.engine.padded_rows import padded_layout
from tagpr.errors import ModelError
from tagpr.prmu.decoder import Decoder, as_decoder, run_layers
from tagpr.prmu.model import PRMUConfig, PRMUModel
from tagpr.prmu.packing import PreferenceGroup, encode_texts
from tagpr.prmu.settings import PRMUSettings


def new_prmu(
    backbone: Path, tokenizer: PreTrainedTokenizerBase, settings: PRMUSettings, users: int, seed: int
) -> PRMUModel:
    """An untrained PRMU in training precision: trained parameters float32, frozen ones in the fast dtype."""
    # A completion ends with the first of these; padding never counts as text.
    ends = [token for token in (tokenizer.eos_token_id, tokenizer.pad_token_id) if isinstance(token, int)]
    if not ends:
        raise ModelError(f"prmu backbone {str(backbone)!r}: the tokenizer has no end token; set its eos_token")
    config = PRMUConfig(
        backbone={},
        user_option=settings.user_option,
        user_tokens=settings.user_tokens,
        users=users,
        frozen_layers=settings.frozen_layers,
        user_dropout=settings.user_dropout,
        end_ids=list(dict.fromkeys(ends)),
        pad_id=ends[-1],
        basis_rank=settings.basis_rank,
        prototypes=settings.prototypes,
    )
    fast = fast_dtype("cuda" if torch.cuda.is_available() else "cpu")
    model = build_model(backbone, config, settings.layers, seed, dtype=fast)
    rows = model.backbone.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise ModelError(
            f"prmu backbone {str(backbone)!r}: knows {rows} tokens, the policy's tokenizer has {len(tokenizer)}; "
            "use a backbone of the policy's family"
        )
    model.compute_dtype = fast
    model.backbone.requires_grad_(False)
    trained = model.backbone.layers[settings.frozen_layers :]
    if settings.lora_rank:
        from peft import LoraConfig, inject_adapter_in_model

        with torch.random.fork_rng():
            torch.manual_seed(seed)
            lora = LoraConfig(r=settings.lora_rank, lora_alpha=2 * settings.lora_rank, target_modules=r".*_proj")
            for layer in trained:
                inject_adapter_in_model(lora, layer)
        for name, parameter in trained.named_parameters():
            parameter.requires_grad_("lora_" in name)
    else:
        trained.requires_grad_(True)
        model.backbone.norm.requires_grad_(not model.is_fixed_encoder)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model


def build_model(
    folder: Path, config: PRMUConfig, layers: int | None, seed: int, dtype: torch.dtype = torch.float32
) -> PRMUModel:
    """A fresh PRMU on the backbone in `folder` (causal, sequence classification or base), in `dtype`.

    A sequence-classification backbone keeps its trained linear head. Raises ModelError for a backbone whose layers do
    not all attend fully, or with fewer layers than requested.
    """
    # A causal checkpoint has an output layer that is not needed here; no report of it, and no bar.
    bars, verbosity = hf_logging.is_progress_bar_enabled(), hf_logging.get_verbosity()
    hf_logging.disable_progress_bar()
    hf_logging.set_verbosity_error()
    try:
        hf = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        options = {
            "dtype": dtype,
            "trust_remote_code": False,
            "use_safetensors": True,
            "attn_implementation": NAME,
        }
        head = None
        with undivided():
            if any(name.endswith("ForSequenceClassification") for name in hf.architectures or ()):
                model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, **options)
                backbone, head = as_decoder(model.base_model), model.score.weight.detach().float()
            else:
                backbone = as_decoder(AutoModel.from_pretrained(folder, **options))
    except (OSError, ValueError, KeyError, AttributeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(f"prmu backbone {str(folder)!r}: does not load ({reason})") from None
    finally:
        hf_logging.set_verbosity(verbosity)
        if bars:
            hf_logging.enable_progress_bar()
    if any(kind != "full_attention" for kind in getattr(backbone.config, "layer_types", None) or ()):
        raise ModelError(f"prmu backbone {str(folder)!r}: has sliding-window layers; use one with full attention")
    keep_layers(backbone, layers, config.frozen_layers, folder)
    config.backbone = backbone.config.to_dict()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        prmu = PRMUModel(config, backbone, head)
    config.token_scale = _token_scale(prmu)
    return prmu.eval()


def keep_layers(backbone: Decoder, layers: int | None, frozen_layers: int, folder: Path) -> None:
    """Cut the backbone down to its first `layers` decoder layers, in place."""
    have = len(backbone.layers)
    wanted = have if layers is None else layers
    if wanted > have or frozen_layers > wanted:
        raise ModelError(
            f"prmu backbone {str(folder)!r}: has {have} layers, the settings say layers={layers} and "
            f"frozen_layers={frozen_layers}; lower them"
        )
    backbone.layers = backbone.layers[:wanted]
    backbone.config.num_hidden_layers = wanted
    if getattr(backbone.config, "layer_types", None):
        backbone.config.layer_types = list(backbone.config.layer_types)[:wanted]


@torch.no_grad()
def standardise_states(model: PRMUModel, groups: Sequence[PreferenceGroup]) -> None:
    """Set the mean and scale of a fixed encoder's states to those of the groups' texts.

    All are run at the start and in batches of their own: a training that was killed then goes on with the same states.
    A reward model's own head keeps saying what it said, but for a constant.
    """
    found = encode_texts(model, groups)
    model.state_mean.copy_(found.mean(0))
    model.state_scale.copy_(found.std(0).clamp(min=1e-6))
    if isinstance(model.head, nn.Linear):
        model.head.weight.mul_(model.state_scale)


@torch.no_grad()
def merge_lora(model: PRMUModel) -> None:
    """Fold LoRA adapters into the weights, so that a saved PRMU is an ordinary one."""
    from peft.tuners.lora import LoraLayer

    from_peft = [
        (parent, name, child)
        for parent in model.backbone.modules()
        for name, child in parent.named_children()
        if isinstance(child, LoraLayer)
    ]
    for parent, name, child in from_peft:
        child.get_base_layer().to(torch.float32)
        child.merge()
        setattr(parent, name, child.get_base_layer())


@torch.no_grad()
def _token_scale(model: PRMUModel) -> float:
    """Factor that brings a vector of unit-scale entries to the typical norm of the user's vectors' neighbours."""
    table = model.backbone.get_input_embeddings().weight
    ids = torch.arange(0, len(table), max(1, len(table) // 64))[None, :64]
    hidden = model.backbone.get_input_embeddings()(ids)
    if model.settings.frozen_layers:
        segments, positions = torch.zeros_like(ids), torch.arange(ids.shape[1])[None]
        layout = padded_layout(segments, positions, hidden.dtype)
        hidden = run_layers(model.backbone, 0, model.settings.frozen_layers, hidden, layout, positions)
    return float(hidden.float().norm(dim=-1).median()) / hidden.shape[-1] ** 0.5

"""Training a PRMU: Bradley-Terry (eq. 2) over backbone, head and E jointly, on TRL's RewardTrainer.

One row of a batch is one prompt with all its completions (`tagpr.prmu.packing`); TRL's loss sees the logits of chosen
and rejected as usual. What is trained is held in float32 even where the forward pass runs in bfloat16: at these
learning rates bfloat16 weights would swallow most updates. A killed training goes on from its last checkpoint and, on
CPU, ends with the same bytes.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedTokenizerBase, PrinterCallback, TrainerCallback
from trl import RewardConfig

from tagpr.engine.models import fast_dtype, load_tokenizer
from tagpr.engine.trainer_checkpoints import MarkComplete, last_checkpoint
from tagpr.errors import DataError, ModelError
from tagpr.files import write_jsonl
from tagpr.prmu.data import Pair
from tagpr.prmu.loss import BradleyTerryTrainer
from tagpr.prmu.model import PRMUConfig, PRMUModel, build_model
from tagpr.prmu.packing import Group, group_pairs, pack
from tagpr.prmu.score import PRMU, encode_items
from tagpr.prmu.settings import PRMUSettings

logger = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]


def train_prmu(
    backbone: Path,
    pairs: Sequence[Pair],
    settings: PRMUSettings,
    out: Path,
    seed: int,
    progress: Progress | None = None,
    histories: Mapping[str, Sequence[Sequence[int]]] | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> dict[str, Any]:
    """Train on the pairs of split `train`; writes out/model (loads with `PRMU.from_pretrained`) and out/log.jsonl.

    Checkpoints go to out/checkpoints; called again after a kill, training continues from the last whole one.
    `histories` (user id -> token ids of past items) is needed by profile-encoded. Under torchrun every process trains
    its share and the first writes. Returns counts and the last training figures.

    Raises DataError for an empty pair set, RunError when the loss stops being finite (the last checkpoint stays).
    """
    tokenizer = tokenizer or load_tokenizer(backbone)
    kept, overlong = _fitting([pair for pair in pairs if pair.split == "train"], settings.max_length)
    if not kept:
        raise DataError(
            f"prmu: no pair to train on ({overlong} are longer than prmu.max_length = {settings.max_length} tokens); "
            "make more rollouts or raise prmu.max_length"
        )
    users = {user: row for row, user in enumerate(sorted({pair.user_id for pair in kept}))}
    if settings.user_option == "none":
        users = {}
    model = new_prmu(backbone, tokenizer, settings, len(users), seed)
    encoded = _encode(model, users, histories, settings)
    groups = [
        Group(g.user_id, g.prompt_ids, g.completions, g.preferences, g.example_id, encoded.get(g.user_id))
        for g in group_pairs(kept)
    ]
    trainer = _trainer(model, groups, users, settings, out, seed, tokenizer, progress)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad) if settings.epochs else 0
    checkpoint = last_checkpoint(out / "checkpoints")
    if settings.epochs:
        if checkpoint:
            logger.info("prmu: continuing from %s", checkpoint)
        trainer.train(resume_from_checkpoint=checkpoint)
    log = [_without_times(row) for row in trainer.state.log_history if "loss" in row]
    model = trainer.accelerator.unwrap_model(trainer.model)
    if trainer.is_world_process_zero():
        _merge_lora(model)
        PRMU(model.cpu(), users, settings.on_unknown, encoded).save(out / "model")
        write_jsonl(out / "log.jsonl", log)
    trainer.accelerator.wait_for_everyone()
    return {
        "pairs": len(kept),
        "dropped_overlong": overlong,
        "prompts": len(groups),
        "users": len(users),
        "trained_parameters": trained,
        "trained_tokens": round(settings.epochs * sum(group.tokens for group in groups)),
        "steps": trainer.state.global_step,
        "processes": trainer.accelerator.num_processes,
        "loss": log[-1]["loss"] if log else None,
        "accuracy": log[-1].get("accuracy") if log else None,
    }


def new_prmu(
    backbone: Path, tokenizer: PreTrainedTokenizerBase, settings: PRMUSettings, users: int, seed: int
) -> PRMUModel:
    """An untrained PRMU in training precision: trained parameters float32, frozen ones in the fast dtype."""
    ends = [tokenizer.eos_token_id] + [
        token for token in (tokenizer.pad_token_id,) if token is not None and token != tokenizer.eos_token_id
    ]
    config = PRMUConfig(
        backbone={},
        user_option=settings.user_option,
        user_tokens=settings.user_tokens,
        users=users,
        frozen_layers=settings.frozen_layers,
        user_dropout=settings.user_dropout,
        end_ids=ends,
        pad_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
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
        model.backbone.norm.requires_grad_(True)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model


def _fitting(pairs: Sequence[Pair], max_length: int) -> tuple[list[Pair], int]:
    def length(pair: Pair) -> int:
        return len(pair.prompt_ids) + max(len(pair.chosen_ids), len(pair.rejected_ids)) + 1

    kept = [pair for pair in pairs if length(pair) <= max_length]
    if len(kept) < len(pairs):
        logger.warning("prmu: %d of %d pairs are over max_length and dropped", len(pairs) - len(kept), len(pairs))
    return kept, len(pairs) - len(kept)


def _encode(
    model: PRMUModel,
    users: Mapping[str, int],
    histories: Mapping[str, Sequence[Sequence[int]]] | None,
    settings: PRMUSettings,
) -> dict[str, Tensor]:
    """Frozen encodings of the training users' histories, and their mean and scale into the encoder's buffers."""
    if model.history is None:
        return {}
    if not histories or not any(histories.get(user) for user in users):
        raise DataError("prmu: user_option profile-encoded needs the users' histories; pass histories=")
    encoded = {user: encode_items(model, histories.get(user, ())) for user in users}
    items = torch.cat(list(encoded.values()))
    model.history.mean.copy_(items.mean(0))
    model.history.scale.copy_((items - items.mean(0)).pow(2).mean().sqrt().clamp(min=1e-6))
    return encoded


def _trainer(
    model: PRMUModel,
    groups: Sequence[Group],
    users: Mapping[str, int],
    settings: PRMUSettings,
    out: Path,
    seed: int,
    tokenizer: PreTrainedTokenizerBase,
    progress: Progress | None,
) -> BradleyTerryTrainer:
    accumulation = settings.batch_size // settings.micro_batch_size
    with warnings.catch_warnings():
        # TRL turns gradient_checkpointing on; transformers 5.23 renames it, older versions know only this name.
        warnings.simplefilter("ignore", FutureWarning)
        args = RewardConfig(
            output_dir=str(out / "checkpoints"),
            per_device_train_batch_size=settings.micro_batch_size,
            gradient_accumulation_steps=accumulation,
            num_train_epochs=settings.epochs,
            learning_rate=settings.learning_rate,
            lr_scheduler_type="linear",
            warmup_steps=min(10, max(1, len(groups) // (20 * settings.batch_size))),
            max_grad_norm=1.0,
            max_length=None,
            bf16=False,  # the model's own autocast; see PRMUModel.compute_dtype
            gradient_checkpointing=False,
            remove_unused_columns=False,
            logging_steps=1,
            save_strategy="steps",
            save_steps=settings.save_every,
            save_total_limit=2,
            seed=seed,
            data_seed=seed,
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            use_cpu=not torch.cuda.is_available(),
        )
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):  # nothing for the Trainer to align, or to warn of
        setattr(model.config, name, getattr(tokenizer, name))
    trainer = BradleyTerryTrainer(
        model=model,
        args=args,
        rates=settings,
        train_dataset=Dataset.from_dict({"group": list(range(len(groups)))}),
        data_collator=_Collator(groups, users, model.settings),
        processing_class=tokenizer,
        callbacks=[MarkComplete(), *([_Report(progress)] if progress else [])],
    )
    trainer.remove_callback(PrinterCallback)  # figures go to the log file and to `progress`, not to stdout
    return trainer


class _Collator:
    """Rows of the dataset are only numbers of groups; the groups themselves stay Python objects."""

    def __init__(self, groups: Sequence[Group], users: Mapping[str, int], config: PRMUConfig) -> None:
        self.groups, self.users, self.config = groups, users, config

    def __call__(self, rows: list[dict[str, int]]) -> dict[str, Any]:
        groups = [self.groups[row["group"]] for row in rows]
        users = [self.users.get(group.user_id, -1) for group in groups]
        batch: dict[str, Any] = pack(groups, users, self.config.end_ids, self.config.pad_id)
        batch["names"] = [f"{group.example_id} of {group.user_id}" for group in groups]
        return batch


@torch.no_grad()
def _merge_lora(model: PRMUModel) -> None:
    """Fold LoRA adapters into the weights, so that a saved PRMU is an ordinary one."""
    from_peft = [
        (parent, name, child)
        for parent in model.backbone.modules()
        for name, child in parent.named_children()
        if hasattr(child, "lora_A")
    ]
    for parent, name, child in from_peft:
        child.base_layer.to(torch.float32)
        child.merge()
        setattr(parent, name, child.get_base_layer())


def _without_times(row: Mapping[str, Any]) -> dict[str, Any]:
    names = ("step", "epoch", "loss", "accuracy", "margin", "mean_reward", "learning_rate", "grad_norm")
    return json.loads(json.dumps({name: row[name] for name in names if name in row}))


class _Report(TrainerCallback):
    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        logs = logs or {}
        if "loss" in logs:
            note = f"loss {logs['loss']:.3f}, pairs right {logs.get('accuracy', float('nan')):.0%}"
            self.progress(state.global_step, state.max_steps, note)

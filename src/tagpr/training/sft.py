"""Stage 1, foundational SFT (eq. 4): TRL's SFTTrainer on the tagged chains, loss on the completion's tokens only.

The one thing changed is where the time goes: all kept chains of an example share its long prompt, so the prompt runs
once for all of them (`tagpr.engine.shared_prompt`). The loss is the same token mean. Not here: which chains are kept.
"""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

from tagpr.engine.models import load_causal_lm, load_tokenizer
from tagpr.engine.shared_prompt import Group, completion_logprobs, micro_batches
from tagpr.engine.trainer_checkpoints import MarkComplete, last_checkpoint
from tagpr.errors import RunError
from tagpr.files import write_jsonl
from tagpr.training.policy import computes_in_bf16, lora_config, save_policy
from tagpr.training.settings import SFTSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChainGroup:
    """One prompt and the completions to learn on it, in token ids; completions end with the end-of-turn token."""

    prompt_ids: Sequence[int]
    completion_ids: Sequence[Sequence[int]]


class SharedPromptSFTTrainer(SFTTrainer):
    """SFTTrainer over rows {prompt_ids, completion_ids: [[...], ...]}; the prompt of a row runs once."""

    def __init__(self, *args: Any, tokens_per_forward: int, **kwargs: Any) -> None:
        super().__init__(*args, data_collator=_collate, **kwargs)
        self.tokens_per_forward = tokens_per_forward

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """One backward per micro-batch of at most `tokens_per_forward` tokens; returns the summed loss."""
        groups = inputs["groups"]
        total: torch.Tensor | None = None
        for part in micro_batches(groups, self.tokens_per_forward):
            loss = super().training_step(model, {"groups": [groups[i] for i in part]}, num_items_in_batch)
            total = loss if total is None else total + loss
        assert total is not None
        return total

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Minus the sum of log p of all completion tokens, over the number of them in the whole optimizer step."""
        logps = completion_logprobs(model, inputs["groups"])  # one (C_i,) tensor a completion
        loss = -torch.cat(logps).sum() / num_items_in_batch
        if not torch.isfinite(loss):
            raise RunError(f"SFT loss is {loss.item()} at step {self.state.global_step}; lower sft.learning_rate")
        return loss * self.accelerator.num_processes  # DDP averages gradients over processes

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["prompt_ids", "completion_ids"]


def _collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    groups = [Group(row["prompt_ids"], row["completion_ids"]) for row in rows]
    count = sum(len(ids) for group in groups for ids in group.completions)
    # `labels` only tells the Trainer how many tokens carry loss (it counts from position 1 on)
    return {"groups": groups, "labels": torch.cat([torch.tensor([[-100]]), torch.zeros(1, count, dtype=torch.long)], 1)}


class _Log(TrainerCallback):
    """Passes losses to the stage's log and the progress bar."""

    def __init__(self, progress: Callable[[int, int, str], None] | None) -> None:
        self.progress = progress

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if self.progress is not None and logs and "loss" in logs:
            self.progress(state.global_step, state.max_steps, f"loss {logs['loss']:.3f}")


def train_sft(
    policy: Path,
    groups: Sequence[ChainGroup],
    settings: SFTSettings,
    out: Path,
    seed: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Any]:
    """Train `policy` on `groups` (eq. 4); writes `out/model` (a Hugging Face folder) and `out/log.jsonl`.

    Checkpoints are kept in `out/checkpoints`; with some there, training continues from the last one, and the result is
    the one of an undisturbed run. Returns figures: examples, chains, tokens, too_long (left out), steps, final loss.
    Raises RunError where no chain is left or the loss is not finite.
    """
    kept, too_long = _within(groups, settings.max_length)
    if not kept:
        raise RunError(
            f"no chain to learn from: {too_long} are over sft.max_length={settings.max_length}, the rest did not pass "
            "the filters of the chains stage; see chains/funnel.json"
        )
    tokenizer = load_tokenizer(policy)
    model = load_causal_lm(policy, dtype="float32")
    steps = max(1, round(math.ceil(len(kept) / settings.batch_size) * settings.epochs))
    arguments = SFTConfig(
        output_dir=str(out / "checkpoints"),
        per_device_train_batch_size=max(1, settings.batch_size // _processes()),
        max_steps=steps,
        learning_rate=settings.learning_rate,
        warmup_steps=math.ceil(steps * settings.warmup_ratio),
        lr_scheduler_type="linear",
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        bf16=computes_in_bf16(settings),
        seed=seed,
        data_seed=seed,
        logging_steps=1,
        save_steps=settings.save_steps,
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
        gradient_checkpointing=False,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        dataloader_num_workers=0,
        use_cpu=not torch.cuda.is_available(),
    )
    rows = {
        "prompt_ids": [list(group.prompt_ids) for group in kept],
        "completion_ids": [[list(ids) for ids in group.completion_ids] for group in kept],
    }
    trainer = SharedPromptSFTTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict(rows),
        processing_class=tokenizer,
        peft_config=lora_config(settings.lora_rank),
        callbacks=[_Log(progress), MarkComplete()],
        tokens_per_forward=settings.tokens_per_forward,
    )
    trainer.remove_callback(_printer())
    trainer.train(resume_from_checkpoint=last_checkpoint(out / "checkpoints"))

    history = [
        {"step": row["step"], "loss": row["loss"], "learning_rate": row["learning_rate"], "grad_norm": row["grad_norm"]}
        for row in trainer.state.log_history
        if "loss" in row
    ]
    if trainer.is_world_process_zero():
        write_jsonl(out / "log.jsonl", history)
        save_policy(trainer.accelerator.unwrap_model(trainer.model), tokenizer, out / "model")
    return {
        "examples": len(kept),
        "chains": sum(len(group.completion_ids) for group in kept),
        "too_long": too_long,
        "completion_tokens": sum(len(ids) for group in kept for ids in group.completion_ids),
        "trained_parameters": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        "trained_tokens": _tokens_seen(kept, steps * settings.batch_size),
        "steps": trainer.state.global_step,
        "loss": history[-1]["loss"] if history else None,
    }


def _within(groups: Sequence[ChainGroup], longest: int) -> tuple[list[ChainGroup], int]:
    """Groups without their over-long completions, and how many completions that left out."""
    kept, left_out = [], 0
    for group in groups:
        short = [ids for ids in group.completion_ids if len(group.prompt_ids) + len(ids) <= longest]
        left_out += len(group.completion_ids) - len(short)
        if short:
            kept.append(ChainGroup(group.prompt_ids, short))
    return kept, left_out


def _tokens_seen(groups: Sequence[ChainGroup], examples: int) -> int:
    """Tokens run through the model in so many examples, at the mean length of a group (its prompt counts once)."""
    tokens = sum(len(group.prompt_ids) + sum(map(len, group.completion_ids)) for group in groups)
    return round(tokens / len(groups) * examples)


def _processes() -> int:
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def _printer() -> Any:
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback

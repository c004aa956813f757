"""Stage 1, foundational SFT (eq. 4): TRL's SFTTrainer on the tagged chains, loss on the completion's tokens only.

One thing is changed, the expensive one: all kept chains of an example share its long prompt, so the prompt runs
once for all of them (`tagpr.engine.shared_prompt`). The loss is the same token mean. Not here: which chains are kept.
"""

import contextlib
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypedDict, cast

import torch
from datasets import Dataset
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from tagpr import processes
from tagpr.engine.models import load_tokenizer
from tagpr.engine.shared_prompt import PromptGroup, completion_logprobs, micro_batches
from tagpr.engine.trainer_checkpoints import MarkComplete, last_checkpoint
from tagpr.engine.transformers_model import TransformersModel
from tagpr.engine.types import Progress, TextModel
from tagpr.errors import RunError
from tagpr.files import write_jsonl
from tagpr.training.launching import on_cpu
from tagpr.training.policy import computes_in_bf16, optimizer_name
from tagpr.training.rows import TrainingRow
from tagpr.training.scale.loading import load_for_training
from tagpr.training.scale.sharded import accumulating, is_sharded, save_trained
from tagpr.training.settings import SFTSettings
from tagpr.training.sft_rows import hold_out, tokens_seen, within

logger = logging.getLogger(__name__)


class SharedPromptSFTTrainer(SFTTrainer):
    """SFTTrainer over rows {prompt_ids, completion_ids: [[...], ...]}; the prompt of a row runs once."""

    def __init__(self, *, tokens_per_forward: int, heldout: Sequence[TrainingRow] = (), **kwargs: Any) -> None:
        """heldout: rows whose loss `evaluate` tells, unless `metric` is set to another measure (higher is better)."""
        super().__init__(data_collator=_collate, **kwargs)
        self.tokens_per_forward = tokens_per_forward
        self.heldout = [PromptGroup(row.prompt_ids, row.completion_ids) for row in heldout]
        self.metric: Callable[[], float] | None = None

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """One backward per micro-batch of at most `tokens_per_forward` tokens; returns the summed loss."""
        groups = inputs["groups"]
        parts = micro_batches(groups, self.tokens_per_forward)
        passes = len(parts)
        if is_sharded(self.accelerator):  # equally many on every process; those that add nothing weigh 0
            passes = max(processes.everyones(passes))
        total: torch.Tensor | None = None
        for number in range(passes):
            part = parts[min(number, len(parts) - 1)]
            batch = {"groups": [groups[i] for i in part], "weight": float(number < len(parts))}
            last = number == passes - 1
            with contextlib.nullcontext() if last else accumulating(model, self.accelerator):
                loss = super().training_step(model, batch, num_items_in_batch)
            total = loss if total is None else total + loss
        assert total is not None
        return total

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> torch.Tensor:
        """Minus the sum of log p of all completion tokens, over the number of them in the whole optimizer step."""
        base = self.accelerator.unwrap_model(model)
        logps = completion_logprobs(base, inputs["groups"], forward=model)  # one (C_i,) tensor per completion
        loss = -torch.cat(logps).sum() / num_items_in_batch * inputs["weight"]
        if not torch.isfinite(loss):
            raise RunError(f"SFT loss is {loss.item()} at step {self.state.global_step}; lower sft.learning_rate")
        return loss * self.accelerator.num_processes  # DDP averages gradients over processes

    def evaluate(self, *_: object, metric_key_prefix: str = "eval", **__: object) -> dict[str, float]:
        """The held-out metric, as the Trainer keeps best checkpoints and stops by it."""
        model = cast(PreTrainedModel, self.model)
        model.eval()
        value = self.metric() if self.metric is not None else self._heldout_loss()
        model.train()
        metrics = {f"{metric_key_prefix}_heldout": value}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _heldout_loss(self) -> float:
        """Minus the mean log p of the held-out rows' completion tokens."""
        total = tokens = 0.0
        with torch.no_grad(), self.compute_loss_context_manager():
            for part in micro_batches(self.heldout, self.tokens_per_forward):
                logps = torch.cat(
                    completion_logprobs(cast(PreTrainedModel, self.model), [self.heldout[i] for i in part])
                )
                total, tokens = total - logps.sum().item(), tokens + logps.numel()
        return total / tokens

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["prompt_ids", "completion_ids"]


def _collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    groups = [PromptGroup(row["prompt_ids"], row["completion_ids"]) for row in rows]
    count = sum(len(ids) for group in groups for ids in group.completions)
    # `labels` only tells the Trainer how many tokens carry loss (it counts from position 1 on)
    return {"groups": groups, "labels": torch.cat([torch.tensor([[-100]]), torch.zeros(1, count, dtype=torch.long)], 1)}


class _Log(TrainerCallback):
    """Passes losses to the stage's log and the progress bar."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: object,
    ) -> None:
        if self.progress is not None and logs and "loss" in logs:
            self.progress(state.global_step, state.max_steps, f"loss {logs['loss']:.3f}")


class SFTFigures(TypedDict):
    """What SFT tells the manifest."""

    examples: int
    chains: int
    too_long: int
    """Completions left out because they are over `max_length`."""
    completion_tokens: int
    trained_parameters: int
    trained_tokens: int
    steps: int
    kept_step: int
    loss: float | None
    """Of the last step."""


def train_sft(
    policy: Path,
    groups: Sequence[TrainingRow],
    settings: SFTSettings,
    out: Path,
    seed: int = 0,
    progress: Progress | None = None,
    metric: Callable[[TextModel], float] | None = None,
    steps: int | None = None,
) -> SFTFigures:
    """Train `policy` on `groups` (eq. 4); writes `out/model` (a Hugging Face folder) and `out/log.jsonl`.

    Checkpoints are kept in `out/checkpoints`; with some there, training continues from the last one, and the result is
    the one of an undisturbed run. With `heldout_users` the rows of some users are not learned from but evaluated: by
    `metric` (the current model -> higher is better), else by their loss; `out/heldout.jsonl` has the values, and
    `patience` and `keep` go by them. `steps`: optimizer steps instead of `epochs`. Returns metrics: examples, chains,
    tokens, too_long (left out), steps, final loss, kept_step. Raises RunError if no chain is left or the loss is not
    finite.
    """
    kept, too_long = within(groups, settings.max_length)
    if not kept:
        raise RunError(
            f"no chain to learn from: {too_long} are over sft.max_length={settings.max_length}, the rest did not pass "
            "the filters of the chains stage; see chains/funnel.json"
        )
    heldout: list[TrainingRow] = []
    if settings.heldout_users:
        kept, heldout = hold_out(kept, settings.heldout_users, seed)
    tokenizer = load_tokenizer(policy)
    per_epoch = math.ceil(len(kept) / settings.batch_size)
    steps = steps or max(1, round(per_epoch * settings.epochs))
    trainer = SharedPromptSFTTrainer(
        model=load_for_training(policy, settings, seed),
        args=_arguments(settings, out, seed, steps, per_epoch, higher_is_better=metric is not None),
        train_dataset=_dataset(kept),
        eval_dataset=_dataset(heldout) if heldout else None,
        processing_class=tokenizer,
        callbacks=[_Log(progress), MarkComplete()],
        tokens_per_forward=settings.tokens_per_forward,
        heldout=heldout,
    )
    if metric is not None:
        current = TransformersModel(trainer.accelerator.unwrap_model(trainer.model), tokenizer)
        trainer.metric = lambda: metric(current)
    if settings.patience:
        trainer.add_callback(EarlyStoppingCallback(settings.patience))
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=last_checkpoint(out / "checkpoints"))

    history = [
        {"step": row["step"], "loss": row["loss"], "learning_rate": row["learning_rate"], "grad_norm": row["grad_norm"]}
        for row in trainer.state.log_history
        if "loss" in row
    ]
    done = trainer.state.global_step
    best = trainer.state.best_model_checkpoint if settings.keeps_best else None
    if trainer.is_world_process_zero():
        write_jsonl(out / "log.jsonl", history)
        if heldout:
            values = [row for row in trainer.state.log_history if "eval_heldout" in row]
            write_jsonl(out / "heldout.jsonl", [{"step": r["step"], "heldout": r["eval_heldout"]} for r in values])
    save_trained(trainer, policy, settings, tokenizer, out / "model")
    return {
        "examples": len(kept),
        "chains": sum(len(group.completion_ids) for group in kept),
        "too_long": too_long,
        "completion_tokens": sum(len(ids) for group in kept for ids in group.completion_ids),
        "trained_parameters": sum(
            getattr(
                p, "ds_numel", p.numel()
            )  # ZeRO-3 leaves an empty tensor of each weight and its true size beside it
            for p in cast(PreTrainedModel, trainer.model).parameters()
            if p.requires_grad
        ),
        "trained_tokens": tokens_seen(kept, done * settings.batch_size),
        "steps": done,
        "kept_step": int(best.rpartition("-")[2]) if best else done,
        "loss": history[-1]["loss"] if history else None,
    }


def _arguments(
    settings: SFTSettings, out: Path, seed: int, steps: int, per_epoch: int, higher_is_better: bool
) -> SFTConfig:
    every = settings.heldout_every or per_epoch
    best = settings.keeps_best
    return SFTConfig(
        output_dir=str(out / "checkpoints"),
        per_device_train_batch_size=max(1, settings.batch_size // processes.count()),
        max_steps=steps,
        learning_rate=settings.learning_rate,
        warmup_steps=math.ceil(steps * settings.warmup_ratio),
        lr_scheduler_type="linear",
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim=optimizer_name(settings),
        bf16=computes_in_bf16(settings),
        seed=seed,
        data_seed=seed,
        logging_steps=1,
        # the Trainer can only go back to an evaluation that has a checkpoint
        save_steps=every if best else settings.save_steps,
        save_total_limit=2,
        eval_strategy="steps" if settings.heldout_users else "no",
        eval_steps=every,
        load_best_model_at_end=best,
        metric_for_best_model="heldout" if settings.heldout_users else None,
        greater_is_better=higher_is_better if settings.heldout_users else None,
        report_to="none",
        disable_tqdm=True,
        gradient_checkpointing=settings.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if settings.gradient_checkpointing else None,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        dataloader_num_workers=0,
        use_cpu=on_cpu(),
    )


def _dataset(groups: Sequence[TrainingRow]) -> Dataset:
    return Dataset.from_dict(
        {
            "prompt_ids": [list(group.prompt_ids) for group in groups],
            "completion_ids": [[list(ids) for ids in group.completion_ids] for group in groups],
        }
    )

"""Stage 1, foundational SFT (eq. 4): TRL's SFTTrainer on the tagged chains, loss on the completion's tokens only.

One thing is changed, the expensive one: all kept chains of an example share its long prompt, so the prompt runs
once for all of them (`tagpr.engine.shared_prompt`). The loss is the same token mean. Not here: which chains are kept.
"""

import contextlib
import logging
import math
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch.utils.data import Sampler
from transformers import EarlyStoppingCallback, PreTrainedModel
from transformers.trainer_callback import PrinterCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from tagpr import processes
from tagpr.engine.models import load_tokenizer
from tagpr.engine.shared_prompt import PromptGroup, completion_logprobs, micro_batches
from tagpr.engine.trainer_checkpoints import MarkComplete, last_checkpoint
from tagpr.engine.trainer_setup import LossProgress, common_arguments
from tagpr.engine.transformers_model import TransformersModel
from tagpr.engine.types import TextModel
from tagpr.errors import RunError
from tagpr.files import write_jsonl
from tagpr.progress import StageContext
from tagpr.training.metrics import SFTMetrics
from tagpr.training.policy import computes_in_bf16, optimizer_name
from tagpr.training.rows import TrainingRow
from tagpr.training.scale.loading import load_for_training
from tagpr.training.scale.sharded import accumulating, is_sharded, save_trained, size_of
from tagpr.training.settings import SFTSettings
from tagpr.training.sft_batches import DividedBatches, collate, completion_weights, divided, sft_dataset
from tagpr.training.sft_rows import hold_out, tokens_seen, within

logger = logging.getLogger(__name__)


class SharedPromptSFTTrainer(SFTTrainer):
    """SFTTrainer over rows {prompt_ids, completion_ids: [[...], ...]}; the prompt of a row runs once."""

    def __init__(
        self,
        *,
        tokens_per_forward: int,
        heldout: Sequence[TrainingRow] = (),
        order: DividedBatches | None = None,
        **kwargs: Any,
    ) -> None:
        """heldout: rows whose loss `evaluate` tells, unless `metric` is set to another measure (higher is better).

        order: the order of the rows, if several processes share the batches; else the Trainer's own.
        """
        self.order = order
        super().__init__(data_collator=collate, **kwargs)
        self.tokens_per_forward = tokens_per_forward
        self.heldout = [PromptGroup(row.prompt_ids, row.completion_ids) for row in heldout]
        self.heldout_weights = [completion_weights(row.completion_ids, row.token_weights) for row in heldout]
        self.metric: Callable[[], float] | None = None

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """One backward per micro-batch of at most `tokens_per_forward` tokens; returns the summed loss."""
        groups = inputs["groups"]
        parts = self._parts(groups)
        passes = len(parts)
        if is_sharded(self.accelerator):  # equally many on every process; those that add nothing weigh 0
            passes = max(processes.everyones(passes))
        total: torch.Tensor | None = None
        for number in range(passes):
            part = parts[min(number, len(parts) - 1)]
            weights = [[own * (number < len(parts)) for own in inputs["weights"][i]] for i in part]
            batch = {"groups": [groups[i] for i in part], "weights": weights}
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
        """Minus the weighed sum of log p of all completion tokens, over their number in the whole optimizer step."""
        base = self.accelerator.unwrap_model(model)
        logps = completion_logprobs(base, inputs["groups"], forward=model)  # one (C_i,) tensor per completion
        loss = -_weighed(logps, inputs["weights"]).sum() / num_items_in_batch
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

    def _parts(self, groups: Sequence[PromptGroup]) -> list[list[int]]:
        return micro_batches(groups, self.tokens_per_forward, self.args.device)

    def _heldout_loss(self) -> float:
        """Minus the weighed mean log p of the held-out rows' completion tokens."""
        total = tokens = 0.0
        with torch.no_grad(), self.compute_loss_context_manager():
            for part in self._parts(self.heldout):
                logps = completion_logprobs(cast(PreTrainedModel, self.model), [self.heldout[i] for i in part])
                weighed = _weighed(logps, [self.heldout_weights[i] for i in part])
                total, tokens = total - weighed.sum().item(), tokens + weighed.numel()
        return total / tokens

    def _get_train_sampler(self, train_dataset: torch.utils.data.Dataset[Any] | None = None) -> Sampler[int] | None:
        return self.order or super()._get_train_sampler(train_dataset)

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["prompt_ids", "completion_ids", "token_weights", "weight"]


def _weighed(logps: Sequence[torch.Tensor], weights: Sequence[Sequence[torch.Tensor]]) -> torch.Tensor:
    """log p of all tokens times their weights: (C_i,) tensors, in order, and those of each group's completions."""
    each = [own for group in weights for own in group]
    return torch.cat([own.to(logp) * logp for own, logp in zip(each, logps, strict=True)])


def train_sft(
    policy: Path,
    groups: Sequence[TrainingRow],
    settings: SFTSettings,
    context: StageContext,
    metric: Callable[[TextModel], float] | None = None,
    steps: int | None = None,
    everyone: Collection[str] | None = None,
) -> SFTMetrics:
    """Train `policy` on `groups` (eq. 4); writes `out/model` (a Hugging Face folder) and `out/log.jsonl`.

    `out` is the context's folder. Checkpoints are kept in `out/checkpoints`; with some there, training continues from
    the last one, and the result is the one of an undisturbed run. With `heldout_users` the rows of some users are not
    learned from but evaluated: by `metric` (the current model -> higher is better), else by their loss;
    `out/heldout.jsonl` has the values, and `patience` and `keep` go by them. `steps`: optimizer steps instead of
    `epochs`. `everyone`: whom those users are drawn from (see `hold_out`). Raises RunError if no chain is left or the
    loss is not finite.
    """
    kept, heldout, too_long = _rows(groups, settings, context.seed, everyone)
    tokenizer = load_tokenizer(policy)
    args = _arguments(settings, context, len(kept), steps, higher_is_better=metric is not None)
    order = divided(len(kept), args.max_steps, settings.batch_size, context.seed)
    trainer = SharedPromptSFTTrainer(
        model=load_for_training(policy, settings, context.seed),
        args=args,
        train_dataset=sft_dataset(kept, fillers=0 if order is None else 1),
        eval_dataset=sft_dataset(heldout) if heldout else None,
        processing_class=tokenizer,
        callbacks=[LossProgress(context.progress), MarkComplete()],
        tokens_per_forward=settings.tokens_per_forward,
        heldout=heldout,
        order=order,
    )
    if metric is not None:
        current = TransformersModel(trainer.accelerator.unwrap_model(trainer.model), tokenizer)
        trainer.metric = lambda: metric(current)
    if settings.patience:
        trainer.add_callback(EarlyStoppingCallback(settings.patience))
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=last_checkpoint(context.out / "checkpoints"))
    done = trainer.state.global_step
    best = trainer.state.best_model_checkpoint if settings.keeps_best else None
    losses = _write_logs(trainer, context.out)
    save_trained(trainer, policy, settings, tokenizer, context.out / "model")
    return SFTMetrics(
        examples=len(kept),
        chains=sum(len(group.completion_ids) for group in kept),
        too_long=too_long,
        completion_tokens=sum(len(ids) for group in kept for ids in group.completion_ids),
        trained_parameters=sum(
            size_of(p) for p in cast(PreTrainedModel, trainer.model).parameters() if p.requires_grad
        ),
        trained_tokens=tokens_seen(kept, done * settings.batch_size),
        steps=done,
        kept_step=int(best.rpartition("-")[2]) if best else done,
        loss=losses[-1] if losses else None,
    )


def _rows(
    groups: Sequence[TrainingRow], settings: SFTSettings, seed: int, everyone: Collection[str] | None
) -> tuple[list[TrainingRow], list[TrainingRow], int]:
    """What is learned from, the rows of held-out users, and how many completions are too long for either."""
    kept, too_long = within(groups, settings.max_length)
    if not kept:
        raise RunError(
            f"no chain to learn from: {too_long} are over sft.max_length={settings.max_length}, the rest did not pass "
            "the filters of the chains stage; see chains/funnel.json"
        )
    if not settings.heldout_users:
        return kept, [], too_long
    return *hold_out(kept, settings.heldout_users, seed, everyone), too_long


def _write_logs(trainer: SharedPromptSFTTrainer, out: Path) -> list[float]:
    """Write `log.jsonl` and, with held-out rows, `heldout.jsonl`; returns the loss of every step."""
    rows = trainer.state.log_history
    steps = [row for row in rows if "loss" in row]
    if trainer.is_world_process_zero():
        names = ("step", "loss", "learning_rate", "grad_norm")
        write_jsonl(out / "log.jsonl", [{name: row[name] for name in names} for row in steps])
        if trainer.heldout:
            values = [{"step": row["step"], "heldout": row["eval_heldout"]} for row in rows if "eval_heldout" in row]
            write_jsonl(out / "heldout.jsonl", values)
    return [row["loss"] for row in steps]


def _arguments(
    settings: SFTSettings, context: StageContext, rows: int, steps: int | None, higher_is_better: bool
) -> SFTConfig:
    per_epoch = math.ceil(rows / settings.batch_size)
    steps = steps or max(1, round(per_epoch * settings.epochs))
    every = settings.heldout_every or per_epoch
    best = settings.keeps_best
    return SFTConfig(
        **common_arguments(context),
        per_device_train_batch_size=max(1, settings.batch_size // processes.count()),
        max_steps=steps,
        learning_rate=settings.learning_rate,
        warmup_steps=math.ceil(steps * settings.warmup_ratio),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim=optimizer_name(settings),
        bf16=computes_in_bf16(settings),
        # the Trainer can only go back to an evaluation that has a checkpoint
        save_steps=every if best else settings.save_steps,
        eval_strategy="steps" if settings.heldout_users else "no",
        eval_steps=every,
        load_best_model_at_end=best,
        restore_callback_states_from_checkpoint=True,  # how long early stopping has waited
        metric_for_best_model="heldout" if settings.heldout_users else None,
        greater_is_better=higher_is_better if settings.heldout_users else None,
        gradient_checkpointing=settings.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if settings.gradient_checkpointing else None,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        dataloader_num_workers=0,
    )
